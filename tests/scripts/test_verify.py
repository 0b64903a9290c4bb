"""What `make verify` lets pass and what it does not."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import verify

PARTS = ("wholebody", "body", "foot", "face", "hand", "lefthand", "righthand")
METRICS = {
    **{part: {"AP": 0.2, "AR": 0.3, "AP50": 0.4} for part in PARTS},
    "mean_oks": dict.fromkeys(PARTS, 0.5),
    "parameters": 10,
    "macs": 20,
    "images": 400,
    "persons": 541,
}
LOCK = {
    "prepare": {
        "params": {"params.yaml": {"data": {"seed": 0}}},
        "deps": [{"path": "data", "md5": "a"}],
        "outs": [{"path": "prepared", "md5": "b"}],
    },
    "teacher": {"params": {}, "deps": [{"path": "prepared", "md5": "b"}, {"path": "src/a.py", "md5": "c"}]},
}


def changed(values: dict, *keys: str, to) -> dict:
    result = copy.deepcopy(values)
    place = result
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return result


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("wholebody", "AP"), 0.229, None),
        (("wholebody", "AP"), 0.231, "wholebody.AP is 0.2310, committed 0.2000, allowed ± 0.03"),
        (("hand", "AR"), 0.1, "hand.AR"),
        (("mean_oks", "wholebody"), 0.519, None),
        (("mean_oks", "wholebody"), 0.479, "mean_oks.wholebody is 0.4790"),
        (("lefthand", "AP"), 0.9, None),
        (("persons",), 540, "persons is 540, committed 541"),
    ],
)
def test_metrics(keys, value, complaint):
    lines = list(verify.differences("teacher.json", METRICS, changed(METRICS, *keys, to=value)))
    if complaint is None:
        assert lines == []
    else:
        assert len(lines) == 1 and complaint in lines[0] and lines[0].startswith("teacher.json: ")


def test_what_a_stage_ran_with():
    assert list(verify.lock_differences(LOCK, LOCK)) == []
    # Other float results give other outputs, which are other inputs of what follows: no complaint of its own.
    other = changed(LOCK, "prepare", "outs", to=[{"path": "prepared", "md5": "x"}])
    other["teacher"]["deps"][0]["md5"] = "x"
    assert list(verify.lock_differences(LOCK, other)) == []
    (line,) = verify.lock_differences(LOCK, changed(LOCK, "teacher", "params", to={"a": 1}))
    assert line == "dvc.lock: stage teacher ran with other settings"
    code = copy.deepcopy(LOCK)
    code["teacher"]["deps"][1]["md5"] = "x"
    (line,) = verify.lock_differences(LOCK, code)
    assert line == "dvc.lock: stage teacher ran with other versions of src/a.py"
    (line,) = verify.lock_differences(LOCK, {"prepare": LOCK["prepare"]})
    assert line == "dvc.lock: stage teacher has not run"


def test_an_unknown_revision_is_one_line(tmp_path):
    project = tmp_path / "project"
    for folder in ("scripts", "src", "models"):
        (project / folder).mkdir(parents=True)
    (project / "scripts" / "verify.py").write_bytes(Path(verify.__file__).read_bytes())
    (project / "src" / "posedistill").symlink_to(Path(verify.__file__).parents[1] / "src" / "posedistill")
    for model in verify.ROLES:
        (project / "models" / f"{model}.safetensors").touch()
    subprocess.run(["git", "init", "--quiet", project], check=True)
    command = [sys.executable, project / "scripts" / "verify.py", "no-such-commit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "no-such-commit" in done.stderr
