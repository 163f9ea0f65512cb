#!/usr/bin/env bash
# Everything that only a GPU can tell, in one command: builds what is missing, checks what times depend on, times, and writes one table; then
# goldens, agreement, conformance, and compute-sanitizer. Needs the NVIDIA driver and Python; nvcc and g++ where scripts/gpu-pack.mjs was not
# run before; no network and no Node (a packed one is used when it is there).
#
#   packages/backend-cuda/scripts/gpu-run.sh [--seconds N] [--sanitize] [SIZES]
#
#     SIZES        default: 20M 60M 160M 320M
#     --seconds N  for all of it (540): what no longer fits is skipped, and is not counted as passed
#     --sanitize   compute-sanitizer first, not last
#
# $OUT (build/gpu): log.txt with all that was said, machine.csv, rates.json, times.jsonl, table.md (written again after each size), agreement/.
# $CHECK: small for fewer texts; $TIMES: runs of each time (5); $RATE_BYTES: memory over which the ceiling of reading is measured.
set -uo pipefail
package=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$package/../.." && pwd)
out=${OUT:-$package/build/gpu}
budget=540
first=''
while [ $# -gt 0 ]; do
  case $1 in
    --seconds)
      budget=${2:-}
      shift
      ;;
    --sanitize) first=sanitizers ;;
    --help)
      sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    -*) budget='' ;;
    *) break ;;
  esac
  shift
done
case $budget in
  '' | *[!0-9]*)
    echo "Use: gpu-run.sh [--seconds N] [--sanitize] [SIZES], N a whole number."
    exit 2
    ;;
esac
sizes=${*:-20M 60M 160M 320M}
mkdir -p "$out" "$package/build"
out=$(cd "$out" && pwd)
cd "$package" || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What an earlier run left is not of this one.
rm -rf "$out/agreement" "$out/table.md"
for file in log.txt machine.csv rates.json times.jsonl; do : >"$out/$file"; done
passed=0 failed=0 skipped=0 blocked='' clusters=''

tell() { printf '%s\n' "$*" | tee -a "$out/log.txt"; }
skip() {
  skipped=$((skipped + 1))
  tell "skip $1: $2"
}
# step NAME LIMIT COMMAND...: ended after LIMIT seconds, or when none are left. Skipped where $blocked says why. With $clusters it fails where
# no row was decoded by clusters.
step() {
  local name=$1 limit=$2 left=$((budget - SECONDS)) from=$SECONDS most status
  most=$((limit < left ? limit : left))
  shift 2
  if [ -n "$blocked" ]; then
    skip "$name" "$blocked"
    return 1
  fi
  if [ "$left" -lt 1 ]; then
    skip "$name" "the $budget seconds are over"
    return 1
  fi
  tell ""
  tell "== $name (at $from s, at most $most s)"
  : >"$work/said"
  timeout -k 5 "$most" "$@" 2>&1 | tee -a "$out/log.txt" "$work/said"
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ] && [ $((SECONDS - from)) -ge "$most" ]; then
    if [ "$most" -lt "$limit" ]; then
      skip "$name" "not at its end when the $budget seconds were over"
      return 1
    fi
    tell "It was not at its end after $limit seconds."
  fi
  if [ "$status" -eq 0 ] && [ -n "$clusters" ] &&
    { ! grep -q 'one row decodes by' "$work/said" || grep -q 'the driver refuses clusters' "$work/said"; }; then
    tell "No cluster was taken: what doge-cuda says above is why."
    status=1
  fi
  if [ "$status" -eq 0 ]; then
    passed=$((passed + 1))
    tell "ok   $name ($((SECONDS - from)) s)"
    return 0
  fi
  failed=$((failed + 1))
  tell "FAIL $name ($((SECONDS - from)) s)"
  return 1
}

tell "== machine"
wanted=name,compute_cap,driver_version,memory.total,clocks.max.sm,clocks.max.mem
timeout 30 nvidia-smi "--query-gpu=$wanted" --format=csv | tee -a "$out/log.txt" "$out/machine.csv" || {
  tell "There is no NVIDIA GPU here: nothing to run."
  exit 1
}
capability=$(timeout 30 nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '. ')

# What was packed, whatever an earlier call left here; or else what is built here, for this GPU alone.
for file in libdoge_cuda.so doge_runner doge_cuda.node; do
  [ ! -e "$root/.gpu/$file" ] || install -m 755 "$root/.gpu/$file" build/
