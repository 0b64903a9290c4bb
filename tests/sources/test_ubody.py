"""A small UBody tree: scenes of videos, cut on the fly, with a number drawn into every frame."""

import json
from pathlib import PurePosixPath

import cv2
import numpy as np
import pytest

from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.errors import UserError
from posedistill.pipeline.prepare import prepare
from posedistill.sources.person import Funnel
from posedistill.sources.ubody import SCENE_IDS, SCENES, Frames

WIDTH, HEIGHT, BIT = 192, 128, 12
FRAMES = 45


def frame(number):
    """A grey picture whose top rows show `number` in binary: black and white squares."""
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    for bit in range(10):
        image[:BIT, bit * BIT : (bit + 1) * BIT] = 255 if number >> bit & 1 else 0
    return image


def read_number(image):
    cells = image[2 : BIT - 2, : 10 * BIT].reshape(BIT - 4, 10, BIT, 3)[:, :, 2:-2].mean(axis=(0, 2, 3))
    return sum(1 << bit for bit, value in enumerate(cells) if value > 128)


def write_video(path, count=FRAMES, rate=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (WIDTH, HEIGHT))
    for number in range(1, count + 1):
        writer.write(frame(number))
    writer.release()


@pytest.fixture
def tree(tmp_path, annotation):
    """Three scenes with three videos each (one a test video, one cut into clips); ids run over the scene's frames."""
    base = tmp_path / "data" / "UBody"
    tests = []
    for s, scene in enumerate(("Movie", "Magic_show", "Speech")):
        rng = np.random.default_rng(s)
        content = {"images": [], "annotations": [], "categories": []}
        for v, video in enumerate((f"{scene}_S1_Trim1", f"{scene}_S2", f"{scene}_S3_Trim1")):
            write_video(base / "videos" / scene / f"{video}.mp4")
            for number in range(1, FRAMES + 1):
                identity = v * 50 + number
                name = f"{'/' if v == 1 else ''}{video}/{number:06d}.png"
                content["images"].append({"id": identity, "file_name": name, "width": WIDTH, "height": HEIGHT})
                box = {"bbox": [0.0, 0.0, float(WIDTH - 1), float(HEIGHT - 1)]}
                person = annotation(rng, 1000 + identity, identity, WIDTH, HEIGHT, **box)
                content["annotations"].append(person)
        tests.append(f"{scene}_S3")
        folder = base / "annotations" / scene
        folder.mkdir(parents=True)
        (folder / "keypoint_annotation.json").write_text(json.dumps(content))
    (base / "splits").mkdir()
    np.save(base / "splits" / "intra_scene_test_list.npy", np.array(tests))
    return base


SOURCE = {"source": "ubody", "name": "ubody", "split": "intra", "scenes": ["Movie", "Magic_show", "Speech"]}


@pytest.fixture
def run(tmp_path, settings):
    def run(source=SOURCE, **data):
        P = settings(train=[source], val=[source], **data)
        return prepare(P, tmp_path / "out", workers=1, progress=False), tmp_path / "out"

    return run


def numbers_of(store):
    return {(r.image_id, read_number(r.pixels())) for r in map(store.__getitem__, range(len(store)))}


def expected(scene, videos):
    """(image id, frame number) of every tenth id of a scene's videos."""
    offset = SCENE_IDS * SCENES.index(scene)
    return {(offset + v * 50 + n, n) for v in videos for n in range(1, FRAMES + 1) if (v * 50 + n) % 10 == 0}


