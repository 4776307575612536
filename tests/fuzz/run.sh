#!/usr/bin/env bash
# Runs the fuzz targets under libFuzzer, two at a time on each core, after
#   cmake --preset fuzz && cmake --build --preset fuzz
#   tests/fuzz/run.sh [SECONDS [TARGET...]]
# SECONDS (600 unless given) for each whose bytes come from outside: over the network, from a user,
# or from a store that somebody else had; a tenth of that for the others. With names, only those.
# Begins with what is kept in corpus/, what the targets make, and what earlier runs found. Prints
# what each target ran, and how to repeat a failure; fails if there was one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${1:-600}
shift || true
bin=build/fuzz/bin
work=build/fuzz/corpus
failures=build/fuzz/failures
targets=("$@")
long=(edge bodies config tokens block snapshot log_lines)
is_long() { [[ " ${long[*]} " == *" $1 "* ]]; }
if [ ${#targets[@]} -eq 0 ]; then
  targets=("${long[@]}")
  for program in "$bin"/fuzz_*; do
    is_long "${program##*/fuzz_}" || targets+=("${program##*/fuzz_}")
  done
fi
mkdir -p "$failures"
export ASAN_OPTIONS="detect_leaks=1 ${ASAN_OPTIONS-}"

fuzz() {
  local name=$1 found=$work/$1 kept=tests/fuzz/corpus/$1 time=$seconds
  is_long "$name" || time=$(((seconds + 9) / 10))
  local options=(-max_total_time="$time" -rss_limit_mb=2048 -timeout=200 -max_len=16384
                 -print_final_stats=1 -artifact_prefix="$failures/$name-" --seeds="$found")
  [ ! -f "tests/fuzz/$name.dict" ] || options+=(-dict="tests/fuzz/$name.dict")
  local directories=("$found")
  [ ! -d "$kept" ] || directories+=("$kept")
  mkdir -p "$found"
  "$bin/fuzz_$name" "${options[@]}" "${directories[@]}" >"$failures/$name.log" 2>&1
}

# Of one target, once it has ended: what it ran, or how to see its failure again.
report() {
  local name=$1 code=$2 log=$failures/$1.log runs
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  executions=$((executions + ${runs:-0}))
  if [ "$code" -eq 0 ]; then
    printf '%-12s %12d inputs\n' "$name" "${runs:-0}"
    return
  fi
  crashes=$((crashes + 1))
  grep -E -A 2 '^broken promise|^fairsale: invariant|ERROR: |runtime error' "$log" | head -20 || true
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
  printf '%-12s FAILED; again: %s %s (all of it: %s)\n' "$name" "$bin/fuzz_$name" "$input" "$log"
}

together=$((2 * $(nproc)))
executions=0
crashes=0
declare -A running=()
next_to_end() {
  local pid code=0
  wait -n -p pid "${!running[@]}" || code=$?
  report "${running[$pid]}" "$code"
  unset "running[$pid]"
}
for name in "${targets[@]}"; do
  [ ${#running[@]} -lt "$together" ] || next_to_end
  fuzz "$name" &
  running[$!]=$name
done
while [ ${#running[@]} -gt 0 ]; do next_to_end; done

if [ -n "${FAIRSALE_FIGURES-}" ]; then
  {
    printf 'fuzz targets\t%d\n' ${#targets[@]}
    printf 'inputs fuzzed\t%s\n' "$(printf "%'d" "$executions")"
    printf 'fuzz targets that failed\t%d\n' "$crashes"
  } >>"$FAIRSALE_FIGURES"
fi
printf '%d targets, %d inputs, %d failures\n' ${#targets[@]} "$executions" "$crashes"
[ "$crashes" -eq 0 ]
