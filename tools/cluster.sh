# shellcheck shell=bash disable=SC2154
# Sourced by run.sh --cluster: three nats-servers, two edges, three processors and HAProxy on loopback,
# until Ctrl-C, or until the parent or whoever feeds the standard input ends. What ends by itself, or is
# killed, is started again after a while.
#
# PORT is HAProxy's, PORT+1 the same by TLS; the eleven after it are the nodes' and NATS's. Of each
# server DATA/NAME holds what it keeps, its log and its pid.
data=${FAIRSALE_DATA:-data/demo-cluster}
url=http://$host:$port
tls=https://$host:$((port + 1))
edges=(edge0 edge1)
processors=(processor0 processor1 processor2)
nats=(nats0 nats1 nats2)
declare -A ports
next=$((port + 2))
for name in "${edges[@]}" "${processors[@]}" "${nats[@]}" route0 route1 route2; do
  ports[$name]=$next
  next=$((next + 1))
done
unset FAIRSALE_DATA FAIRSALE_LISTEN
mkdir -p "$data"
data=$(cd "$data" && pwd)

declare -A pid_of=()  # by server
declare -A due=()     # when one that has ended starts again, by the shell's SECONDS
again_after=1

# Whatever becomes of this shell, its children do not outlive it. Ctrl-C is for the shell alone, which
# ends them in order.
child() { exec setsid setpriv --pdeathsig TERM -- "$@"; }

runs() { kill -0 "$1" 2>/dev/null; }

launch() {  # NAME
  local name=$1 dir=$data/$1 n=${1//[a-z]/}
  local -a command
  mkdir -p "$dir"
  case $name in
    nats*)
      # Three servers that would each take the whole machine only get into each other's way; and
      # their garbage is collected a quarter as often.
      command=(env "GOMAXPROCS=${GOMAXPROCS:-1}" "GOGC=${GOGC:-400}" nats-server
        -a 127.0.0.1 -p "${ports[$name]}" -js -sd "$dir/store" -n "$name"
        --cluster_name fairsale-demo --cluster "nats://127.0.0.1:${ports[route$n]}"
        --routes "$routes")
      ;;
    balancer)
      # The path of a socket may not be long.
      command=(env "HTTP=${listen%:*}:$port" "HTTPS=${listen%:*}:$((port + 1))"
        "CERTIFICATE=$dir/certificate-and-key.pem" "BALANCER_SOCKET=unix@$(realpath --relative-to=. "$dir")/socket")
      for n in 0 1; do command+=("EDGE$n=127.0.0.1:${ports[edge$n]}"); done
      for n in 0 1 2; do command+=("PROCESSOR$n=127.0.0.1:${ports[processor$n]}"); done
      command+=(haproxy -db -f docs/haproxy.cfg)
      ;;
    *)
      command=("$bin/fairsaled" --role "${name%"$n"}" --node "$name" --data "$dir/data"
        --listen "127.0.0.1:${ports[$name]}" --nats "$nats_urls" --address-rate 0
        ${options[@]+"${options[@]}"})
      ;;
  esac
  child "${command[@]}" >>"$dir/log" 2>&1 </dev/null &
  pid_of[$name]=$!
  disown  # or the shell would tell of it when it is killed
  echo "${pid_of[$name]}" >"$dir/pid"
}

# Ends the named servers, and kills what is left of them after 15 s.
end() {
  local name p left=() until=$((SECONDS + 15))
  for name in "$@"; do
    p=${pid_of[$name]-}
    [ -n "$p" ] && kill -TERM "$p" 2>/dev/null || continue
    kill -CONT "$p" 2>/dev/null || true  # one that was stopped by hand has to wake up to end
    left+=("$p")
  done
  for p in ${left[@]+"${left[@]}"}; do
    while runs "$p"; do
      if [ "$SECONDS" -ge "$until" ]; then kill -KILL "$p" 2>/dev/null || true; fi
      sleep 0.05
    done
  done
}

stop() {
  trap '' INT TERM HUP
  echo "Stopping …" >&2
  kill $input $ready 2>/dev/null || true
  end balancer "${edges[@]}" "${processors[@]}"
  end "${nats[@]}"
}

until_ready() {
  local name
  for name in "127.0.0.1:${ports[edge0]}" "127.0.0.1:${ports[edge1]}" \
              "127.0.0.1:${ports[processor0]}" "127.0.0.1:${ports[processor1]}" \
              "127.0.0.1:${ports[processor2]}" "$host:$port"; do
    until curl -fs "http://$name/readyz" >/dev/null; do
      kill -0 $$ 2>/dev/null || return 1
      sleep 0.2
    done
  done
}

