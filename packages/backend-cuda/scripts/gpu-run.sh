#!/usr/bin/env bash
# Everything that only a GPU can tell, in one command: builds what is missing, checks against goldens, runs compute-sanitizer,
# times, and prints one table last. Needs the NVIDIA driver and Python; nvcc and g++ where scripts/gpu-pack.mjs was not run before;
# no network and no Node (a packed one is used when it is there).
#
#   packages/backend-cuda/scripts/gpu-run.sh [SIZES]      default: 20M 60M 160M 320M; results in $OUT, else build/gpu
#                                                         $CHECK: small for fewer texts; $TIMES: runs of each time (5);
#                                                         $RATE_BYTES: memory over which the ceiling of reading is measured
set -uo pipefail
package=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$package/../.." && pwd)
out=${OUT:-$package/build/gpu}
sizes=${*:-20M 60M 160M 320M}
mkdir -p "$out" "$package/build"
cd "$package" || exit 1
failed=0

say() { printf '\n== %s\n' "$*"; }
step() { # step NAME COMMAND...: its output goes to the terminal and to a file
  local name=$1 log
  shift
  log="$out/$(printf %s "$name" | tr -c 'A-Za-z0-9' '-').log"
  say "$name"
  if "$@" 2>&1 | tee "$log"; then echo "ok   $name"; else
    failed=$((failed + 1))
    echo "FAIL $name"
  fi
}

say "machine"
nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm,clocks.max.mem --format=csv | tee "$out/machine.csv" || {
  echo "There is no NVIDIA GPU here: nothing to run."
  exit 1
}

# What was packed, or else built here for this GPU alone.
for file in libdoge_cuda.so doge_runner doge_cuda.node; do
  [ -e "build/$file" ] || [ ! -e "$root/.gpu/$file" ] || cp "$root/.gpu/$file" build/
done
mkdir -p ../backend-wasm/build
for file in "$root"/.gpu/*.wasm; do
  [ ! -e "$file" ] || cp "$file" ../backend-wasm/build/
done
if [ ! -e build/libdoge_cuda.so ]; then
  nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '. ')
  [ "$capability" != 90 ] || capability=90a # products by warpgroups are in no other code
  step "build" "$nvcc" -O3 -std=c++17 --threads 2 -shared -cudart static -Xcompiler -fPIC,-fvisibility=hidden,-fno-strict-aliasing \
    "-gencode=arch=compute_$capability,code=sm_$capability" "-DDOGE_CODE=\"$capability\"" '-DDOGE_PTX=""' \
    native/doge.cu native/device.cu native/probe.cu -ldl -lpthread -lrt -o build/libdoge_cuda.so
fi
if [ ! -e build/doge_runner ]; then
  # shellcheck disable=SC2016  # $ORIGIN is for the loader, not for the shell
  step "build of the runner" g++ -std=c++17 -O2 -pthread native/runner.cc -Lbuild -ldoge_cuda -Wl,-rpath,'$ORIGIN' -o build/doge_runner
fi

export LD_LIBRARY_PATH="$package/build${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# What waits for what never comes ends by itself after some seconds; the bound is for what does not.
# shellcheck disable=SC2086  # left out when it is empty
step "products and attention" timeout -k 10 300 build/doge_runner attention ${CHECK:-}
# shellcheck disable=SC2086
step "forms of the matmul" timeout -k 10 300 build/doge_runner tiles ${CHECK:-}
# shellcheck disable=SC2086
step "properties" timeout -k 10 300 build/doge_runner check ${CHECK:-}
# A row's steps by clusters of blocks are taken where they are asked for.
# shellcheck disable=SC2086
step "properties by clusters" env DOGE_DEBUG=1 DOGE_CLUSTERS=1 timeout -k 10 600 build/doge_runner check ${CHECK:-}
step "goldens" timeout -k 10 300 python3 scripts/check.py build/libdoge_cuda.so
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    # Memory is refused on purpose: that is no error of a call. Fewer texts, and a bound: racecheck is slow.
    quiet=
    [ "$tool" != memcheck ] || quiet="--report-api-errors no"
    # shellcheck disable=SC2086  # two words, or none
    step "compute-sanitizer $tool" timeout 300 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 $quiet build/doge_runner check small
  done
else
  echo "skipped: compute-sanitizer is not here."
fi
if [ -e "$root/.gpu/node.xz" ]; then
  python3 - "$root/.gpu" <<'PYTHON'
import lzma, os, shutil, sys
path = os.path.join(sys.argv[1], "node")
with lzma.open(path + ".xz") as packed, open(path, "wb") as node:
    shutil.copyfileobj(packed, node)
os.chmod(path, 0o755)
PYTHON
  step "conformance through Node" "$root/.gpu/node" "$root/.gpu/conformance.mjs" "$package/build/doge_cuda.node" "$root/packages/conformance/fixtures"
  step "conformance by clusters" env DOGE_CLUSTERS=1 "$root/.gpu/node" "$root/.gpu/conformance.mjs" "$package/build/doge_cuda.node" "$root/packages/conformance/fixtures"
  # Every dtype on every checkpoint against the reference: npm run agreement -- --merge FILE takes its JSON into the report.
  step "agreement" timeout 300 "$root/.gpu/node" "$root/.gpu/agreement.mjs" --only cuda --out "$out/agreement"
else
  echo "skipped: no Node is packed; where there is one, DOGE_REQUIRE=cuda npm test runs the suite."
fi

# shellcheck disable=SC2086  # left out when it is empty
step "ceilings" bash -c "set -o pipefail; build/doge_runner rates ${RATE_BYTES:-} | tee '$out/rates.json'"
: >"$out/times.jsonl"
for size in $sizes; do
  for dtype in f32 bf16 q8; do
    step "times $size $dtype" bash -c "set -o pipefail; build/doge_runner time $size $dtype ${TIMES:-5} | tee -a '$out/times.jsonl'"
  done
done
# Above, a row's weights come through as long a ring as shared memory has room for (11 units of 2 KB for each warp); here through a short one.
for size in $sizes; do
  step "ring of 3 units $size" bash -c "DOGE_RING=3 build/doge_runner time $size bf16 ${TIMES:-5} | grep -m 1 '1 row'"
done
# By clusters of as many blocks as there may be, and of 8.
for size in $sizes; do
  for blocks in 1 8; do
    step "clusters $blocks $size" bash -c "DOGE_DEBUG=1 DOGE_CLUSTERS=$blocks build/doge_runner time $size bf16 ${TIMES:-5} 2>&1 | grep -m 2 -E 'clusters|1 row'"
  done
done
# Above, kernels are launched beside the one before them; here each when that one has ended.
for size in $sizes; do
  step "launches apart $size" bash -c "DOGE_DEPENDENT=0 build/doge_runner time $size bf16 ${TIMES:-5} | grep -m 2 -E 'prefill|[0-9] rows'"
done
say "table"
python3 scripts/table.py "$out/machine.csv" "$out/times.jsonl" "$out/rates.json" | tee "$out/table.md"
echo "$failed failed"
[ "$failed" -eq 0 ]
