"""Reports of experiments are run by the pipeline's runner, outside dvc.yaml."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from posedistill.experiments.report import make_report

ROOT = Path(__file__).parents[2]
PARTS = ("wholebody", "body", "foot", "face", "hand")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runner and the notebook of the seeds, with made-up results of two seeds."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "11_seeds.ipynb", tmp_path / "notebooks")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    numbers = {name: dict.fromkeys(PARTS, 0.3) for name in ("AP", "AR", "mean_oks")}
    gain = {"pooled": {part: [0.02, 0.01, 0.03] for part in PARTS}, "seeds": {"0": [0.02, 0, 0], "1": [0.01, 0, 0]}}
    results = {
        "seeds": [0, 1],
        "long": {"epochs": 16, "of": 12, "cost": 1.35},
        "models": {model: {"0": numbers, "1": numbers} for model in ("baseline", "stage1")},
        "differences": {"stage 1 − baseline": gain},
    }
    (tmp_path / "reports" / "metrics").mkdir(parents=True)
    (tmp_path / "reports" / "metrics" / "seeds.json").write_text(json.dumps(results))
    for name in ("OMP_NUM_THREADS", "PYTHONPATH", "POSEDISTILL_ROOT", "JUPYTER_RUNTIME_DIR", "PYTHONHASHSEED"):
        monkeypatch.setenv(name, "")  # the runner changes them
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_report_of_the_seeds_is_made_and_says_what_is_significant(project: Path):
    report = make_report(project, "11_seeds")
    cells = nbformat.read(project / report, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output["data"].get("text/markdown", "") for output in outputs if "data" in output]
    assert any("a real gain" in text and "2 of 2 seeds" in text for text in texts)
    assert any("16 epochs instead of 12" in text for text in texts)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert (project / "reports" / "figures" / "seeds" / "oks.png").is_file()
    assert str(project) not in (project / report).read_text()
