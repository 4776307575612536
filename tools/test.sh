#!/usr/bin/env bash
# Builds and tests. Without options: the release preset, all its tests but the long ones, and the
# format of the sources. With any of the next, only those:
#   --release       the release preset and its tests
#   --asan --tsan   the tests under AddressSanitizer + UBSan, or ThreadSanitizer
#   --clang         the tests of a build by clang 14
#   --tidy          clang-tidy
#   --fuzz [SECONDS]  the fuzz targets under libFuzzer, that long each (600), two a core at a time
#   --mutations     bugs planted one at a time, which the tests must catch
#   --format-check  the format of the sources
# And:
#   --soak          the long tests as well, then the planted bugs, the fuzz targets, and the table of
#                   what was counted (about three hours on two cores)
#   -R REGEX        only the tests whose names match
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup.sh

soak=no
only=()
chosen=()
fuzz_seconds=600
while [ $# -gt 0 ]; do
  case "$1" in
    --release | --asan | --tsan | --clang | --tidy | --format-check | --mutations)
      chosen+=("${1#--}")
      ;;
    --fuzz)
      chosen+=(fuzz)
      if [[ "${2-}" =~ ^[0-9]+$ ]]; then
        fuzz_seconds=$2
        shift
      fi
      ;;
    --soak) soak=yes ;;
    -R)
      if [ $# -lt 2 ]; then echo "tools/test.sh: -R takes a regular expression" >&2; exit 2; fi
      only=(-R "$2")
      shift
      ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' tools/test.sh; exit 0 ;;
    *) echo "tools/test.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done
if [ ${#chosen[@]} -eq 0 ]; then
  chosen=(release format-check)
  # With names, only tests are meant.
  if [ "$soak" = yes ] && [ ${#only[@]} -eq 0 ]; then chosen+=(mutations fuzz); fi
fi

packages=("${fairsale_build_packages[@]}" "${fairsale_test_packages[@]}")
for what in "${chosen[@]}"; do
  case "$what" in
    clang) packages+=(clang-14) ;;
    fuzz) packages+=(clang-14 libclang-rt-14-dev) ;;
    tidy) packages+=(clang-14 clang-tidy-14) ;;
  esac
done

times=()
failed=()
# Runs a step, notes how long it took, and goes on after a failure.
step() {
  local name=$1 start=$SECONDS
  shift
  echo "==== $name" >&2
  if "$@"; then
    times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
  else
    times+=("$(printf '%5d s  %s  FAILED' $((SECONDS - start)) "$name")")
    failed+=("$name")
    return 1
  fi
}

jobs=$(nproc)
if [ "$soak" = yes ]; then
  FAIRSALE_FIGURES=$(mktemp)
  export FAIRSALE_FIGURES
  trap 'rm -f "$FAIRSALE_FIGURES"' EXIT
fi
# Debian's RocksDB is not built with ThreadSanitizer.
export TSAN_OPTIONS="suppressions=$PWD/tests/log/tsan.supp ${TSAN_OPTIONS-}"

build() { cmake --preset "$1" >/dev/null && cmake --build --preset "$1" -j "$jobs"; }

run_tests() {
  local labels=(-LE soak)
  [ "$soak" = no ] || labels=()
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$jobs" --timeout 900 \
    ${labels[@]+"${labels[@]}"} ${only[@]+"${only[@]}"}
}

tidy() {
  cmake --preset clang >/dev/null &&
    find api core projections tools -name '*.cpp' -print0 |
    xargs -0 -n 1 -P "$jobs" clang-tidy-14 -p build/clang --quiet --warnings-as-errors='*'
}

format() {
  find api core projections tools tests \( -name '*.cpp' -o -name '*.hpp' \) -print0 |
    xargs -0 clang-format-14 --dry-run --Werror
}

step "packages" fairsale_install "${packages[@]}"
for what in "${chosen[@]}"; do
  case "$what" in
    tidy) step "clang-tidy" tidy || true ;;
    format-check) step "format" format || true ;;
    mutations) step "mutations" tests/mutation/run.py || true ;;
    fuzz)
      if step "build fuzz" build fuzz; then
        step "fuzz ${fuzz_seconds} s each" tests/fuzz/run.sh "$fuzz_seconds" || true
      fi
      ;;
    *) if step "build $what" build "$what"; then step "test $what" run_tests "$what" || true; fi ;;
  esac
done

if [ "$soak" = yes ]; then
  echo "==== counted"
  awk -F'\t' '{ printf "%-60s %14s\n", $1, $2 }' "$FAIRSALE_FIGURES"
fi
echo "==== time spent" >&2
printf '%s\n' "${times[@]}" >&2
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}" >&2
  exit 1
fi
echo "All passed." >&2