done
mkdir -p ../backend-wasm/build
for file in "$root"/.gpu/*.wasm; do
  [ ! -e "$file" ] || install -m 644 "$file" ../backend-wasm/build/
done
if [ ! -e build/libdoge_cuda.so ]; then
  nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
  code=$capability
  [ "$code" != 90 ] || code=90a # products by warpgroups are in no other code
  step "build" 540 "$nvcc" -O3 -std=c++17 --threads 2 -shared -cudart static -Xcompiler -fPIC,-fvisibility=hidden,-fno-strict-aliasing \
    "-gencode=arch=compute_$code,code=sm_$code" "-DDOGE_CODE=\"$code\"" '-DDOGE_PTX=""' \
    native/doge.cu native/device.cu native/probe.cu -ldl -lpthread -lrt -o build/libdoge_cuda.so
fi
if [ ! -e build/doge_runner ]; then
  # shellcheck disable=SC2016  # $ORIGIN is for the loader, not for the shell
  step "build of the runner" 60 g++ -std=c++17 -O2 -pthread native/runner.cc -Lbuild -ldoge_cuda -Wl,-rpath,'$ORIGIN' -o build/doge_runner
fi
export LD_LIBRARY_PATH="$package/build${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

sanitizer() { # sanitizer TOOL LIMIT [FLAGS]: over fewer texts, for it is slow
  local tool=$1 limit=$2
  shift 2
  step "compute-sanitizer $tool" "$limit" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 "$@" build/doge_runner check small
}
sanitizers() {
  if ! command -v compute-sanitizer >/dev/null; then
    skip "compute-sanitizer" "it is not here"
    return
  fi
  # Memory is refused on purpose: that is no error of a call.
  sanitizer memcheck 120 --report-api-errors no
  sanitizer synccheck 120
  # Pages of keys are read whole and masked after that.
  DOGE_FILL=1 sanitizer initcheck 120
  sanitizer racecheck 240
}
$first

# What waits for what never comes ends by itself after some seconds; the limits are for what does not.
wrong=''
step "products and attention" 60 build/doge_runner attention ${CHECK:+"$CHECK"} || wrong=1
step "forms of the matmul" 60 build/doge_runner tiles ${CHECK:+"$CHECK"} || wrong=1
step "properties" 90 build/doge_runner check ${CHECK:+"$CHECK"} || wrong=1
[ -z "$wrong" ] || wrong="a check above did not pass, and a time of wrong results says nothing"
# A row's steps by clusters of blocks are taken where they are asked for, on one kind of device.
apart=${wrong:+"a check above did not pass"}
[ "$capability" = 90 ] || apart="clusters are for compute capability 9.0 alone"
clusters=1 blocked=$apart step "properties by clusters" 90 env DOGE_DEBUG=1 DOGE_CLUSTERS=1 build/doge_runner check ${CHECK:+"$CHECK"} ||
  apart=${apart:-"properties by clusters did not pass"}

blocked=$wrong step "ceilings" 30 bash -c "set -o pipefail; build/doge_runner rates ${RATE_BYTES:-} | tee '$out/rates.json'"
for size in $sizes; do
  for dtype in f32 bf16 q8; do
    blocked=$wrong step "times $size $dtype" 90 bash -c "set -o pipefail; build/doge_runner time $size $dtype ${TIMES:-5} | tee -a '$out/times.jsonl'"
  done
  if python3 scripts/table.py "$out/machine.csv" "$out/times.jsonl" "$out/rates.json" >"$work/table.md"; then
    mv "$work/table.md" "$out/table.md"
  else
    failed=$((failed + 1))
    tell "FAIL table"
  fi
done
# Above, a row's weights come through as long a ring as shared memory has room for (11 units of 2 KB for each warp); here through a short one.
for size in $sizes; do
  blocked=$wrong step "ring of 3 units $size" 60 bash -c "DOGE_RING=3 build/doge_runner time $size bf16 ${TIMES:-5} | grep -m 1 '1 row'"
done
# By clusters of as many blocks as there may be, and of 8.
for size in $sizes; do
  for blocks in 1 8; do
    clusters=1 blocked=$apart step "clusters $blocks $size" 60 \
      bash -c "DOGE_DEBUG=1 DOGE_CLUSTERS=$blocks build/doge_runner time $size bf16 ${TIMES:-5} 2>&1 | grep -m 2 -E 'clusters|1 row'"
  done
done
# Above, kernels are launched beside the one before them; here each when that one has ended.
for size in $sizes; do
  blocked=$wrong step "launches apart $size" 60 bash -c "DOGE_DEPENDENT=0 build/doge_runner time $size bf16 ${TIMES:-5} | grep -m 2 -E 'prefill|[0-9] rows'"
done
tell ""
tell "== table"
[ ! -e "$out/table.md" ] || tee -a "$out/log.txt" <"$out/table.md"

step "goldens" 60 python3 scripts/check.py build/libdoge_cuda.so
if [ -e "$root/.gpu/node.xz" ]; then
  node=''
  step "unpacking of Node" 60 python3 - "$root/.gpu/node.xz" "$work/node" <<'PYTHON' || node="Node was not unpacked"
import lzma, os, shutil, sys
with lzma.open(sys.argv[1]) as packed, open(sys.argv[2], "wb") as node:
    shutil.copyfileobj(packed, node)
os.chmod(sys.argv[2], 0o755)
PYTHON
  # Every dtype on every checkpoint against the reference: npm run agreement -- --merge FILE takes its JSON into the report.
  blocked=$node step "agreement" 180 "$work/node" "$root/.gpu/agreement.mjs" --only cuda --out "$out/agreement"
  blocked=$node step "conformance through Node" 120 "$work/node" "$root/.gpu/conformance.mjs" "$package/build/doge_cuda.node" "$root/packages/conformance/fixtures"
  blocked=${node:-$apart} step "conformance by clusters" 120 env DOGE_CLUSTERS=1 "$work/node" "$root/.gpu/conformance.mjs" "$package/build/doge_cuda.node" \
    "$root/packages/conformance/fixtures"
else
  skip "agreement and conformance" "no Node is packed; where there is one, DOGE_REQUIRE=cuda npm test runs the suite"
fi
[ -n "$first" ] || sanitizers

tell ""
tell "$passed passed, $failed failed, $skipped skipped, in $SECONDS s"
[ "$failed" -eq 0 ]
