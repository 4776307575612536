#!/usr/bin/env bash
# Builds fairsaled and serves an open demo sale, with three curl lines to try. Ctrl-C stops it.
#   tools/run.sh [--listen ADDRESS:PORT] [any option of fairsaled]
# FAIRSALE_LISTEN is as good as --listen (127.0.0.1:8080). Everything is kept under data/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup.sh

listen=${FAIRSALE_LISTEN:-127.0.0.1:8080}
options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --listen)
      if [ $# -lt 2 ]; then echo "tools/run.sh: --listen takes ADDRESS:PORT" >&2; exit 2; fi
      listen=$2
      shift 2
      ;;
    --listen=*) listen=${1#--listen=}; shift ;;
    -h | --help) sed -n '2,4s/^# //p' tools/run.sh; exit 0 ;;
    *) options+=("$1"); shift ;;
  esac
done

# Says so before the build rather than after it.
host=${listen%:*} port=${listen##*:}
case "$host" in 0.0.0.0 | '[::]' | '') host=127.0.0.1 ;; esac
if (exec 3<>"/dev/tcp/${host//[\[\]]/}/$port") 2>/dev/null; then
  echo "tools/run.sh: something listens on $listen already. Stop it, or choose another port:" >&2
  echo "  tools/run.sh --listen 127.0.0.1:$((port + 1))" >&2
  exit 1
fi

fairsale_install "${fairsale_build_packages[@]}"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Building (the first time takes some minutes) …" >&2
if ! { cmake --preset release && cmake --build --preset release --target fairsaled fairsale; } \
       >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
rm -f "$log"

secrets=data/demo-secrets
mkdir -p "$secrets"
chmod 700 "$secrets"
for name in operator-token shop-token customer-key; do
  if [ ! -s "$secrets/$name" ]; then
    (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$secrets/$name")
  fi
done

# Defaults are given by the environment, so that options of the caller win over them.
export FAIRSALE_DATA=${FAIRSALE_DATA:-data/demo}
[ -n "${FAIRSALE_OPERATOR_TOKEN:-}" ] ||
  export FAIRSALE_OPERATOR_TOKEN_FILE=${FAIRSALE_OPERATOR_TOKEN_FILE:-$secrets/operator-token}
[ -n "${FAIRSALE_SHOP_TOKEN:-}" ] ||
  export FAIRSALE_SHOP_TOKEN_FILE=${FAIRSALE_SHOP_TOKEN_FILE:-$secrets/shop-token}
[ -n "${FAIRSALE_CUSTOMER_KEY:-}" ] ||
  export FAIRSALE_CUSTOMER_KEY_FILE=${FAIRSALE_CUSTOMER_KEY_FILE:-$secrets/customer-key}
exec build/release/bin/fairsaled --demo --listen "$listen" ${options[@]+"${options[@]}"}
