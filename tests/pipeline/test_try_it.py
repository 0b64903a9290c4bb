"""The notebook to try a model, and the parts it is made of."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepared_project import make_project

from posedistill.errors import UserError
from posedistill.pipeline.samples import pick
from posedistill.reporting.simcc_axes import axes_figure, figure_image, score_table
from posedistill.reporting.tables import Table

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "13_try_it.ipynb"


@pytest.fixture(scope="module")
def project(random_model, tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("project"), random_model("n", (128, 96)))
    shutil.copy(project / "models" / "stage2.safetensors", project / "models" / "student.safetensors")
    return project


def test_a_validation_picture_comes_with_its_first_box(project, monkeypatch):
    monkeypatch.chdir(project)
    image, box = pick(number=2)
    assert image.shape == (120, 160, 3)
    assert box == [5, 10, 60, 100]
    assert pick(number=2, box=[1, 2, 3, 4])[1] == [1, 2, 3, 4]
    with pytest.raises(UserError, match="allowed are 0 to 3"):
        pick(number=4)


def test_a_picture_of_ones_own_is_one_person(tmp_path):
    Image.new("RGB", (40, 30), (1, 2, 3)).save(tmp_path / "me.png")
    image, box = pick(tmp_path / "me.png")
    assert image[0, 0].tolist() == [1, 2, 3]
    assert box == [0, 0, 40, 30]


def test_without_prepared_data_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc repro prepare"):
        pick()


def test_the_axes_show_where_the_keypoint_is_read_off():
    simcc_x, simcc_y = np.zeros((133, 192)), np.zeros((133, 256))
    simcc_x[10, 61], simcc_y[10, 200] = 0.9, 0.7  # keypoint 10 is the right wrist
    figure = axes_figure(np.zeros((128, 96, 3), np.uint8), simcc_x, simcc_y, "right_wrist")
    picture, right, below, _ = figure.axes
    assert picture.collections[0].get_offsets().tolist() == [[30.5, 100.0]]
    assert "right_wrist: score 0.70" in picture.get_title() + picture.get_title(loc="left")
    assert below.lines[0].get_xdata()[below.lines[0].get_ydata().argmax()] == 30.5
    assert right.lines[0].get_ydata()[right.lines[0].get_xdata().argmax()] == 100
    assert figure_image(figure).size[0] > 100


def test_scores_by_part():
    scores = np.zeros(133)
    scores[:17] = 0.5
    scores[3] = 0.1
    table = score_table(scores, scores / 2)
    assert table.loc["body", ["points", "lowest", "highest"]].tolist() == [17, 0.1, 0.5]
    assert table.loc["body", "mean confidence"] == pytest.approx((16 * 0.25 + 0.05) / 17)
    assert table.loc["face", "mean confidence"] == 0
    assert "| feet | 6 | 0.00 |" in Table(table, formats={"lowest": "{:.2f}"}).markdown()
    assert Table(score_table(scores, np.full(133, np.nan))).markdown().count("– |") == 5


def test_the_notebook_runs(project, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.chdir(project)
    monkeypatch.setenv("POSEDISTILL_ROOT", str(project))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1] / "src"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = {cell["id"]: cell["outputs"] for cell in notebook.cells if cell.cell_type == "code"}
    assert "160 × 120 pixels, box [5.0, 10.0, 60.0, 100.0]" in shown["picture"][0]["text"]
    for cell in ("keypoints", "axes"):
        assert any("image/png" in output["data"] for output in shown[cell])
    assert "| right hand | 21 | " in shown["scores"][0]["data"]["text/plain"]
