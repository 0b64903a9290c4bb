"""All seven published configurations against the published implementation."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from posedistill.models import build_rtmpose
from posedistill.models.macs import count_macs, count_parameters

GOLDEN = Path(__file__).parents[1] / "golden/models"
KEYS = json.loads(gzip.decompress((GOLDEN / "keys.json.gz").read_bytes()))
FACTS = json.loads((GOLDEN / "models.json").read_text())
CONFIGURATIONS = ["t-256x192", "s-256x192", "m-256x192", "l-256x192", "x-256x192", "l-384x288", "x-384x288"]


def parse(configuration):
    size, _, shape = configuration.partition("-")
    height, _, width = shape.partition("x")
    return size, (int(height), int(width))


def distance(found, expected):
    return np.linalg.norm(np.asarray(found, dtype=np.float64) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_names_shapes_and_counts_are_the_published(configuration):
    with torch.device("meta"):
        model = build_rtmpose(*parse(configuration))
    parameters = dict(model.named_parameters())
    found = [
        [
            name,
            str(tuple(tensor.shape)),
            str(tensor.dtype).removeprefix("torch."),
            "param" if name in parameters else "buffer",
        ]
        for name, tensor in model.state_dict().items()
    ]
    assert found == KEYS[configuration]
    facts = FACTS[configuration]
    assert [count_parameters(part) for part in (model, model.backbone, model.head)] == [
        facts[key] for key in ("params", "backbone", "head")
    ]
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(facts["bn"]["eps"], facts["bn"]["momentum"])}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_answers_are_the_published(configuration, rule_weights, rule_images):
    golden = np.load(GOLDEN / "rule-models.npz")
    size, input_size = parse(configuration)
    with torch.device("meta"):
        model = build_rtmpose(size, input_size).eval()
    model.load_state_dict(rule_weights(model.state_dict()), assign=True)
    images = rule_images(1, input_size)
    # The values were stored in float32, to which float64 is compared.
    precisions = [(torch.float32, 1e-5), (torch.float64, 1e-7)]
    for dtype, tolerance in precisions[: 2 if size in "tsm" else 1]:
        model.to(dtype)
        with torch.inference_mode():
            features = model.backbone(images.to(dtype))
            simcc = model.head(features)
        statistics = [features.mean(), features.std()]
        assert distance(statistics, golden[f"{configuration}/feat_mean_std"]) < tolerance
        assert distance(features[0, ::64], golden[f"{configuration}/feat"]) < tolerance
        for axis, logits in zip("xy", simcc):
            assert distance(logits[0, ::19], golden[f"{configuration}/simcc_{axis}"]) < tolerance
            whole = [logits.double().sum(), logits.double().norm()]
            assert distance(whole, golden[f"{configuration}/simcc_{axis}_sum_norm"]) < tolerance


@pytest.mark.parametrize(
    ("configuration", "published"),  # the tables' GFLOPs, which count a little more (bias, norm, activation)
    [
        ("t-256x192", 0.5),
        ("s-256x192", 0.9),
        ("m-256x192", 2.22),
        ("l-256x192", 4.52),
        ("l-384x288", 10.07),
        ("x-384x288", 18.1),
    ],
)
def test_multiply_accumulates_are_near_the_published(configuration, published):
    model = build_rtmpose(*parse(configuration))
    assert abs(count_macs(model) / 1e9 - published) < max(0.01 * published, 0.05)
