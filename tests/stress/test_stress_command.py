"""python -m posedistill stress, and what the report says."""

import json

import numpy as np
import pytest
from PIL import Image

from posedistill.__main__ import main
from posedistill.errors import UserError
from posedistill.inference.pose import Pose
from posedistill.keypoints import MAIN_PARTS
from posedistill.models import save_checkpoint
from posedistill.stress import card, cli, figures, tables
from posedistill.stress.shots import AXES

FILES = ("card.json", "card.png", "differences.png", "jitter.png", "steps.jpg")


@pytest.fixture(scope="module")
def models(random_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "first.safetensors", folder / "second.safetensors"]
    for seed, path in enumerate(paths):
        save_checkpoint(random_model(seed=seed), path)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def options(body):
    return ["--axes", "noise,view", "--persons", "2", "--jobs", "1", "--device", "cpu", "--body", str(body)]


@pytest.fixture(scope="module")
def made(models, options, tmp_path_factory):
    """A finished card of two models, two axes and two persons."""
    out = tmp_path_factory.mktemp("card")
    assert main(["stress", *models, *options, "--out", str(out)]) == 0
    return out


def content(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_the_card(made):
    found = json.loads((made / "card.json").read_text())
    assert found["note"].startswith("These are rendered people")
    assert list(found["models"]) == ["first", "second"] and found["persons"] == 2
    assert list(found["axes"]) == ["view", "noise"]  # the card's order
    view = found["axes"]["view"]
    assert view["values"] == pytest.approx(view["steps"], abs=1e-3) and view["persons"]["wholebody"] == [2] * 12
    for name, axis in found["axes"].items():
        reference = {model: rows["body"]["mean"][axis["neutral"]] for model, rows in axis["models"].items()}
        other = found["axes"]["view"]["models"]
        assert reference == {model: other[model]["body"]["mean"][0] for model in reference}, name
        gain = axis["differences"]["second"]["wholebody"]["mean"]
        both = [axis["models"][model]["wholebody"]["mean"] for model in ("second", "first")]
        assert gain == pytest.approx(np.subtract(*both), abs=3e-5)
        change = axis["changes"]["second"]["wholebody"]
        assert change["mean"][axis["neutral"]] == change["low"][axis["neutral"]] == 0
    assert len(found["jitter"]["models"]["first"]["hand"]["mean"]) == len(AXES["noise"].steps)
    for name in FILES[1:]:
        with Image.open(made / name) as image:
            assert image.width > 900 and image.height > 150, name


def test_again_costs_nothing_and_gives_the_same_files(made, models, options, monkeypatch, capsys):
    before = content(made)
    monkeypatch.setattr(card, "judge", None)  # nothing is left to judge
    assert main(["stress", *models, *options, "--out", str(made)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == card.NOTE
    assert content(made) == before


def test_an_interrupted_card_continues_to_the_same_numbers(made, models, options, tmp_path, monkeypatch, capsys):
    judge, judged = card.judge, []
    monkeypatch.setattr(cli, "_write_figures", lambda *_: None)  # they take longer than the numbers

    def interrupted(task):
        if judged:
            raise KeyboardInterrupt
        judged.append(task.index)
        return judge(task)

    monkeypatch.setattr(card, "judge", interrupted)
    out = tmp_path / "card"
    assert main(["stress", *models, *options, "--out", str(out)]) == 130
    assert "interrupted" in capsys.readouterr().err and not (out / "card.json").exists()
    monkeypatch.setattr(card, "judge", lambda task: judged.append(task.index) or judge(task))
    assert main(["stress", *models, *options, "--out", str(out)]) == 0
    assert judged == [0, 1]
    assert (out / "card.json").read_bytes() == (made / "card.json").read_bytes()


@pytest.mark.slow
def test_processes_do_not_matter(made, models, options, tmp_path):
    assert main(["stress", *models, *options, "--jobs", "2", "--out", str(tmp_path / "card")]) == 0
    assert content(tmp_path / "card") == content(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--axes", "view,tilt"], "--axes: found 'tilt', expected some of view,roll,"),
        (["--axes", ","], "--axes: found"),
        (["--persons", "1"], "--persons: found 1, expected 2 to"),
        (["--seed", "-1"], "--seed: found -1, expected 0 to"),
        (["--jobs", "-2"], "--jobs: found -2"),
        (["--body", "nowhere"], "body_asset.npz: there is no such file"),
    ],
)
def test_bad_options_are_one_line(models, options, tmp_path, capsys, change, message):
    assert main(["stress", models[0], *options, "--out", str(tmp_path / "card"), *change]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("posedistill stress: ") and message in line


def test_bad_models_are_one_line(models, options, tmp_path, capsys):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for model, message in (
        (tmp_path / "none.pth", "there is no such file"),
        (tmp_path / "broken.safetensors", "broken"),
    ):
        assert main(["stress", models[0], str(model), *options, "--out", str(tmp_path / "card")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert main(["stress", models[0], models[0], *options, "--out", str(tmp_path / "card")]) == 2
    assert "give each model once" in capsys.readouterr().err


def test_answers_that_are_not_finite_are_one_line(models, options, tmp_path, monkeypatch, capsys):
    predict = Pose.predict
    monkeypatch.setattr(Pose, "predict", lambda *arguments: predict(*arguments) * np.nan)
    assert main(["stress", models[0], *options, "--axes", "jpeg", "--out", str(tmp_path / "card")]) == 2
    assert f"{models[0]}: predicts values that are not finite" in capsys.readouterr().err.splitlines()[-1]


def test_a_damaged_part_is_one_line(tmp_path):
    for content in (b"", b"nothing", b"PK\x03\x04"):
        (tmp_path / "part.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"part.npz: damaged; delete it"):
            card._stacked([tmp_path / "part.npz"])


def test_a_model_is_not_overwritten(models, options, tmp_path, capsys):
    model = tmp_path / "card.json"
    model.write_bytes(b"weights")
    assert main(["stress", str(model), *options, "--out", str(tmp_path)]) == 2
    assert "would overwrite" in capsys.readouterr().err and model.read_bytes() == b"weights"


def test_one_model_has_no_differences(models, options, tmp_path):
    out = tmp_path / "card"
    out.mkdir()
    (out / "differences.png").write_bytes(b"of an earlier card")
    assert main(["stress", models[0], *options, "--axes", "shift", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "card.png", "parts", "steps.jpg"]


def test_words_name_the_steps_that_differ(made):
    found = json.loads((made / "card.json").read_text())
    axis = found["axes"]["view"]
    gain, change = (axis[key]["second"]["wholebody"] for key in ("differences", "changes"))
    for rows in (gain, change):
        rows["low"], rows["high"] = [-0.1] * 12, [0.1] * 12
    gain["low"][3] = change["low"][3] = 0.05  # better at 90°, and more so than from the front
    gain["high"][6] = -0.01  # worse from behind
    text = tables.gain_words(found, "second")
    assert "view" not in text.split("Around")[0]
    assert "larger at 90 degrees than from the front" in text
    table = tables.gains_table(found, "second").frame
    assert table.loc["view", "better"] == "1 of 12" and table.loc["view", "worse"] == "1 of 12"
    assert table.loc["view", "gain larger than in the reference"] == "1 of 11"


def test_figures_have_a_panel_for_each_axis_and_part(made):
    found = json.loads((made / "card.json").read_text())
    for draw in (figures.card_figure, figures.differences_figure):
        figure = draw(found)
        assert len(figure.axes) == 2 * len(MAIN_PARTS)
        figure.clf()