def test_every_tenth_frame_and_the_right_one(tree, run):
    report, out = run()
    wanted = set().union(*(expected(scene, (0, 1)) for scene in ("Movie", "Magic_show", "Speech")))
    assert numbers_of(TrainStore(out / "train")) == wanted and len(wanted) == 24
    store = ValStore(out / "val-ubody")
    found = set()
    for index, image_id in enumerate(store.image_ids.tolist()):
        pixels = cv2.imdecode(np.frombuffer(store.images[index], np.uint8), cv2.IMREAD_COLOR)
        found.add((image_id, read_number(pixels)))
    assert found == set().union(*(expected(scene, (2,)) for scene in ("Movie", "Magic_show", "Speech")))
    truth = json.loads((out / "val-ubody" / "gt.json").read_bytes())
    assert {image["id"] for image in truth["images"]} == {identity for identity, _ in found}
    assert truth["images"][0]["file_name"] == "Movie/Movie_S3_Trim1/000010.png"
    assert all(f["read"] == f["kept"] + sum(f["dropped"].values()) for f in report.funnels)
    pictures = report.funnels[0]
    assert pictures["what"] == "pictures" and pictures["read"] == 135 and pictures["kept"] == 8
    assert pictures["dropped"] == {"frame between the steps": 123, "video of the other split": 4}


def test_step(tree, run):
    _, out = run({**SOURCE, "step": 5, "scenes": ["Speech"]})
    assert len(TrainStore(out / "train")) == 18


def test_cut_frames_are_used_where_they_are(tree, run):
    """Frames that the official script has cut already; the videos are not needed then."""
    for number in range(10, FRAMES, 10):
        for video in ("Speech_S1_Trim1", "Speech_S2", "Speech_S3_Trim1"):
            path = tree / "images" / "Speech" / video / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), frame(number))
    for path in (tree / "videos").rglob("*.mp4"):
        path.unlink()
    _, out = run({**SOURCE, "scenes": ["Speech"]})
    assert numbers_of(TrainStore(out / "train")) == expected("Speech", (0, 1))


def test_half_cut_frames_are_completed_from_the_video(tree, run):
    """A cutting that was interrupted: what is there is used, the other frames come from the video."""
    path = tree / "images" / "Speech" / "Speech_S2" / "000010.png"
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), frame(10))
    report, out = run({**SOURCE, "scenes": ["Speech"]})
    assert numbers_of(TrainStore(out / "train")) == expected("Speech", (0, 1)) and not report.broken


def test_sources_of_all_kinds_in_one_split(tree, tmp_path, write_coco, settings):
    """COCO, UBody and pictures without labels train together; the validation sets stay apart."""
    write_coco(tmp_path / "data" / "own", images=2, persons=2)
    own = {"source": "coco_wholebody", "name": "own", "annotations": "own/annotations.json", "images": "own/images"}
    bare = {"source": "unlabelled", "name": "bare", "images": "own/images"}
    one_scene = {**SOURCE, "scenes": ["Speech"]}
    report = prepare(
        settings(train=[own, one_scene, bare], val=[own, one_scene]), tmp_path / "out", workers=1, progress=False
    )
    store = TrainStore(tmp_path / "out" / "train")
    assert store.sources == ["own", "ubody", "bare"] and np.bincount(store.column("source")).tolist() == [4, 8, 2]
    labelled = (store.column("keypoints")[..., 2] > 0).any(axis=1)
    assert labelled[store.column("source") < 2].all() and not labelled[store.column("source") == 2].any()
    assert (
        len(ValStore(tmp_path / "out" / "val-own").persons)
        == len(ValStore(tmp_path / "out" / "val-ubody").persons)
        == 4
    )
    assert {funnel["set"] for funnel in report.funnels} == {"train", "val-own", "val-ubody"}


def test_the_wrongly_named_movie_folder(tree, run):
    (tree / "videos" / "Movie").rename(tree / "videos" / "movies_old")
    report, out = run()
    assert expected("Movie", (0, 1)) <= numbers_of(TrainStore(out / "train"))
    notes = next(f for f in report.funnels if f["source"] == "ubody/Movie" and f["what"] == "persons")
    assert notes["notes"] == {"video in another scene's folder": 2}
    assert notes["examples"]["video in another scene's folder"][0] == "Movie_S1_Trim1 in movies_old, not in Movie"


