#!/usr/bin/env bash
# Builds fairsaled and serves an open demo sale, with pages and three curl lines to try. Ctrl-C stops
# it.
#   tools/run.sh [--rush | --cluster] [--listen ADDRESS:PORT] [any option of fairsaled]
# --rush also schedules a sale that opens in 20 seconds and sends it a crowd, a hundred times the usual
# one when it opens: watch it on the console. --cluster starts a cluster of servers behind HAProxy
# instead of one, and says which of them to kill. FAIRSALE_LISTEN is as good as --listen
# (127.0.0.1:8080). Everything is kept under data/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup.sh

listen=${FAIRSALE_LISTEN:-127.0.0.1:8080}
options=()
rush=no cluster=no
while [ $# -gt 0 ]; do
  case "$1" in
    --listen)
      if [ $# -lt 2 ]; then echo "tools/run.sh: --listen takes ADDRESS:PORT" >&2; exit 2; fi
      listen=$2
      shift 2
      ;;
    --rush) rush=yes; shift ;;
    --cluster) cluster=yes; shift ;;
    --listen=*) listen=${1#--listen=}; shift ;;
    -h | --help) sed -n '2,8s/^# //p' tools/run.sh; exit 0 ;;
    *) options+=("$1"); shift ;;
  esac
done

if [ "$rush$cluster" = yesyes ]; then
  echo "tools/run.sh: --rush is of one server, not of a --cluster" >&2
  exit 2
fi

# Says so before the build rather than after it.
host=${listen%:*} port=${listen##*:}
case "$host" in 0.0.0.0 | '[::]' | '') host=127.0.0.1 ;; esac
used=1
[ "$cluster" = no ] || used=13
for ((p = port; p < port + used; ++p)); do
  if (exec 3<>"/dev/tcp/${host//[\[\]]/}/$p") 2>/dev/null; then
    echo "tools/run.sh: something listens on $host:$p already. Stop it, or choose another port:" >&2
    echo "  tools/run.sh --listen 127.0.0.1:$((p + 1))" >&2
    exit 1
  fi
done

# Tests have built it already.
bin=${FAIRSALE_BIN:-}
if [ -z "$bin" ]; then
  fairsale_install "${fairsale_build_packages[@]}"
  [ "$cluster" = no ] || fairsale_install "${fairsale_cluster_packages[@]}"
  bin=build/release/bin
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  echo "Building (the first time takes some minutes) …" >&2
  if ! { cmake --preset release && cmake --build --preset release --target fairsaled fairsale; } \
         >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
  rm -f "$log"
fi

secrets=${FAIRSALE_SECRETS:-data/demo-secrets}
mkdir -p "$secrets"
chmod 700 "$secrets"
for name in operator-token shop-token customer-key; do
  if [ ! -s "$secrets/$name" ]; then
    (umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$secrets/$name")
  fi
done

# Defaults are given by the environment, so that options of the caller win over them.
[ -n "${FAIRSALE_OPERATOR_TOKEN:-}" ] ||
  export FAIRSALE_OPERATOR_TOKEN_FILE=${FAIRSALE_OPERATOR_TOKEN_FILE:-$secrets/operator-token}
[ -n "${FAIRSALE_SHOP_TOKEN:-}" ] ||
  export FAIRSALE_SHOP_TOKEN_FILE=${FAIRSALE_SHOP_TOKEN_FILE:-$secrets/shop-token}
[ -n "${FAIRSALE_CUSTOMER_KEY:-}" ] ||
  export FAIRSALE_CUSTOMER_KEY_FILE=${FAIRSALE_CUSTOMER_KEY_FILE:-$secrets/customer-key}

secret() {  # SETTING's value, as the server was given it
  local value=FAIRSALE_${1}_TOKEN file=FAIRSALE_${1}_TOKEN_FILE
  if [ -n "${!value:-}" ]; then printf %s "${!value}"; else tr -d '[:space:]' <"${!file}"; fi
}

if [ "$cluster" = yes ]; then
  . tools/cluster.sh
  exit
fi

export FAIRSALE_DATA=${FAIRSALE_DATA:-data/demo}
if [ "$rush" = no ]; then
  exec "$bin"/fairsaled --demo --listen "$listen" ${options[@]+"${options[@]}"}
fi

"$bin"/fairsaled --demo --listen "$listen" ${options[@]+"${options[@]}"} &
server=$!
crowd=
trap 'kill $crowd "$server" 2>/dev/null; wait "$server" || true' EXIT
trap 'exit 0' INT TERM
url=http://$host:$port
until curl -fsS "$url/readyz" >/dev/null 2>&1; do
  kill -0 "$server" 2>/dev/null || exit 1
  sleep 0.2
done

sku=rush-$(date +%H%M%S)
cat <<TEXT

  A crowd comes to "$sku" in 20 seconds. Watch it, and try to get one yourself:
    console  $url/console#token=$(secret OPERATOR)
             then choose $sku
    shopper  $url/s/$sku

TEXT
export FAIRSALE_OPERATOR_TOKEN FAIRSALE_SHOP_TOKEN
FAIRSALE_OPERATOR_TOKEN=$(secret OPERATOR) FAIRSALE_SHOP_TOKEN=$(secret SHOP)
"$bin"/fairsale rush "$url" --sku "$sku" \
  --create stock=500,hold=20,price=4900,currency=EUR,grace=2,limit=2,units=2,opens_in=20 \
  --attempts 40000 --customers 15000 --connections 128 --units-per-attempt 1,1,2 \
  --spike 100 --lead-seconds 21 --spike-seconds 10 --tail-seconds 90 --pay-delay 1:10 \
  --until-settled &
crowd=$!
wait "$crowd" || echo "tools/run.sh: the rush found something wrong; see above" >&2
crowd=
echo "The rush is over; the server goes on until Ctrl-C." >&2
wait "$server"
