"""`python -m posedistill train`: one stage's training without its notebook, and what torchrun starts."""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from posedistill.errors import UserError
from posedistill.files import refuse_overwrite
from posedistill.params import ROLES, Params, from_settings, load_params

if TYPE_CHECKING:
    from posedistill.training import Paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Train one model as its pipeline stage does; prepared/ must exist."
    parser.add_argument("--stage", required=True, choices=ROLES)
    parser.add_argument("--params", default="params.yaml", help="settings, YAML or JSON (default: %(default)s)")
    parser.add_argument("--name", help="name of the model (default: the stage's)")
    parser.add_argument("--output", help="file of the model (default: models/NAME.safetensors)")
    parser.add_argument("--curves", help="file of the curves (default: reports/curves/NAME.tsv)")
    parser.add_argument("--teacher", help="teacher of stage 1 (default: models/teacher.safetensors)")
    parser.add_argument("--init", help="model that stage 2 starts from (default: by the setting stage2.init)")
    parser.add_argument("--prepared", help="folder of the prepared data (default: prepared)")


def run(args: argparse.Namespace) -> int:
    from posedistill.training import Paths, train_stage

    fields = [field.name for field in dataclasses.fields(Paths)]
    paths = Paths(**{name: getattr(args, name) for name in fields if getattr(args, name) is not None})
    params = _params(Path(args.params), args.stage)
    refuse_overwrite([paths.model_path(args.stage), paths.curves_path(args.stage)], *_inputs(args, params, paths))
    result = train_stage(args.stage, params, paths)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{result.model_path}  {result.curves_path}")
    return 0


def _inputs(args: argparse.Namespace, params: Params, paths: "Paths") -> list[str | None]:
    """The files and folders that the stage reads."""
    if args.stage == "stage2":
        return [args.params, paths.prepared, paths.init]
    model = params.teacher if args.stage == "teacher" else params.student
    weights = [model.backbone]
    weights += [params.teacher.checkpoint, params.teacher.init] if args.stage == "teacher" else []
    weights += (params.teacher.more or ()) if args.stage == "stage1" else ()
    teacher = paths.teacher if args.stage == "stage1" else None
    return [args.params, paths.prepared, teacher, *(one.path if one else None for one in weights)]


def _params(path: Path, stage: str) -> Params:
    """All settings of a file; from JSON possibly only those that the stage lists."""
    if path.suffix != ".json":
        return load_params(path)
    try:
        return from_settings(json.loads(path.read_text()), stage)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as settings ({error})") from error


def main() -> int:
    """What torchrun starts in every process."""
    parser = argparse.ArgumentParser(prog="posedistill train")
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
