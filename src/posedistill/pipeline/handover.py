"""A folder to hand a model over: safetensors, mmpose's layout, ONNX, what it was made from, and its model card.

The pipeline's own files leave out git revision, data hash and metrics, so that equal runs give equal files; they are
added here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from posedistill.data.geometry import BOX_PADDING
from posedistill.errors import UserError
from posedistill.evaluation.calibration import METADATA_KEY, Calibration, read_calibration
from posedistill.export.model_card import CardFacts, model_card
from posedistill.export.onnx_file import export_onnx
from posedistill.export.precision import with_metadata
from posedistill.files import sha256_file, write_atomic
from posedistill.inference.weights import padding_of
from posedistill.models.checkpoint import save_checkpoint
from posedistill.models.macs import parameters_and_macs
from posedistill.models.rtmpose import RTMPose
from posedistill.models.weights_file import read_weights
from posedistill.params import ROLES, Params, to_settings
from posedistill.pipeline.evaluation_files import METRICS
from posedistill.pipeline.provenance import TRAINED_ON, data_hash, git_revision, kinds_of

CARD, METADATA = "README.md", "metadata.json"
CALIBRATED = {"stage2": "models/student.safetensors"}  # model → its weights with their calibration
UNKNOWN: dict[str, Any] = {"settings": {}, "metrics": None, "data_hash": None, "git_revision": None}


def output_files(out: Path, name: str) -> list[Path]:
    """All files that `hand_over` writes: three of weights, then METADATA and CARD."""
    return [out / file for file in (f"{name}.safetensors", f"{name}-mmpose.pth", f"{name}.onnx", METADATA, CARD)]


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
        root: the project, in which metrics (reports/metrics/<name>.json), dvc.lock and the git revision are looked up.
        known: for weights from elsewhere, the metadata of their file: if this project exported it, they are passed on.

    Raises:
        UserError: `out` holds a README.md of something else, or `known` is not what this project writes.
    """
    out, root = Path(out), Path(root)
    files = output_files(out, name)
    if (out / CARD).exists() and not (out / METADATA).exists():
        raise UserError(f"{out / CARD}: would be overwritten, and is no model card; choose another folder")
    metadata: dict[str, Any] = {"name": name, **UNKNOWN}
    if params is not None:
        metadata["settings"] = to_settings(params)
        metadata["metrics"] = _metrics(root, name)
        metadata["data_hash"] = data_hash(root)
        metadata["git_revision"] = git_revision(root)
    elif known and known.get("settings"):  # without settings, the name says nothing about the training
        metadata |= known
    padding = padding_of(metadata if params is not None else known or {}) or BOX_PADDING
    calibration = calibration_of(model, name, root) if params is not None else read_calibration(known or {}, name)
    if calibration is not None:
        metadata[METADATA_KEY] = calibration.to_json()
    if kinds := kinds_of(metadata if metadata["settings"] else known or {}):
        metadata[TRAINED_ON] = ",".join(sorted(kinds))
    about, card = _about(model, name, metadata, padding, files[:3], calibration)
    save_checkpoint(model, files[0], "own", metadata)
    save_checkpoint(model, files[1], "mmpose", metadata)
    export_onnx(model, files[2], opset, padding)
    if entries := {key: metadata[key] for key in (METADATA_KEY, TRAINED_ON) if isinstance(metadata.get(key), str)}:
        write_atomic(files[2], with_metadata(files[2].read_bytes(), entries))
    about["sha256"] = {file.name: sha256_file(file) for file in files[:3]}
    write_atomic(out / METADATA, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    write_atomic(out / CARD, card)
    return files


def calibration_of(model: RTMPose, name: str, root: Path = Path()) -> Calibration | None:
    """The calibration that the pipeline's export stage made of model `name`; None if it is of other weights."""
    path = root / CALIBRATED.get(name, "")
    if name not in CALIBRATED or not path.is_file():
        return None
    content, metadata = read_weights(path)
    weights = model.state_dict()
    same = set(content) == set(weights) and all(torch.equal(weights[key].cpu(), content[key]) for key in weights)
    return read_calibration(metadata, str(path)) if same else None


def _about(
    model: RTMPose,
    name: str,
    metadata: Mapping[str, Any],
    padding: float,
    files: list[Path],
    calibration: Calibration | None,
) -> tuple[dict[str, Any], str]:
    """The content of METADATA (without hashes) and the model card."""
    parameters, macs = parameters_and_macs(model)
    try:
        card = model_card(
            CardFacts(
                name=name,
                role=metadata["name"] if metadata["settings"] else "",
                size=model.size.name,
                input_size=model.input_size,
                parameters=parameters,
                macs=macs,
                settings=metadata["settings"],
                metrics=metadata["metrics"],
                padding=padding,
                data_hash=metadata["data_hash"],
                revision=metadata["git_revision"],
                files=tuple(file.name for file in files),
                calibrated_on="" if calibration is None else f"{calibration.persons} persons of {calibration.data}",
            )
        )
    except (TypeError, AttributeError, KeyError, ValueError) as error:  # metadata are untrusted
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{name}: the file's metadata are not as this project writes them ({reason})") from error
    size = {"size": model.size.name, "input_size": list(model.input_size), "parameters": parameters, "macs": macs}
    return {**metadata, **size}, card


def _metrics(root: Path, name: str) -> Mapping[str, Any] | None:
    path = root / METRICS / f"{name}.json"
    if name not in ROLES or not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run  dvc repro evaluate@{name}  again") from error