def test_missing_and_broken_videos_are_listed(tree, run):
    (tree / "videos" / "Speech" / "Speech_S1_Trim1.mp4").unlink()
    (tree / "videos" / "Speech" / "Speech_S2.mp4").write_bytes(b"not a video")
    write_video(tree / "videos" / "Magic_show" / "Magic_show_S1_Trim1.mp4", count=25)  # frames 30 and 40 are gone
    report, out = run(max_broken=0.5)
    dropped = {f["source"]: f["dropped"] for f in report.funnels if f["what"] == "persons" and f["dropped"]}
    assert dropped["ubody/Speech"] == {"video missing": 4, "video unreadable": 4}
    assert dropped["ubody/Magic_show"] == {"video frame missing": 2}
    assert "Magic_show/Magic_show_S1_Trim1/000030.png" in [b["picture"] for b in report.broken]
    assert len(TrainStore(out / "train")) == 14
    with pytest.raises(UserError, match=r"4 of 24 pictures .*Speech_S1_Trim1\.mp4 \(missing, 4 frames of it\)"):
        run()


@pytest.mark.parametrize(("suffix", "codec"), [("webm", "VP80"), ("mp4", "mp4v")])
def test_after_a_damage_no_frame_passes_for_another(tree, run, suffix, codec):
    """The decoder leaves damaged frames out: what follows is told by its time, and what is lost is listed."""
    path = tree / "videos" / "Speech" / "Speech_S2.mp4"
    path.unlink()
    path = path.with_suffix(f".{suffix}")
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 30, (WIDTH, HEIGHT))
    for number in range(1, FRAMES + 1):
        noise = rng.integers(0, 60, (HEIGHT - BIT, WIDTH, 3), dtype=np.uint8)
        writer.write(np.concatenate([frame(number)[:BIT], noise]))
    writer.release()
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    report, out = run({**SOURCE, "scenes": ["Speech"]}, max_broken=0.9)
    found = numbers_of(TrainStore(out / "train"))
    assert found <= expected("Speech", (0, 1)) and len(found) + len(report.broken) == 8


def test_a_scene_may_be_linked_to_another_disk(tree, run, tmp_path):
    (tree / "videos" / "Speech").rename(tmp_path / "disk2")
    (tree / "videos" / "Speech").symlink_to(tmp_path / "disk2")
    report, out = run({**SOURCE, "scenes": ["Speech"]})
    assert numbers_of(TrainStore(out / "train")) == expected("Speech", (0, 1)) and not report.broken


@pytest.mark.parametrize("names", [np.array(["Speech_S3.mp4"]), np.array([], dtype=str)])
def test_a_list_of_test_videos_with_other_names_is_refused(tree, run, names):
    """Otherwise all test videos would be trained on."""
    np.save(tree / "splits" / "intra_scene_test_list.npy", names)
    with pytest.raises(UserError, match="none of the annotated videos is in it"):
        run()


def test_scenes_without_a_test_video_can_be_trained_on(tree, run, settings, tmp_path):
    """Between scenes the split takes whole ones; within them, the list fits the videos of the others."""
    np.save(tree / "splits" / "inter_scene_test_list.npy", np.array(["Fitness_S1"]))
    np.save(tree / "splits" / "intra_scene_test_list.npy", np.array(["Movie_S3"]))
    source = {**SOURCE, "scenes": ["Speech"]}
    val = [{**SOURCE, "scenes": ["Movie"]}]
    for split in ("inter", "intra"):
        P = settings(train=[{**source, "split": split}], val=val)
        prepare(P, tmp_path / "out", workers=1, progress=False)
        assert numbers_of(TrainStore(tmp_path / "out" / "train")) == expected("Speech", (0, 1, 2))


def test_a_scene_is_named_once(tree, run):
    with pytest.raises(UserError, match="scenes: Speech is listed twice"):
        run({**SOURCE, "scenes": ["Speech", "Speech"]})


@pytest.mark.parametrize("name", ["Speech_S2/000000.png", "Speech_S2/²⁰.png"])
def test_a_number_that_no_frame_has(tree, run, name):
    path = tree / "annotations" / "Speech" / "keypoint_annotation.json"
    content = json.loads(path.read_text())
    next(image for image in content["images"] if image["id"] == 60)["file_name"] = name
    path.write_text(json.dumps(content))
    report, out = run({**SOURCE, "scenes": ["Speech"]}, max_broken=0.9)
    assert len(TrainStore(out / "train")) == 7 and len(report.broken) == 1


