#!/usr/bin/env bash
# What a GPU does for serving and for training, as one JSON; for a bare machine with an NVIDIA GPU, PyTorch and no network.
#
#   benchmarks/gpu.sh pack FOLDER [PYTHON]     where there is a network: what such a machine lacks, for its Python (3.12)
#   benchmarks/gpu.sh run FOLDER [OPTION...]   there: unpacks FOLDER and measures, in 8 minutes; `--help` lists the options
set -euo pipefail
cd "$(dirname "$0")/.."

pack() {
  mkdir -p "$1"
  # of the serving install all but numpy, which PyTorch's own must remain; onnxruntime is the one with CUDA
  sed -n 's/^\([a-z0-9-]*\(\[[a-z, ]*\]\)\?==[^ ;]*\).*/\1/p' requirements/serve.txt |
    grep -v -e '^numpy=' -e '^flatbuffers=' -e '^protobuf=' -e '^packaging=' |
    sed 's/^onnxruntime=/onnxruntime-gpu=/' >"$1/wanted.txt"
  local platforms=()
  for glibc in 39 34 28 27 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
  python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "${2:-3.12}" \
    "${platforms[@]}" --platform manylinux2014_x86_64 --dest "$1" --requirement "$1/wanted.txt"
  python3 -m pip wheel --quiet --no-deps --wheel-dir "$1" .
  (cd "$1" && apt-get download -qq wrk libluajit-5.1-2 libluajit-5.1-common)
}

run() {
  local packed=$1
  shift
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  if compgen -G "$packed/*.whl" >/dev/null; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$packed"/*.whl
    export PYTHONPATH="$site"
  fi
  for package in "$packed"/*.deb; do [ -e "$package" ] && dpkg -x "$package" "$site/debian"; done
  export PATH="$PATH:$site/debian/usr/bin"
  # the load generator's, and CUDA's where PyTorch has brought it
  libraries=$(python3 -c 'import glob, sysconfig; print(*glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib"), sep=":")')
  export LD_LIBRARY_PATH="$site/debian/usr/lib/x86_64-linux-gnu:$libraries:${LD_LIBRARY_PATH:-}"
  python3 -m benchmarks.gpu "$@"
}

case "${1:-}" in
  pack | run) "$@" ;;
  *) sed -n '2,5p' "$0" >&2 && exit 2 ;;
esac
