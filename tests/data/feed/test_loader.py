"""The order of batches is a function of seed and epoch, whatever processes make them."""

import numpy as np
import pytest
import torch

from posedistill.data import geometry
from posedistill.data.feed import loader
from posedistill.data.feed.pixel_changes import HSV, MEDIAN_BLUR, apply
from posedistill.data.store.arrow import TrainStore, ValStore
from posedistill.errors import UserError
from posedistill.pipeline.prepare import prepare
from posedistill.sources import pixels


@pytest.fixture
def prepared(tmp_path, write_coco, settings):
    write_coco(tmp_path / "data", images=7, persons=3)
    P = settings(size=(64, 64))
    prepare(P, tmp_path / "prepared", workers=1, progress=False)
    return P, tmp_path / "prepared"


def batches(store, P, **options):
    epoch, start_step = options.pop("epoch", 1), options.pop("start_step", 0)
    with train_loader(store, P, **options) as source:
        return list(source.epoch(epoch, start_step))


def train_loader(store, P, **options):
    return loader.TrainLoader(store, P.input, lambda _: P.augment, **{"batch": 4, "seed": 3, **options})


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        for values, others in zip(one, other):
            torch.testing.assert_close(values, others, rtol=0, atol=0)


def test_an_epoch(prepared):
    P, folder = prepared
    store = TrainStore(folder / "train")
    whole = batches(store, P)
    assert len(whole) == 5 == train_loader(store, P).steps  # 21 persons: the last is left out
    seen = torch.cat([batch.ids for batch in whole]).tolist()
    assert len(set(seen)) == 20 and seen == loader.epoch_order(21, 3, 1)[:20].tolist()
    batch = whole[0]
    assert batch.images.shape == (4, 64, 64, 3) and batch.images.dtype == torch.uint8
    assert batch.keypoints.shape == (4, 133, 3) and set(batch.keypoints[..., 2].unique().tolist()) <= {0.0, 1.0}
    other = torch.cat([batch.ids for batch in batches(store, P, epoch=2)]).tolist()
    assert other != seen
    same(batches(store, P), whole)


def test_workers_ranks_and_restarts_see_the_same(prepared):
    P, folder = prepared
    store = TrainStore(folder / "train")
    whole = batches(store, P)
    same(batches(store, P, workers=2), whole)
    same(batches(store, P, start_step=3), whole[3:])
    halves = [batches(store, P, rank=rank, world_size=2) for rank in (0, 1)]
    joined = [loader.Batch(*(torch.cat(pair) for pair in zip(a[:4], b[:4]))) for a, b in zip(*halves)]
    same(joined, whole)


def test_workers_that_feed_a_gpu_have_done_the_median_blurs(prepared):
    """Whoever does them, the pixels before normalisation are the same."""
    P, folder = prepared
    store = TrainStore(folder / "train")
    P = P.replaced(augment=P.augment.replaced({"median_blur_p": 0.5}))
    blurred = 0
    for plain, done in zip(batches(store, P), batches(store, P, for_gpu=True)):
        assert not done.changes[:, MEDIAN_BLUR].any()
        blurred += int((plain.changes[:, MEDIAN_BLUR] > 0).sum())
        changed = [apply(batch.images.numpy(), batch.changes.numpy()) for batch in (plain, done)]
        np.testing.assert_array_equal(*changed)
    assert blurred > 0


def test_epochs_follow_each_other_with_their_own_augmentation(prepared):
    """The same processes make them, without a pause in between; the last epochs may be augmented less."""
    P, folder = prepared
    store = TrainStore(folder / "train")
    plain = P.augment.replaced({"hsv": False})
    drawn = []

    def augment(epoch):
        drawn.append(epoch)
        return P.augment if epoch < 2 else plain

    with loader.TrainLoader(store, P.input, augment, batch=4, seed=3, epochs=3, workers=1) as source:
        drawn.clear()
        first, second = source.epoch(0), source.epoch(1)
        same(list(first), batches(store, P, epoch=0))
        assert drawn == [0, 1]  # the next epoch is under way
        same(list(second), batches(store, P, epoch=1))
        last = list(source.epoch(2))
    assert not any(batch.changes[:, HSV].any() for batch in last)
    assert [b.ids.tolist() for b in last] == [b.ids.tolist() for b in batches(store, P, epoch=2)]


