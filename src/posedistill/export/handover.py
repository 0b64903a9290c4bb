"""A folder to hand a model over: safetensors, mmpose's layout, ONNX, what it was made from, and its model card.

What the pipeline's own files leave out, so that equal runs give equal files, stands here: git revision, hash of the
data, metrics.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill.errors import UserError
from posedistill.evaluation.files import METRICS
from posedistill.export.model_card import CardFacts, model_card
from posedistill.export.onnx_file import export_onnx
from posedistill.files import sha256_file, write_atomic
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.macs import count_macs, count_parameters
from posedistill.models.rtmpose import RTMPose
from posedistill.params import ROLES, Params, read_settings, to_settings

CARD, METADATA = "README.md", "metadata.json"


def hand_over(
    model: RTMPose, name: str, out: str | Path, params: Params | None, root: str | Path = ".", opset: int = 17
) -> list[Path]:
    """Write the folder `out` for `model` called `name` and return its files.

    Args:
        params: the settings that made the model; None for weights from elsewhere.
        root: the project, in which metrics (reports/metrics/<name>.json), dvc.lock and the git revision are looked up.
    """
    out, root = Path(out), Path(root)
    metrics = _metrics(root, name) if params is not None else None
    settings = to_settings(params) if params is not None else {}
    metadata: dict[str, Any] = {
        "name": name,
        "settings": settings,
        "metrics": metrics,
        "data_hash": data_hash(root) if params is not None else None,
        "git_revision": git_revision(root) if params is not None else None,
    }
    files = [out / f"{name}.safetensors", out / f"{name}-mmpose.pth", out / f"{name}.onnx"]
    save_checkpoint(model, files[0], "own", metadata)
    save_checkpoint(model, files[1], "mmpose", metadata)
    export_onnx(model, files[2], opset)
    facts = CardFacts(
        name=name,
        size=model.size.name,
        input_size=model.input_size,
        parameters=count_parameters(model),
        macs=count_macs(model),
        settings=settings,
        metrics=metrics,
        data_hash=metadata["data_hash"],
        revision=metadata["git_revision"],
        files=tuple(file.name for file in files),
    )
    about = {
        **metadata,
        "size": facts.size,
        "input_size": list(facts.input_size),
        "parameters": facts.parameters,
        "macs": facts.macs,
        "sha256": {file.name: sha256_file(file) for file in files},
    }
    write_atomic(out / METADATA, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    write_atomic(out / CARD, model_card(facts))
    return [*files, out / METADATA, out / CARD]


def git_revision(root: str | Path) -> str | None:
    """The commit of the project, with `-dirty` where tracked files differ from it; None without git."""
    try:
        revision = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("-dirty" if changed else "")


def data_hash(root: str | Path) -> str | None:
    """DVC's hash of the prepared data, from dvc.lock; None where nothing was prepared by DVC."""
    path = Path(root) / "dvc.lock"
    if not path.is_file():
        return None
    outs = read_settings(path).get("stages", {}).get("prepare", {}).get("outs", [])
    return next((out.get("md5") for out in outs if out.get("path") == "prepared"), None)


def _metrics(root: Path, name: str) -> Mapping[str, Any] | None:
    path = root / METRICS / f"{name}.json"
    if name not in ROLES or not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error}); run  dvc repro evaluate@{name}  again") from error


def _git(root: str | Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
