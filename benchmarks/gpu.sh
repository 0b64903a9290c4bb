#!/usr/bin/env bash
# All figures of a GPU, and the recipe gpu-short in the time that is left; ends within N minutes (default 8):
#   bash benchmarks/gpu.sh [--minutes N] [--only figures|training] [--output FOLDER] [--report FOLDER] [--work FOLDER]
#   bash benchmarks/gpu.sh --small        the same in miniature, on the CPU too
# --only training gives the recipe all of the time. --work keeps data and checkpoints, to continue from.
#
# Needs PyTorch, NumPy, OpenCV, PyArrow, pandas, Pillow, safetensors, tqdm, matplotlib, seaborn and pydantic; neither DVC
# nor Jupyter. What a machine without network lacks is taken from wheels/, for example, made elsewhere:
#   pip download --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 -d wheels pydantic
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" POSEDISTILL_ROOT="$root" OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
if compgen -G "$root/wheels/*.whl" >/dev/null; then
    site="$(mktemp -d)"
    trap 'rm -rf "$site"' EXIT
    timeout 60 "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$root"/wheels/*.whl
    PYTHONPATH="$PYTHONPATH:$site"
fi
"$python" -m posedistill benchmark gpu --output "$root/benchmarks" --report "$root/reports/gpu" --elapsed "$SECONDS" "$@"
