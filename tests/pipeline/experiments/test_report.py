"""Reports of experiments are run by the pipeline's runner, outside dvc.yaml."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from posedistill.pipeline.experiments import unlabelled
from posedistill.pipeline.experiments.report import make_report

ROOT = Path(__file__).parents[3]
PARTS = ("wholebody", "body", "foot", "face", "hand")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runner and the notebooks, with made-up results of two seeds."""
    (tmp_path / "notebooks").mkdir()
    for name in ("11_seeds", "12_unlabelled"):
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "notebooks")
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
    without = {
        "seeds": [0],
        "models": {name: {"0": numbers} for name in unlabelled.VARIANTS},
        "texts": {name: text for name, (text, *_) in unlabelled.VARIANTS.items()},
        "differences": {title: gain | {"seeds": {"0": [0.02, 0, 0]}} for title in unlabelled.PAIRS},
        "data": {"with labels": [2101, 200000], "without labels": [2101, 0]},
        "label_loss": 0.0,
    }
    (tmp_path / "reports" / "metrics").mkdir(parents=True)
    (tmp_path / "reports" / "metrics" / "unlabelled.json").write_text(json.dumps(without))
    (tmp_path / "reports" / "metrics" / "seeds.json").write_text(json.dumps(results))
    for name in ("OMP_NUM_THREADS", "PYTHONPATH", "POSEDISTILL_ROOT", "JUPYTER_RUNTIME_DIR", "PYTHONHASHSEED"):
        monkeypatch.setenv(name, "")  # the runner changes them
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSEDISTILL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_report_of_the_seeds_is_made_and_says_what_is_significant(project: Path):
    report = make_report(project, "11_seeds")
    outputs, texts = _shown(project / report)
    assert any("a real gain" in text and "2 of 2 seeds" in text for text in texts)
    assert any("16 epochs instead of 12" in text for text in texts)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert (project / "reports" / "figures" / "seeds" / "oks.png").is_file()
    assert str(project) not in (project / report).read_text()


def test_the_report_without_labels_says_what_was_seen_and_what_came_of_it(project: Path):
    report = make_report(project, "12_unlabelled")
    outputs, texts = _shown(project / report)
    assert any("logits without labels − labels**: +2.0 [+1.0, +3.0]" in text for text in texts)
    tables = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert "2,101" in tables and "Largest label loss in a training without labels: 0." in tables
    assert "no labels, the teacher&#x27;s logits" in tables and "60.9" in tables
    assert "One training seed (0)" in tables and "±" not in tables
    for name in ("oks", "differences"):
        assert (project / "reports" / "figures" / "unlabelled" / f"{name}.png").is_file()
    assert str(project) not in (project / report).read_text()


def _shown(report: Path) -> tuple[list, list[str]]:
    """All outputs of a report, and the Markdown among them."""
    cells = nbformat.read(report, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return outputs, [output["data"].get("text/markdown", "") for output in outputs if "data" in output]
