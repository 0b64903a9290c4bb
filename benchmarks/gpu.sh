#!/usr/bin/env bash
# All GPU measurements and a short real training of the GPU recipe on rendered data, in under nine minutes on one card:
#   bash benchmarks/gpu.sh [--output FOLDER] [--minutes N]
#   bash benchmarks/gpu.sh --small        the same in miniature, on the CPU too
# Needs PyTorch, NumPy, OpenCV, PyArrow, pandas and pydantic; neither DVC nor Jupyter.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" POSEDISTILL_ROOT="$root" OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
exec "$python" -m posedistill benchmark gpu --output "$root/benchmarks" "$@"