def test_the_scene_is_looked_for_below_the_folder_of_videos(tmp_path, annotation):
    """Not in the path to it: `/…/Speech/UBody/videos` would make every video one of Speech."""
    folder = tmp_path / "Speech" / "videos"
    for scene in ("Speech", "Movie"):
        write_video(folder / scene / "same.mp4", count=2)
    frames = Frames(tmp_path / "images", folder)
    image = {"width": WIDTH, "height": HEIGHT}
    ref = frames.find("Speech", PurePosixPath("same/000001.png"), image, Funnel("ubody"))
    assert ref.path == str(folder / "Speech" / "same.mp4")


def test_a_name_that_leads_out_of_the_folder_is_refused(tree, run):
    path = tree / "annotations" / "Speech" / "keypoint_annotation.json"
    content = json.loads(path.read_text())
    content["images"][9]["file_name"] = "../../secret/000010.png"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"image 10: file_name: found .*secret.*, expected a path inside"):
        run({**SOURCE, "scenes": ["Speech"]})


def test_links_to_themselves_do_no_harm(tree, run):
    (tree / "videos" / "Speech" / "again").symlink_to(tree / "videos")
    (tree / "videos" / "loop.mp4").symlink_to("loop.mp4")
    (tree / "images").mkdir()
    (tree / "images" / "Speech").symlink_to("Speech")
    report, out = run({**SOURCE, "scenes": ["Speech"]})
    assert numbers_of(TrainStore(out / "train")) == expected("Speech", (0, 1)) and not report.broken


def test_a_list_of_test_videos_in_bytes_is_read(tree, run):
    path = tree / "splits" / "intra_scene_test_list.npy"
    np.save(path, np.load(path).astype("S"))
    _, out = run({**SOURCE, "scenes": ["Speech"]})
    assert numbers_of(TrainStore(out / "train")) == expected("Speech", (0, 1))


def test_a_video_that_is_there_twice_is_not_guessed(tree, run):
    (tree / "videos" / "Movie").rename(tree / "videos" / "old_a")
    write_video(tree / "videos" / "old_b" / "Movie_S1_Trim1.mp4", count=12)
    report, _ = run(max_broken=0.9)
    movie = next(f for f in report.funnels if f["source"] == "ubody/Movie" and f["what"] == "persons")
    assert movie["notes"]["video found more than once, not used"] == 1 and movie["dropped"]["video missing"] == 4


def test_annotations_that_are_divided_already(tree, run):
    folder = tree / "annotations" / "Speech"
    (folder / "keypoint_annotation.json").rename(folder / "train_annotations.json")
    (folder / "val_annotations.json").write_bytes((folder / "train_annotations.json").read_bytes())
    _, out = run({**SOURCE, "scenes": ["Speech"]})
    assert len(TrainStore(out / "train")) == 12  # the split list is not applied again


def test_what_is_wrong_is_named(tree, run):
    with pytest.raises(UserError, match="there is no scene 'Cinema'"):
        run({**SOURCE, "scenes": ["Cinema"]})
    with pytest.raises(UserError, match=r"neither .*TalkShow/keypoint_annotation\.json"):
        run({**SOURCE, "scenes": ["TalkShow"]})
    with pytest.raises(UserError, match="evaluated on its own boxes"):
        run({**SOURCE, "detections": "boxes.json"})
    with pytest.raises(UserError, match="no list of test videos"):
        run({**SOURCE, "split": "inter"})
    with pytest.raises(UserError, match="no annotation folder"):
        run({**SOURCE, "annotations": "elsewhere"})
    for content in (b"x", b""):
        (tree / "splits" / "intra_scene_test_list.npy").write_bytes(content)
        with pytest.raises(UserError, match="not a NumPy list"):
            run()


def test_all_fifteen_scenes_are_known():
    assert len(set(SCENES)) == 15 and {"Magic_show", "Movie", "VideoConference"} <= set(SCENES)
