"""What dvc.yaml says about a stage, and the settings that the stage lists there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posedistill import project
from posedistill.errors import UserError
from posedistill.params import Params, from_settings, read_settings


def read_stage(stage: str, folder: str | Path = ".") -> dict[str, Any]:
    """The entry of a stage in dvc.yaml, such as evaluate@stage1 for one of a `foreach`, with ${key} and ${item} filled.

    folder: the project. UserError if there is no such stage; the one name of a `foreach` means its first item.
    """
    name, _, key = stage.partition("@")
    stages = read_settings(Path(folder) / "dvc.yaml").get("stages")
    if not isinstance(stages, Mapping) or name not in stages:
        raise UserError(f"dvc.yaml has no stage {name}, allowed: {', '.join(stages or ())}")
    entry = stages[name]
    items = entry.get("foreach")
    if items is None:
        if key:
            raise UserError(f"{stage}: stage {name} has no items, run it as {name}")
        return dict(entry)
    items = items if isinstance(items, Mapping) else {str(item): item for item in items}
    if key not in items:
        raise UserError(f"{stage}: found {key or 'no item'}, allowed: {', '.join(f'{name}@{one}' for one in items)}")
    return _filled(entry["do"], {"key": key, "item": items[key]})


def _filled(value: Any, items: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {_filled(name, items): _filled(one, items) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, items) for one in value]
    if isinstance(value, str):
        for name, item in items.items():
            for leaf, one in item.items() if isinstance(item, Mapping) else ():
                value = value.replace(f"${{{name}.{leaf}}}", str(one))
            value = value.replace(f"${{{name}}}", str(item))
    return value


def stage_settings(stage: str, folder: str | Path | None = None) -> dict[str, Any]:
    """The settings that dvc.yaml lists for `stage`, with their values in params.yaml.

    folder: holds both files; default: the project's root.
    """
    folder = Path(folder) if folder is not None else project.root()
    settings = read_settings(folder / "params.yaml")
    listed: dict[str, Any] = {}
    for key in read_stage(stage, folder).get("params", []):
        section, _, leaf = key.partition(".")
        values = settings.get(section)
        if values is None or (leaf and leaf not in values):
            raise UserError(f"{key}: stage {stage} needs it, but params.yaml does not have it")
        if leaf:
            listed.setdefault(section, {})[leaf] = values[leaf]
        else:
            listed[section] = values
    return listed


def stage_params(stage: str, settings: Mapping[str, Any] | None = None) -> Params:
    """Params as one stage sees them: from `settings`, or (None) from dvc.yaml and params.yaml of the project.

    `runtime` says how, not what: a stage need not list it, so what `settings` lacks of it is read from params.yaml.
    """
    settings = dict(stage_settings(stage) if settings is None else settings)
    runtime = read_settings(project.root() / "params.yaml").get("runtime", {})
    settings["runtime"] = {**(runtime if isinstance(runtime, Mapping) else {}), **settings.get("runtime", {})}
    return from_settings(settings, stage)
