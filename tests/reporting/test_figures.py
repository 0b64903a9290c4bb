"""Figures on tiny data: they are made, show what they should, and are the same files at every run."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reporting.made_up import annotations, predictions

from posedistill.analysis import evaluation
from posedistill.evaluation.wholebody import match_wholebody
from posedistill.keypoints import FLIP_INDICES
from posedistill.reporting import comparison, curves, data, distillation, pictures, style, training


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module", autouse=True)
def _style():
    style.use_style()


HISTORY = pd.DataFrame(
    {
        "epoch": [0.5, 1.0, 1.5, 2.0],
        "step": [10, 20, 30, 40],
        "lr": [1e-3, 1e-3, 5e-4, 1e-5],
        "label": [2.0, 1.0, 0.9, 0.8],
        "feature": [0.0] * 4,
        "logit": [0.0] * 4,
        "total": [2.0, 1.0, 0.9, 0.8],
        "accuracy": [0.1, 0.2, 0.3, 0.4],
        "val_ap": [np.nan, np.nan, np.nan, 0.1],
    }
)


def test_a_figure_is_the_same_file_twice_and_holds_no_software(tmp_path: Path):
    first = style.save_figure(training.loss_figure(HISTORY), "a-loss", folder=tmp_path / "1")
    second = style.save_figure(training.loss_figure(HISTORY), "a-loss", folder=tmp_path / "2")
    assert first.content == second.content == (tmp_path / "1" / "a-loss.png").read_bytes()
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.size[0] == 900
        assert set(image.info) <= {"dpi", "transparency"}
    assert "Software" not in first.content.decode("latin-1")
    assert repr(first) == "a-loss"


@pytest.mark.parametrize(("low", "high"), [(0.8, 1.9), (0.01, 3.0), (4e-4, 90.0)])
def test_a_loss_has_numbers_at_its_axis(low: float, high: float):
    history = HISTORY.assign(label=np.geomspace(high, low, 4))
    loss, rate = training.loss_figure(history).axes
    first, last = loss.get_ylim()
    assert len([tick for tick in loss.get_yticks() if first <= tick <= last]) >= 3
    assert rate.get_ylabel() == "learning rate, $10^{-3}$" and loss.get_ylabel() == "loss, log scale"


def test_only_the_terms_that_a_training_has_are_drawn():
    assert training.terms_of(HISTORY) == ["label"]
    assert training.terms_of(HISTORY.assign(logit=0.1)) == ["label", "logit", "total"]
    cells = dict(training.summary(HISTORY).cells()[1])
    assert cells["training accuracy"] == "40.0 %"
    assert cells["steps"] == "40"
    assert len(training.progress_figure(HISTORY).axes) == 2


def test_a_model_that_was_not_trained_here_has_figures_that_say_so():
    empty = HISTORY.iloc[:0]
    assert "ready-made" in training.summary(empty).markdown()
    assert "ready-made" in training.loss_figure(empty).axes[0].texts[0].get_text()


def test_shares_add_up():
    history = HISTORY.assign(feature=1.0, logit=1.0, grad_label=[np.nan, 1, np.nan, 2.0])
    history = history.assign(grad_feature=[np.nan, 1, np.nan, 1.0], grad_logit=[np.nan, 2, np.nan, 1.0])
    left, right = distillation.shares_figure(history).axes
    assert len(left.collections) == 3
    shares = {line.get_label(): line.get_ydata().tolist() for line in right.lines}
    assert shares == {"labels": [25, 50], "features": [25, 25], "logits": [50, 25]}  # where they were measured


def test_stage_2_starts_where_stage_1_ends():
    two = HISTORY.assign(label=0.0, logit=[4.0, 3.0, 2.0, 1.0])
    figure = curves.all_curves({"stage1": HISTORY, "stage2": two, "teacher": HISTORY.iloc[:0]}, {"stage1": 2.0})
    loss, _, ap = figure.axes[:3]
    assert [line.get_label() for line in loss.lines] == ["stage 1", "stage 1 + 2"]
    assert loss.lines[1].get_xdata().tolist() == [2.5, 3.0, 3.5, 4.0]
    assert loss.lines[1].get_ydata().tolist() == [4, 3, 2, 1]
    assert ap.lines[0].get_ydata().tolist() == [10]
    cost = figure.axes[3]
    assert cost.lines[0].get_xdata().tolist() == [1, 2, 3, 4] and cost.lines[1].get_xdata()[0] == 4.5
    assert "baseline" in cost.get_xlabel() and "1.75" in curves.costs_note()


def test_the_teachers_lead_does_not_hide_the_effects_of_distillation():
    lead, effect = comparison.Difference(9.0, 8.0, 10.0), comparison.Difference(0.3, -0.2, 0.8)
    rows = {"teacher − baseline": {"body": lead}, "stage 1 − baseline": {"body": effect}}
    large, small = (axes.get_xlim()[1] for axes in comparison.forest_figure(rows, "points").axes)
    assert large > 9 and small < 1


def test_missing_curves_say_which_stage(tmp_path: Path):
    with pytest.raises(Exception, match="stage1"):
        curves.read_curves("stage1", tmp_path)


def test_a_crop_keeps_points_on_their_pixels():
    image = Image.new("RGB", (200, 100), "black")
    image.putpixel((50, 40), (255, 255, 255))
    points = np.zeros((133, 3))
    points[0] = (50, 40, 2)
    cut, moved = pictures.crop_person(image, (30, 20, 40, 40), points, (200, 200), padding=1.25)
    brightest = np.unravel_index(np.asarray(cut.convert("L")).argmax(), (200, 200))
    # The cut enlarges 4 times: the point lies within half a source pixel of the brightest place.
    np.testing.assert_allclose(moved[0, :2], (brightest[1], brightest[0]), atol=2.1)


def test_a_skeleton_is_drawn_only_where_points_are_seen():
    image = Image.new("RGB", (100, 100), "black")
    points = np.zeros((133, 3))
    assert not np.asarray(pictures.draw_skeleton(image, points)).any()
    points[5], points[7] = (20, 50, 2), (80, 50, 2)  # left shoulder and elbow
    drawn = np.asarray(pictures.draw_skeleton(image, points))
    assert drawn[50, 50].tolist() == [0, 255, 0]
    assert not drawn[80].any()


def test_left_and_right_have_different_colours():
    from posedistill.keypoints import KEYPOINT_COLORS

    body = [k for k in range(5, 17) if FLIP_INDICES[k] != k]
    assert all(KEYPOINT_COLORS[k] != KEYPOINT_COLORS[FLIP_INDICES[k]] for k in body)


def test_contact_sheet_has_room_for_all_tiles():
    tiles = [Image.new("RGB", (30, 40), "red")] * 5
    sheet = pictures.contact_sheet(tiles, 3, list("abcde"))
    assert sheet.size == (3 * 36 - 6, 2 * (40 + 18 + 6) - 6)


def test_data_figures_and_tables():
    persons = data.PersonTable.from_coco(annotations())
    sets = {"train": persons, "val": persons}
    assert data.counts_table(sets).frame.loc["train", "persons"] == 6
    shares = data.visibility_table(sets).frame
    assert shares.loc["feet", "val: persons"] == shares.loc["feet", "val: persons, %"] == 0
    assert shares.loc["face", "val: points, %"] == 100
    assert (persons.overlap() == 1).all()  # the boxes of an image are the same
    (axes,) = data.visibility_figure(sets).axes
    share = axes.get_lines()[0].get_ydata()
    assert (share[17:23] == 0).all() and (share[23:] == 100).all()  # feet are not labelled
    height, face, hand = data.size_figure(persons).axes
    assert [sum(bar.get_height() for bar in axes.patches) for axes in (height, face, hand)] == [6, 6, 12]
    images, overlap = data.overlap_figure(persons).axes
    assert [bar.get_height() for bar in images.patches] == [3] and images.get_xticklabels()[0].get_text() == "2"
    assert sum(bar.get_height() for bar in overlap.patches) == 6 and "(0 %: none)" in overlap.get_title(loc="left")


def test_every_set_has_its_line():
    persons = data.PersonTable.from_coco(annotations())
    names = [f"val-{i}" for i in range(8)]
    (axes,) = data.visibility_figure(dict.fromkeys(names, persons)).axes
    assert [line.get_label() for line in axes.get_lines()] == names


def test_the_report_names_reasons_cases_and_bytes():
    funnel = {"set": "train", "source": "own", "what": "persons", "read": 9, "kept": 5, "notes": {"cut": 1}}
    funnel |= {"dropped": {"crowd": 4}, "examples": {"crowd": [f"annotation {i}" for i in range(4)]}}
    table = data.funnel_table([funnel]).frame
    assert set(table.index) == {"train: own, persons"}
    assert table["step"].tolist() == ["read", "dropped: crowd", "kept", "kept, but: cut"]
    assert table["cases"].tolist()[1] == "annotation 0, annotation 1, annotation 2, …"
    broken = [{"set": "train", "source": "own", "picture": "a.jpg", "reason": "image cut off", "persons": 2}]
    assert "a.jpg" in data.broken_table(broken).markdown()
    entry = {"sources": [{"files": 3, "bytes": 3e6}], "broken pictures": 1, "images": 2, "persons": 4, "bytes": 4000}
    assert "1,000" in data.stores_table({"train": entry}).markdown()
    overlap = {"detections": 7, "annotated persons": 2, "mean best IoU": 0.8, "recall": {"0.5": 1.0}}
    found = {"val-own": {"overlap": {**overlap, "histogram": [0] * 8 + [1, 1]}}}
    assert "0.800" in data.boxes_table(found).markdown()
    assert [bar.get_height() for bar in data.boxes_figure(found).axes[0].patches][-2:] == [1, 1]


def test_evaluation_figures():
    truth = annotations()
    matched = match_wholebody(truth, predictions(truth, 3.0))
    left, right = evaluation.precision_recall_figure(matched.parts).axes
    assert [line.get_label() for line in left.lines] == ["OKS ≥ 50 %", "OKS ≥ 65 %", "OKS ≥ 75 %", "OKS ≥ 85 %"]
    precision = [line.get_ydata().mean() for line in left.lines]
    assert precision == sorted(precision, reverse=True) and precision[0] > 0.9
    assert "whole body" in [line.get_label() for line in right.lines]
    oks = {"body": np.array([0.5, np.nan, 0.7]), "face": np.array([0.1, 0.2, 0.3])}
    (axes,) = evaluation.oks_figure(oks).axes
    assert [line.get_label() for line in axes.lines] == ["body", "face"]
    assert axes.lines[1].get_xdata() == pytest.approx([0, 10, 20, 30, 100])
    assert axes.lines[1].get_ydata() == pytest.approx([100, 100, 200 / 3, 100 / 3, 0])  # two of three have at least 20
    persons = pd.DataFrame({"person": [0], "predicted": [0], "image_id": [1], "oks": [0.5]})
    sheet = evaluation.person_sheet(matched, persons, lambda _: Image.new("RGB", (200, 200)))
    assert np.asarray(sheet).any()


def test_differences_in_figures():
    gain = comparison.Difference.of((0.02, 0.01, 0.03))
    level = comparison.Difference.of((0.001, -0.01, 0.012))
    assert gain.significant and not level.significant
    figure = comparison.forest_figure({"a − b": {"body": gain, "face": level}}, "points")
    assert figure.axes[0].get_xlabel() == "points"
    filled = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert filled[0] != "white" and filled[1] == "white"


def test_flow_sheet_starts_a_row_where_a_tile_does_not_fit():
    tiles = [Image.new("RGB", (width, 40), "red") for width in (60, 50, 30)]
    sheet = pictures.flow_sheet(tiles, list("abc"), width=100)
    assert sheet.size == (100, 2 * (40 + 18 + 6) - 6)
    assert sheet.getpixel((5, 18 + 64 + 5)) == (255, 0, 0)