ask() {  # TOKEN METHOD PATH BODY: the answer's body
  curl -sS --fail-with-body --retry 5 --retry-all-errors --retry-delay 1 --max-time 30 \
    -X "$2" "$url$3" -H "Authorization: Bearer $1" -d "$4"
}

open_sale() {
  local said
  if ! curl -fs "$url/v1/sales/demo" >/dev/null &&
     ! said=$(ask "$(secret OPERATOR)" PUT /v1/sales/demo '{"stock": 1000, "hold_seconds": 120,
       "grace_seconds": 5, "limit_per_customer": 2, "units_per_purchase": 2, "line_limit": 100000,
       "price": {"amount": 4900, "currency": "EUR"}}'); then
    echo "tools/run.sh: the sale could not be opened: $said" >&2
    return 1
  fi
}

say_what_to_try() {
  local alice
  alice=$(ask "$(secret SHOP)" POST /v1/tokens '{"customer": "alice", "ttl_seconds": 86400}' |
          sed 's/.*"token":"\([^"]*\)".*/\1/')
  cat <<TEXT

  Two edges take requests, three processors keep the log, three NATS servers order it, HAProxy is in
  front of all. A sale is open: 1,000 units of "demo" at 49.00 EUR, 2 a customer, held for 120 s.

    pages    $url/s/demo#token=$alice
             $url/console#token=$(secret OPERATOR)

  Buy one as alice; "served-by" is the edge that answered:
    curl -si $url/v1/sales/demo/purchases -H 'Idempotency-Key: 1' -d '{"quantity":1}' \\
      -H 'Authorization: Bearer $alice'

  The same by TLS and HTTP/2:
    curl -si --http2 --cacert $data/balancer/certificate.pem $tls/v1/sales/demo

  Kill a processor, as a power cut would. Buy again: it is answered all the same, because two of three
  have it on disk. After 15 s the processor starts again and catches up.
    kill -9 \$(cat $data/processor1/pid)        # now ${pid_of[processor1]}

  Kill the edge that answered alice, and send her purchase again with the same key: the other edge gives
  the same answer, with "idempotent-replayed".
    kill -9 \$(cat $data/edge0/pid)             # now ${pid_of[edge0]}; edge1 is ${pid_of[edge1]}

  Kill a NATS server. If it led, purchases go on with another stream after one or two seconds; those
  that were under way are told 503 "unconfirmed": the same key gets the answer.
    kill -9 \$(cat $data/nats0/pid)             # now ${pid_of[nats0]}

  Who is there, and how far each has come:
    curl -s $url/v1/cluster -H 'Authorization: Bearer $(secret OPERATOR)'

  Ctrl-C stops all of it; what was acknowledged stays.

TEXT
}

nats_urls=$(for name in "${nats[@]}"; do echo "nats://127.0.0.1:${ports[$name]}"; done | paste -sd,)
routes=$(for n in 0 1 2; do echo "nats://127.0.0.1:${ports[route$n]}"; done | paste -sd,)
if [ ! -s "$data/balancer/certificate-and-key.pem" ]; then
  mkdir -p "$data/balancer"
  (
    umask 077
    cd "$data/balancer" || exit
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
      -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
      -keyout key.pem -out certificate.pem 2>log
    cat certificate.pem key.pem >certificate-and-key.pem
  )
fi

input='' ready=''
trap stop EXIT
trap 'exit 0' INT TERM HUP
servers=("${nats[@]}" "${edges[@]}" "${processors[@]}" balancer)
for name in "${servers[@]}"; do launch "$name"; done
if [ -p /dev/stdin ] || [ -S /dev/stdin ]; then
  exec 3<&0
  child cat <&3 >/dev/null &
  input=$!
fi
until_ready &
ready=$!
patience=$((SECONDS + 120))

while runs "$PPID" && { [ -z "$input" ] || runs "$input"; }; do
  if [ -n "$ready" ] && ! runs "$ready"; then
    ready=''
    open_sale
    say_what_to_try
    again_after=15
  elif [ -n "$ready" ] && [ "$SECONDS" -ge "$patience" ]; then
    echo "tools/run.sh: the cluster is not ready after 120 s; see the logs, $data/*/log" >&2
    exit 1
  fi
  for name in "${servers[@]}"; do
    if [ -z "${due[$name]-}" ]; then
      if runs "${pid_of[$name]}"; then continue; fi
      pid_of[$name]=''
      due[$name]=$((SECONDS + again_after))
      [ -n "$ready" ] || echo "$name has ended; it starts again in $again_after s." >&2
    elif [ "$SECONDS" -ge "${due[$name]}" ]; then
      launch "$name"
      unset "due[$name]"
      [ -n "$ready" ] || echo "$name starts again as ${pid_of[$name]}." >&2
    fi
  done
  sleep 0.2
done
