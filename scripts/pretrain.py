"""Retrain the starting weights in assets/backbones:  python scripts/pretrain.py [student] [teacher]

Takes hours on two cores; interrupted, it continues where it stopped. Settings: recipes/pretrain.yaml.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

from posedistill import project
from posedistill.errors import UserError
from posedistill.files import write_atomic
from posedistill.pipeline.prepare import prepare
from posedistill.pipeline.pretrain import enter_workspace, pretrain

ROLES = ("student", "teacher")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roles", nargs="*", default=ROLES, choices=ROLES, help="which backbones (default: both)")
    roles = parser.parse_args().roles
    root = project.root()
    target = root / "assets" / "backbones"
    target.mkdir(parents=True, exist_ok=True)
    params = enter_workspace(root, root / "runs")
    if not Path("prepared/report.json").is_file():
        prepare(params)
    for role in roles:
        size = getattr(params, role).size
        began = time.monotonic()
        about = pretrain(params, role, target / f"cspnext-{size}-body-rendered.safetensors")
        minutes = (time.monotonic() - began) / 60
        command = f"make pretrain (python scripts/pretrain.py {role})"
        about = {**about, "command": command, "minutes": round(minutes), "hardware": hardware()}
        write_atomic(target / f"cspnext-{size}-body-rendered.json", json.dumps(about, indent=1) + "\n")
        print(json.dumps(about, indent=1))
    return 0


def hardware() -> str:
    """The processor by name, as a note of where a time was measured."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
