"""The stress card of the pipeline's models: does distillation help everywhere, or only at some steps?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.files import dumps_json, sha256_file, write_atomic
from posedistill.pipeline.evaluation_files import METRICS
from posedistill.stress.card import judge_persons, make_card
from posedistill.stress.judge import Setting
from posedistill.stress.shots import AXES

MODELS = ("baseline", "stage1", "stage2", "teacher")  # the others are compared with the first
PERSONS, SEED = 100, 0
BODY = "assets/body"
FILE = METRICS / "stress.json"


def run(jobs: int) -> None:
    """Judge the models and write reports/metrics/stress.json. Finished persons are kept in the checkpoint folder."""
    setting = Setting(BODY, SEED, tuple(AXES), flip_test=False, device="cpu")
    judged = judge_persons(
        setting, [_weights(name) for name in MODELS], PERSONS, project.checkpoints() / "stress", jobs
    )
    write_atomic(FILE, dumps_json(make_card(setting, judged), pretty=False))


def read_card() -> tuple[Mapping[str, Any], str]:
    """The card, and a note if it is not of the models in this folder."""
    try:
        card = json.loads(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{FILE}: there is no such file; run  make stress") from None
    here = {name: _weights(name) for name in card["models"] if _weights(name).is_file()}
    other = [name for name, path in here.items() if sha256_file(path) != card["models"][name]["sha256"]]
    if other:
        return card, f"These numbers are of other weights than those in models/ ({', '.join(other)}): run  make stress"
    return card, ""


def _weights(model: str) -> Path:
    return Path("models") / f"{model}.safetensors"
