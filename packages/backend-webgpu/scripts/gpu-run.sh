#!/usr/bin/env bash
# Everything about this backend that only a GPU can tell, in one command, from the folder that scripts/gpu-pack.mjs packs (there it is
# run.sh). Needs an NVIDIA driver with its Vulkan part, Python 3 and tar; no network and nothing installed.
#
#   .gpuweb/run.sh [SECONDS IN ALL] [FLAGS OF bench.mjs]   results in $OUT, else beside this file; Node from $NODE, .gpu/node, .gpu/node.xz
#                                                     or the PATH; a driver of one's own by VK_DRIVER_FILES
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/out}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seconds=${1:-240}
[ $# -gt 0 ] && shift
mkdir -p "$out"
say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

unpack() { # unpack FILE.xz TO: without xz, which not every machine has
  python3 - "$1" "$2" <<'PYTHON'
import lzma, os, shutil, sys
with lzma.open(sys.argv[1]) as packed, open(sys.argv[2], "wb") as plain:
    shutil.copyfileobj(packed, plain)
os.chmod(sys.argv[2], 0o755)
PYTHON
}

say "unpacking"
node=${NODE:-}
for place in "$here/../.gpu/node" "$here/node"; do
  if [ -z "$node" ] && [ -x "$place" ]; then node=$place; fi
done
for place in "$here/../.gpu/node.xz" "$here/node.xz"; do
  if [ -z "$node" ] && [ -e "$place" ]; then
    unpack "$place" "$work/node"
    node=$work/node
  fi
done
[ -n "$node" ] || node=$(command -v node) || {
  echo "There is no Node: set NODE."
  exit 1
}
unpack "$here/dawn.node.xz" "$work/dawn.node"
unpack "$here/libraries.tar.xz" "$work/libraries.tar"
unpack "$here/fixtures.tar.xz" "$work/fixtures.tar"
tar -C "$work" -xf "$work/fixtures.tar"
mkdir -p "$work/all" "$work/libraries"
tar -C "$work/all" -xf "$work/libraries.tar"

say "driver"
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit --format=csv 2>&1 | tee "$out/machine.csv"
ls /dev/nvidia* /dev/dri 2>/dev/null | tr '\n' ' '
echo
# Of the packed libraries those that the system does not have: its own go first.
known=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true)
for library in "$work"/all/*.so*; do
  name=$(basename "$library")
  case $known in *"$name"*) ;; *) cp -a "$library" "$work/libraries/" ;; esac
done
echo "packed libraries in use: $(cd "$work/libraries" && echo *)"
# Where the driver's own libraries lie, if not where the loader looks; no search takes longer than a few seconds.
seek() { # seek TEST...: below the folders where drivers are put
  for folder in /usr/local/nvidia /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/lib /usr/share /etc /opt /run/nvidia; do
    if [ -d "$folder" ]; then timeout 3 find "$folder" "$@" -print 2>/dev/null; fi
  done | sort -u
}
drivers=$(seek \( -name 'libGLX_nvidia.so.0' -o -name 'libEGL_nvidia.so.0' -o -name 'libnvidia-gl*.so*' -o -name 'libnvidia-gpucomp.so*' -o -name 'libnvidia-tls.so*' \))
printf 'driver libraries:\n%s\n' "${drivers:-  none}"
icds=$(seek -name 'nvidia_icd*.json')
for icd in $icds; do printf '%s: %s\n' "$icd" "$(tr -d '\n ' <"$icd")"; done
paths="$work/libraries"
for library in $drivers; do
  folder=$(dirname "$library")
  case ":$paths:" in *":$folder:"*) ;; *) paths="$paths:$folder" ;; esac
done
export LD_LIBRARY_PATH="$paths${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if command -v ldd >/dev/null; then
  for library in $drivers; do ldd "$library" 2>/dev/null | grep 'not found' | sed "s|^|$library: |"; done
fi

# Drivers to try, the first that gives an adapter is taken: the one asked for, those found, then the libraries themselves: that of EGL
# needs no X libraries.
candidates=${VK_DRIVER_FILES:-}
if [ -z "$candidates" ]; then
  candidates=$icds
  for name in libGLX_nvidia.so.0 libEGL_nvidia.so.0; do
    path=$(printf '%s\n' "$drivers" | grep "$name" | head -1)
    printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}' "${path:-$name}" >"$work/$name.json"
    candidates="$candidates $work/$name.json"
  done
fi
export XDG_RUNTIME_DIR="$work" HOME="${HOME:-$work}"
chosen=
for candidate in $candidates; do
  say "adapter by $candidate"
  if VK_DRIVER_FILES=$candidate VK_LOADER_DEBUG=error timeout 25 "$node" "$here/bench.mjs" --dawn "$work/dawn.node" \
    --seconds 20 "$@" --only adapter 2>&1 | tee "$out/adapter.log" && ! grep -q '^FAIL' "$out/adapter.log"; then
    chosen=$candidate
    break
  fi
done
if [ -z "$chosen" ]; then
  say "no driver gives an adapter; what the loader says"
  VK_DRIVER_FILES=$(echo $candidates | tr ' ' ':') VK_LOADER_DEBUG=all timeout 20 "$node" "$here/bench.mjs" --dawn "$work/dawn.node" \
    --seconds 15 "$@" --only adapter 2>&1 | tail -60 | tee "$out/loader.log"
  exit 1
fi
export VK_DRIVER_FILES=$chosen

# What is left of the seconds: a quarter of them at most for a process that opens alone, the rest for all.
left() { echo $((seconds - SECONDS > 5 ? seconds - SECONDS : 5)); }
part=$(($(left) / 4))
[ "$part" -gt 40 ] && part=40
say "opened by a process of its own: whatever the driver keeps on disk is not there yet"
timeout "$part" "$node" "$here/bench.mjs" --dawn "$work/dawn.node" --seconds "$part" "$@" --only open 2>&1 | tee "$out/open.log"
say "all"
rest=$(left)
timeout $((rest + 5)) "$node" "$here/bench.mjs" --dawn "$work/dawn.node" --seconds "$rest" --json "$out/webgpu.json" \
  --fixtures "$work/fixtures" "$@" 2>&1 | tee "$out/webgpu.log"
code=${PIPESTATUS[0]}
say "done"
exit "$code"
