#!/bin/sh
# Shows that the domain is pure.
#   purity.sh symbols ARCHIVE NM    all that the library needs from outside is in allowed_symbols.txt
#                                   (memory, abort and its message, what containers need)
#   purity.sh includes DIRECTORY    all that the sources include is their own or an allowed header
#   purity.sh self NM CXX           both checks notice what they are for
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

allowed_headers='algorithm|array|bit|compare|concepts|cstddef|cstdint|cstdio|cstdlib|cstring|functional|iterator|limits|memory|new|optional|span|string_view|tuple|type_traits|utility|variant|vector'

symbols() {
  "$2" -C -u "$1" | sed -n 's/^ *[Uw] //p' | sort -u >"$scratch/needed"
  "$2" -C --defined-only "$1" | sed -n 's/^[0-9a-f]* [A-Za-z] //p' | sort -u >"$scratch/given"
  if ! [ -s "$scratch/given" ]; then
    echo "purity: $1 defines nothing; is it the right archive?" >&2
    return 1
  fi
  comm -23 "$scratch/needed" "$scratch/given" |
    grep -Evx -f "$here/allowed_symbols.txt" >"$scratch/bad" || true
  if [ -s "$scratch/bad" ]; then
    echo "purity: $1 needs what a pure library must not:" >&2
    cat "$scratch/bad" >&2
    return 1
  fi
}

includes() {
  find "$1" -name '*.[ch]pp' | sort >"$scratch/sources"
  if ! [ -s "$scratch/sources" ]; then
    echo "purity: there are no sources in $1" >&2
    return 1
  fi
  xargs grep -HnE '^[[:space:]]*#[[:space:]]*(include|import)|__has_include' <"$scratch/sources" |
    grep -Ev "include[[:space:]]+(\"core/domain/[a-z_]+\\.hpp\"|<($allowed_headers)>)" \
      >"$scratch/bad" || true
  if [ -s "$scratch/bad" ]; then
    echo "purity: the domain includes only core/domain/ and a few standard headers, not:" >&2
    cat "$scratch/bad" >&2
    return 1
  fi
}

# Each of these must be noticed; a check that passes everything would pass the domain too.
self() {
  mkdir "$scratch/impure"
  for pair in 'ctime:time(nullptr)' 'chrono:std::chrono::system_clock::now()' 'cstdlib:rand()' \
    'random:std::random_device{}()' 'unistd.h:close(0)' 'fcntl.h:open("x", 0)' \
    'sys/socket.h:socket(1, 1, 1)' 'cstdlib:getenv("HOME")' 'cstdio:puts("x")' \
    'pthread.h:pthread_mutex_lock(nullptr)' 'iostream:std::cout.flush()' 'thread:std::this_thread::yield()'; do
    header=${pair%%:*}
    call=${pair#*:}
    echo "#include <$header>
void impure() { static_cast<void>($call); }" >"$scratch/impure/impure.cpp"
    "$2" -std=c++20 -w -c "$scratch/impure/impure.cpp" -o "$scratch/impure.o"
    if (symbols "$scratch/impure.o" "$1") 2>/dev/null; then
      echo "purity: the check of symbols does not notice $call" >&2
      return 1
    fi
    case $header in cstdlib | cstdio) continue ;; esac
    if (includes "$scratch/impure") 2>/dev/null; then
      echo "purity: the check of includes does not notice <$header>" >&2
      return 1
    fi
  done
  for header in '<unordered_map>' '<mutex>' '<atomic>' '<fstream>' '"core/log/block.hpp"' '"sale.hpp"'; do
    echo "#include $header" >"$scratch/impure/impure.cpp"
    if (includes "$scratch/impure") 2>/dev/null; then
      echo "purity: the check of includes does not notice $header" >&2
      return 1
    fi
  done
}

what=$1
shift
"$what" "$@"
