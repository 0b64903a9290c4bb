"""A folder to hand a model over: safetensors, mmpose's layout, ONNX, what it was made from, and its model card.

What the pipeline's own files leave out, so that equal runs give equal files, stands here: git revision, hash of the
data, metrics.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError
from posedistill.export.model_card import CardFacts, model_card
from posedistill.export.onnx_file import export_onnx
from posedistill.files import sha256_file, write_atomic
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.macs import count_macs, count_parameters
from posedistill.models.rtmpose import RTMPose
from posedistill.params import ROLES, Params, read_settings, to_settings
from posedistill.pipeline.evaluation_files import METRICS
from posedistill.pipeline.origin import md5_file, padding_of

CARD, METADATA = "README.md", "metadata.json"


def hand_over(
    model: RTMPose,
    name: str,
    out: str | Path,
    params: Params | None,
    root: str | Path = ".",
    opset: int = 17,
    known: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the folder `out` for `model` called `name` and return its files.

    Args:
        params: the settings that made the model; None for weights from elsewhere.
        known: for weights from elsewhere, the metadata of their file: if this project exported it, they are handed on.
        root: the project, in which metrics (reports/metrics/<name>.json), dvc.lock and the git revision are looked up.
    """
    out, root = Path(out), Path(root)
    metadata: dict[str, Any]
    if params is not None:
        metadata = {
            "name": name,
            "settings": to_settings(params),
            "metrics": _metrics(root, name),
            "data_hash": data_hash(root),
            "git_revision": git_revision(root),
        }
    else:
        # The name of a foreign file says nothing of how it was trained; that of a file from here does.
        ours = known if known and known.get("settings") else {}
        metadata = {"name": name, "settings": {}, "metrics": None, "data_hash": None, "git_revision": None, **ours}
    files = [out / f"{name}.safetensors", out / f"{name}-mmpose.pth", out / f"{name}.onnx"]
    save_checkpoint(model, files[0], "own", metadata)
    save_checkpoint(model, files[1], "mmpose", metadata)
    padding = padding_of(metadata["settings"]) or BOX_PADDING
    export_onnx(model, files[2], opset, padding)
    facts = CardFacts(
        name=name,
        role=metadata["name"] if metadata["settings"] else "",
        size=model.size.name,
        input_size=model.input_size,
        parameters=count_parameters(model),
        macs=count_macs(model),
        settings=metadata["settings"],
        metrics=metadata["metrics"],
        padding=padding,
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


def check_fresh(name: str, root: str | Path = ".") -> None:
    """UserError if model, metrics or settings are not those of the last run that dvc.lock records: a card would state
    numbers of another model, an experiment would mix two. `prepare` for the settings of the data alone."""
    root = Path(root)
    lock = root / "dvc.lock"
    stages = read_settings(lock).get("stages", {}) if lock.is_file() else {}
    evaluated = stages.get(f"evaluate@{name}", {})
    files = {entry["path"]: entry.get("md5") for kind in ("deps", "outs") for entry in evaluated.get(kind, [])}
    for path in (f"models/{name}.safetensors", str(METRICS / f"{name}.json")):
        if path in files and (root / path).is_file() and files[path] != md5_file(root / path):
            raise UserError(f"{path} is not the one that was evaluated (dvc.lock): run  dvc repro  first")
    settings = read_settings(root / "params.yaml")
    for stage in ("prepare", name):
        for key, value in stages.get(stage, {}).get("params", {}).get("params.yaml", {}).items():
            now: Any = settings
            for part in key.split("."):
                now = now.get(part) if isinstance(now, Mapping) else None
            if now != value:
                raise UserError(
                    f"params.yaml: {key} is not what {name} was made with (dvc.lock): run  dvc repro  first"
                )


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
