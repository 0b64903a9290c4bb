import pytest
import torch

from posedistill.errors import UserError
from posedistill.models import build_rtmpose
from posedistill.models.cspnext import StemConv
from posedistill.models.head import KeypointConv
from posedistill.models.sizes import SIZES


@pytest.mark.parametrize("size", ["n", "nw", "t", "m"])
@pytest.mark.parametrize("input_size", [(32, 32), (64, 96), (160, 64)])
def test_any_input_that_32_divides(size, input_size):
    height, width = input_size
    with torch.device("meta"):
        model = build_rtmpose(size, input_size, keypoints=17)
        features = model.backbone(torch.zeros(2, 3, height, width))
        simcc_x, simcc_y = model(torch.zeros(2, 3, height, width))
    stride = SIZES[size].stride
    assert features.shape == (2, SIZES[size].channels, height // stride, width // stride)
    assert simcc_x.shape == (2, 17, 2 * width) and simcc_y.shape == (2, 17, 2 * height)


@pytest.mark.parametrize("size", ["t", "s", "m", "l", "x"])
def test_published_sizes_have_stride_32(size):
    assert SIZES[size].stride == 32


@pytest.mark.parametrize(
    ("size", "input_size", "message"),
    [("q", (64, 64), "allowed: n, nw, t"), ("t", (100, 64), "multiples of 16"), ("t", (0, 64), "multiples of 16")],
)
def test_impossible_models_are_one_clear_line(size, input_size, message):
    with pytest.raises(UserError, match=message) as error:
        build_rtmpose(size, input_size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("map_size", [(1, 1), (2, 2), (4, 3), (8, 6), (1, 9)])
def test_a_cropped_kernel_answers_as_the_whole_one(map_size):
    torch.manual_seed(0)
    conv = KeypointConv(5, 7, 7, map_size).double()
    x = torch.randn(2, 5, *map_size, dtype=torch.float64, requires_grad=True)
    whole = torch.nn.functional.conv2d(x, conv.weight, conv.bias, padding=3)
    found = conv(x)
    torch.testing.assert_close(found, whole)
    directions = torch.randn_like(whole)
    for ours, theirs in zip(*(torch.autograd.grad((y * directions).sum(), (x, conv.weight)) for y in (found, whole))):
        torch.testing.assert_close(ours, theirs)


def test_the_same_seed_gives_the_same_weights_and_the_published_spread():
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build_rtmpose("t", (64, 64)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for name in ("mlp.1", "gau.uv", "gau.o", "cls_x", "cls_y"):
        assert states[0][f"head.{name}.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert states[0]["head.final_layer.weight"].std().item() == pytest.approx(0.001, rel=0.05)
    assert not states[0]["head.final_layer.bias"].any()


def test_the_padded_stem_of_gpus_answers_as_the_plain_one_with_the_same_gradients():
    torch.manual_seed(0)
    model = build_rtmpose("t", (64, 64))
    (conv,) = (part for part in model.modules() if isinstance(part, StemConv))
    assert model.state_dict()["backbone.stem.0.conv.weight"].shape == conv.weight.shape == (12, 3, 3, 3)
    images = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last).requires_grad_()
    results = []
    for answer in (conv(images), conv.padded(images)):
        gradients = torch.autograd.grad(answer.square().sum(), (images, conv.weight))
        results.append((answer, *gradients))
    for plain, padded in zip(*results):
        assert plain.shape == padded.shape
        torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())
