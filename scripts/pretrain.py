"""Retrain the starting weights in assets/:  python scripts/pretrain.py [student] [teacher] [whole]

student and teacher are backbones, whole is a teacher for all 133 keypoints. Takes hours on two cores; interrupted, it
continues where it stopped. Settings: recipes/pretrain.yaml and recipes/pretrain-whole.yaml.
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
from posedistill.pipeline.pretrain import What, enter_workspace, pretrain

# What is trained → its recipe, its file below assets/.
KINDS: dict[What, tuple[str, str]] = {
    "student": ("pretrain", "backbones/cspnext-{size}-body-rendered"),
    "teacher": ("pretrain", "backbones/cspnext-{size}-body-rendered"),
    "whole": ("pretrain-whole", "teachers/rtmpose-{size}-wholebody-rendered"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="what to train; default: all"
    )
    root = project.root()
    for kind in parser.parse_args().kinds:
        recipe, name = KINDS[kind]
        params = enter_workspace(root, root / "runs", recipe)
        if not Path("prepared/report.json").is_file():
            prepare(params)
        size = params.student.size if kind == "student" else params.teacher.size
        target = root / "assets" / f"{name.format(size=size)}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        about = pretrain(params, kind, target)
        minutes = (time.monotonic() - began) / 60
        command = f"make pretrain (python scripts/pretrain.py {kind})"
        about = {**about, "command": command, "minutes": round(minutes), "hardware": hardware()}
        write_atomic(target.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
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
