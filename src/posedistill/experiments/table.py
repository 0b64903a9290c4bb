"""A table of all experiments: settings that differ from the workspace's, and results of both distillation stages.

The first row is the workspace, a run of this machine. Committed results are left out: if another machine made them,
differences would mix the effect of the settings with that of the processor.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posedistill.experiments import engine
from posedistill.params import setting
from posedistill.pipeline.evaluation_files import METRICS
from posedistill.pipeline.provenance import locked_settings

MODELS = ("stage1", "stage2")
WIDTH = 120
NAMES = 32  # characters of the longest name
HEAD = ("experiment", "settings that differ", "stage 1: AP", "OKS", "stage 2: AP", "OKS")

Reader = Callable[[str], str]  # path → text


def experiments_table() -> str:
    """Lines of at most WIDTH characters: name, settings, AP and mean OKS of the whole body in %.

    "–" where an experiment did not evaluate that model with its settings.
    """
    with engine.opened() as repo:
        own = _parsed(_workspace("params.yaml"))
        rows = [("this workspace", "", *_results(_workspace))]
        for name, revision, _ in sorted(engine.experiments(repo)):
            reader = _of_revision(repo, revision)
            rows.append((name, differences(own, _parsed(reader("params.yaml"))), *_results(reader)))
    return aligned(rows)


def aligned(rows: list[tuple[str, ...]]) -> str:
    """`rows` below HEAD, in columns; long settings are cut to keep lines within WIDTH."""
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    widths[0] = min(widths[0], NAMES)
    widths[1] = min(widths[1], WIDTH - sum(widths) + widths[1] - 2 * (len(HEAD) - 1))
    lines = []
    for row in [HEAD, *rows]:
        left = [text if len(text) <= width else f"{text[: width - 1]}…" for text, width in zip(row[:2], widths)]
        cells = [f"{text:{width}}" for text, width in zip(left, widths)]
        cells += [f"{text:>{width}}" for text, width in zip(row[2:], widths[2:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def differences(own: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> str:
    """The settings in which `other` differs from `own`: "loss.alpha 0.001, student.seed 1"."""
    found = []
    for key in dict.fromkeys((*other, *own)):
        mine, its = own.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(its, Mapping):
            found.append(differences(mine, its, f"{prefix}{key}."))
        elif mine != its:
            found.append(f"{prefix}{key} {its if isinstance(its, str) else json.dumps(its)}")
    return ", ".join(sorted(filter(None, found), key=len))  # long ones last: they may be cut


def is_current(lock: Mapping[str, Any], settings: Mapping[str, Any], stage: str) -> bool:
    """Whether `stage` and all stages before it last ran with `settings`, by the stages of dvc.lock."""
    entry = lock.get(stage)
    if entry is None or any(setting(settings, key) != value for key, value in locked_settings(lock, stage).items()):
        return False
    makers = {out["path"]: (name, out.get("md5")) for name, one in lock.items() for out in one.get("outs", [])}
    return all(
        makers[dep["path"]][1] == dep.get("md5") and is_current(lock, settings, makers[dep["path"]][0])
        for dep in entry.get("deps", [])
        if dep["path"] in makers
    )


def _results(reader: Reader) -> list[str]:
    lock, settings = _parsed(reader("dvc.lock")).get("stages", {}), _parsed(reader("params.yaml"))
    numbers = []
    for model in MODELS:
        text = reader(str(METRICS / f"{model}.json")) if is_current(lock, settings, f"evaluate@{model}") else ""
        metrics = json.loads(text) if text else None
        values = (metrics["wholebody"]["AP"], metrics["mean_oks"]["wholebody"]) if metrics else (None, None)
        numbers += ["–" if value is None else f"{100 * value:.1f}" for value in values]
    return numbers


def _parsed(text: str) -> dict[str, Any]:
    """YAML by libyaml, ten times as fast as DVC's reader, with the floats of YAML 1.2 (5e-05)."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+e[-+]?\d+$", re.I), "-+0123456789")
    return yaml.load(text, Loader) or {}


def _workspace(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""


def _of_revision(repo: Any, revision: str) -> Reader:
    files = repo.scm.get_fs(revision)

    def read(path: str) -> str:
        if not files.exists(path):
            return ""
        with files.open(path, encoding="utf-8") as file:
            return file.read()

    return read
