"""A project of a few lines with the stages' names of the real one: experiments run in it within seconds."""

import os
import subprocess
import sys
from pathlib import Path

TRAIN = """
import json, pathlib, sys, time
import yaml

params = yaml.safe_load(open("params.yaml"))
alpha, seed = float(params["loss"]["alpha"]), params["student"]["seed"]
if alpha < 0:
    sys.exit("alpha is negative")
if alpha > 100:
    pathlib.Path(params["marker"]).touch()
    time.sleep(100)
pathlib.Path("models").mkdir(exist_ok=True)
pathlib.Path("models/stage1.safetensors").write_text(json.dumps([alpha, seed]))
"""

EVALUATE = """
import json, pathlib

alpha, seed = json.load(open("models/stage1.safetensors"))
value = 0.3 + alpha + seed / 100
parts = ("wholebody", "body", "foot", "face", "lefthand", "righthand", "hand")
metrics = {part: {"AP": value, "AR": value} for part in parts} | {"mean_oks": dict.fromkeys(parts, value)}
persons = [{"annotation_id": i, "image_id": i, "oks": [value + i / 1000] * 6} for i in range(20)]
for path, content in (
    ("reports/metrics/stage1.json", metrics | {"val_set": "rendered"}),
    ("predictions/stage1/rendered-oks.json", {"parts": parts[:6], "persons": persons}),
):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(json.dumps(content))
"""

DVC = """
stages:
  stage1:
    cmd: python train.py
    deps: [train.py]
    params: [loss.alpha, student.seed]
    outs: [models/stage1.safetensors]
  evaluate:
    foreach: {stage1: student}
    do:
      cmd: python evaluate.py
      deps: [evaluate.py, "models/${key}.safetensors"]
      outs: ["predictions/${key}"]
      plots:
        - reports/metrics/${key}.json: {cache: false}
"""

PARAMS = """
student: {seed: 0}
stage2: {seed: 0}
loss: {alpha: 0.01, beta: 1.0}
evaluate: {bootstrap: 50, seed: 0}
marker: MARKER
"""


def make(folder: Path) -> None:
    """Write the project into `folder`, run it, and commit all."""
    folder.mkdir()
    files = {
        "train.py": TRAIN,
        "evaluate.py": EVALUATE,
        "dvc.yaml": DVC,
        "params.yaml": PARAMS.replace("MARKER", str(folder.parent / "trains")),
        ".gitignore": "/models\n/predictions\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text.lstrip())
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in (
        "git init --quiet",
        "git config user.name Test",
        "git config user.email test@example.org",
        "dvc init --quiet",
        "dvc config core.autostage false",
        "dvc repro --quiet",
        "git add --all",
        "git commit --quiet --message start",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, env=environment)
