"""`make stress`: the card of the pipeline's four models, and whether it is of those in the folder."""

import json
from pathlib import Path

import pytest

from posedistill.errors import UserError
from posedistill.experiments import stress
from posedistill.models import save_checkpoint
from posedistill.stress.shots import AXES

BODY = Path(__file__).parents[2] / "assets" / "body"


def test_the_card_of_the_pipelines_models(random_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(stress, "PERSONS", 2)
    monkeypatch.setattr(stress, "AXES", {"shift": AXES["shift"]})
    monkeypatch.setattr(stress, "BODY", str(BODY))
    with pytest.raises(UserError, match=r"stage1\.safetensors: there is no such file"):
        save_checkpoint(random_model(), "models/baseline.safetensors")
        stress.run(jobs=1)
    with pytest.raises(UserError, match="run  make stress"):
        stress.read_card()
    for seed, name in enumerate(stress.MODELS):
        save_checkpoint(random_model(seed=seed), f"models/{name}.safetensors")
    stress.run(jobs=1)
    card, note = stress.read_card()
    assert card["first"] == "baseline" and list(card["models"]) == list(stress.MODELS) and note == ""
    assert card == json.loads((tmp_path / "reports" / "metrics" / "stress.json").read_text())
    save_checkpoint(random_model(seed=9), "models/stage2.safetensors")
    assert "(stage2)" in stress.read_card()[1]  # numbers of other weights
    Path("models/stage2.safetensors").unlink()
    assert stress.read_card()[1] == ""  # as in a fresh clone, which has no models
