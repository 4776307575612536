#!/usr/bin/env bash
# Measures fairsale beside Redis, nginx with Lua, PostgreSQL and raw floors, prints the table and
# writes docs/benchmarks.md. Installs the peers from Debian's packages, builds the release preset,
# and runs everything on loopback with servers of its own. --help lists the options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup.sh

peers=(
  python3 redis-server redis-tools nginx libnginx-mod-http-lua lua-nginx-redis lua-cjson
  postgresql-15 postgresql-client-15 nats-server wrk util-linux
)

# Debian starts a server when it is installed. While the peers are installed, a policy forbids that;
# a policy that is there already is the machine's own and stays. A subshell, for its trap.
install_peers() (
  policy=/usr/sbin/policy-rc.d
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  if ! dpkg-query -W "${peers[@]}" >/dev/null 2>&1 && [ ! -e $policy ] &&
     command -v "${root[0]:-sh}" >/dev/null; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
    "${root[@]}" chmod 755 $policy
  fi
  fairsale_install "${peers[@]}"
)

case " $* " in
  *" --list "* | *" --help "* | *" -h "*) exec python3 tools/bench/bench.py "$@" ;;
esac

fairsale_install "${fairsale_build_packages[@]}"
install_peers

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Building (the first time takes some minutes) …" >&2
if ! { cmake --preset release &&
       cmake --build --preset release \
         --target fairsaled fairsale fairsale-load fairsale-listen fairsale-floor fairsale-append; } \
       >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi

# 256 connections and more, on both ends of a measurement.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
PYTHONDONTWRITEBYTECODE=1 python3 tools/bench/bench.py "$@"