def test_an_abandoned_epoch_does_not_leak_into_the_next(prepared):
    P, folder = prepared
    store = TrainStore(folder / "train")
    with train_loader(store, P, workers=1) as source:
        next(source.epoch(0))
        same(list(source.epoch(1)), batches(store, P))
        same(list(source.epoch(1, 3)), batches(store, P)[3:])


def test_bytes_a_person(prepared):
    """Under 160 KB at 256x192 travel to the device: the image, 133 keypoints and a short recipe."""
    P, folder = prepared
    batch = batches(TrainStore(folder / "train"), P)[0]
    size = sum(values[0].nbytes for values in batch[:3]) - 64 * 64 * 3 + 256 * 192 * 3
    assert size == 149_088


def test_impossible_requests_are_one_clear_line(prepared, settings):
    P, folder = prepared
    store = TrainStore(folder / "train")
    with pytest.raises(UserError, match=r"train\.batch: 22, .* holds 21 persons"):
        batches(store, P, batch=22)
    with pytest.raises(UserError, match="cannot be shared by 3"):
        batches(store, P, world_size=3)
    with pytest.raises(UserError, match="64x64 pixels, the settings say 128x96"):
        batches(store, settings(size=(128, 96)))
    with pytest.raises(UserError, match="run the stage prepare first"):
        TrainStore(folder / "absent")
    with pytest.raises(UserError, match="is not a train store"):
        TrainStore(folder / "val-small")
    (folder / "train" / "part-00000.arrow").write_bytes(b"")
    with pytest.raises(UserError, match=r"part-00000\.arrow is damaged"):
        batches(TrainStore(folder / "train"), P)


def test_validation_pixels_are_those_of_warping_the_original(prepared):
    _, folder = prepared
    store = ValStore(folder / "val-small")
    found = list(loader.val_batches(store, (64, 64), 4))
    assert sum(len(batch.images) for batch in found) == len(store.persons) == 21
    row = 0
    for batch in found:
        for image, center, scale, person in zip(batch.images, batch.center, batch.scale, batch.person):
            assert person == row
            index = int(store.persons.image[row])
            original = (folder.parent / "data" / "images" / store.names[index]).read_bytes()
            assert bytes(store.images[index]) == original
            box = store.persons.box[row]
            expected_center, expected_scale = geometry.box_to_center_scale(box)
            expected_scale = geometry.fix_aspect(expected_scale, (64, 64))
            np.testing.assert_array_equal(center, expected_center.astype(float))
            matrix = geometry.warp_matrix(expected_center, expected_scale, 0.0, (64, 64))
            expected = geometry.warp_image(pixels.decode(original), matrix, (64, 64))
            np.testing.assert_array_equal(image.numpy(), expected)
            np.testing.assert_array_equal(scale, expected_scale.astype(float))
            row += 1
    again = list(loader.val_batches(store, (64, 64), 5, workers=1))
    torch.testing.assert_close(torch.cat([b.images for b in again]), torch.cat([b.images for b in found]))


def test_a_teacher_of_another_size_gets_the_same_views(prepared):
    P, folder = prepared
    store, teacher = TrainStore(folder / "train"), P.input.replaced(height=2 * P.input.height, width=2 * P.input.width)
    alone, found = batches(store, P), batches(store, P, teacher=teacher)
    assert alone[0].teacher_images is None
    assert found[0].teacher_images.shape == (4, *teacher.size, 3)
    same([batch[:4] for batch in found], [batch[:4] for batch in alone])
    same(batches(store, P, teacher=teacher, workers=1), found)
    small = torch.nn.functional.avg_pool2d(found[0].teacher_images.permute(0, 3, 1, 2).float(), 2)
    difference = (small - found[0].images.permute(0, 3, 1, 2).float()).abs().mean()
    assert difference < 8  # of 255: the same picture
