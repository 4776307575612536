#!/bin/sh
# Measures the edge's CPU per request with wrk, plain and pipelined.
# usage: edge_bench.sh BUILD_DIR [seconds]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
server=$1/bin/api_edge_server
seconds=${2:-5}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# one: label, connections, pipeline depth
one() {
  rm -f "$out/server"
  "$server" 0 1 >"$out/server" &
  pid=$!
  while [ ! -s "$out/server" ]; do
    kill -0 "$pid" || exit 1
    sleep 0.05
  done
  port=$(head -1 "$out/server")
  wrk -t1 -c"$2" -d"${seconds}s" -s "$here/pipeline.lua" "http://127.0.0.1:$port" -- "$3" |
    grep 'Requests/sec' | tr '\n' ' '
  kill "$pid"
  wait "$pid"
  echo "[$1] $(tail -1 "$out/server")"
}

one "50 connections" 50 1
one "256 connections" 256 1
one "50 connections, pipelines of 16" 50 16
one "10 connections, pipelines of 64" 10 64
