"""Compare the regenerated results with the committed ones: byte for byte on the same kind of processor; elsewhere
within the tolerances below, because training amplifies the last bits of float arithmetic.

    python scripts/verify.py [REVISION]     working tree against a commit (default: HEAD); exit code 1 if they differ
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from posedistill.params import ROLES  # noqa: E402
from posedistill.pipeline.provenance import locked_stages  # noqa: E402

# Largest allowed difference. AP and AR move more than mean OKS: they count persons that cross thresholds.
TOLERANCES = {"mean_oks": 0.02, "AP": 0.03, "AR": 0.03}
EXACT = ("parameters", "macs", "images", "persons")
METRICS = [f"reports/metrics/{model}.json" for model in ROLES]
# Single hands and size ranges hold so few persons that one of them is a large step.
PARTS = ("wholebody", "body", "foot", "face", "hand")


def git(*arguments: str, root: Path = ROOT) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def differences(name: str, committed: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """One line for each figure of a metrics file that differs by more than its tolerance."""
    for key in EXACT:
        if committed.get(key) != found.get(key):
            yield f"{name}: {key} is {found.get(key)}, committed {committed.get(key)}"
    for part in PARTS:
        for section, leaf in ((part, "AP"), (part, "AR"), ("mean_oks", part)):
            old, new = committed[section][leaf], found[section][leaf]
            tolerance = TOLERANCES.get(section) or TOLERANCES[leaf]
            if abs(new - old) > tolerance:
                yield f"{name}: {section}.{leaf} is {new:.4f}, committed {old:.4f}, allowed ± {tolerance}"


def lock_differences(committed: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """One line for each stage in two dvc.lock files that ran with other settings, code or raw data."""
    made = {out["path"] for stage in committed.values() for out in stage.get("outs", [])}
    for name, stage in committed.items():
        other = found.get(name)
        if other is None:
            yield f"dvc.lock: stage {name} has not run"
            continue
        if stage.get("params") != other.get("params"):
            yield f"dvc.lock: stage {name} ran with other settings"
        old, new = (
            {dep["path"]: dep["md5"] for dep in it.get("deps", []) if dep["path"] not in made} for it in (stage, other)
        )
        changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        if changed:
            yield f"dvc.lock: stage {name} ran with other versions of {', '.join(changed)}"


def main() -> int:
    revision = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    if not all((ROOT / "models" / f"{model}.safetensors").is_file() for model in ROLES):
        print("nothing to compare: models/ is incomplete; run `make repro` first")
        return 1
    changed = git("diff", "--name-only", revision, "--", "reports", "dvc.lock").split()
    if not changed:
        print(f"identical: reports, metrics and dvc.lock are those of {revision}, byte for byte")
        return 0
    print(f"{len(changed)} files differ from {revision} ({', '.join(changed[:5])}{', …' if len(changed) > 5 else ''})")
    lines: list[str] = []
    for name in METRICS:
        path = ROOT / name
        if not path.is_file():
            lines.append(f"{name}: missing")
            continue
        lines += differences(name, json.loads(git("show", f"{revision}:{name}")), json.loads(path.read_text()))
    with TemporaryDirectory() as folder:
        Path(folder, "dvc.lock").write_text(git("show", f"{revision}:dvc.lock"))
        lines += lock_differences(locked_stages(folder), locked_stages(ROOT))
    for line in lines:
        print(line)
    if not lines:
        print(f"within tolerance: AP and AR ± {TOLERANCES['AP']}, mean OKS ± {TOLERANCES['mean_oks']}, counts equal")
    return 1 if lines else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileNotFoundError as error:
        print(f"cannot compare: {error.filename} is missing", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"cannot compare: {error.stderr.strip().splitlines()[0]}", file=sys.stderr)
    sys.exit(2)
