"""Time of a distillation step: ours against the published code (mmpose, DWPoseDistiller), where it is installed.

    python benchmarks/steps.py --output benchmarks/steps-CPU.csv [--peer PYTHON] [--rounds 7]

Two processes, one of each code, are driven in turn: a step of ours, one of theirs, and so on, each on one thread, in
CPU time, so that both meet the same state of the machine. Both run forward, backward, gradient clip, AdamW and moving
average on the same random images and keypoints at batch 8, 256x192, float32. --peer names the Python of an environment
with mmpose and its configurations (from its repository, or installed by mim); default: this one.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH, HEIGHT, WIDTH, KEYPOINTS = 8, 256, 192, 133
DWPOSE = "configs/wholebody_2d_keypoint/dwpose/ubody/"
# name → (teacher or None, student, configuration of the published step)
STEPS: dict[str, tuple[str | None, str, str]] = {
    "stage 1, l to t": ("l", "t", DWPOSE + "s1_dis/dwpose_l_dis_t_coco-ubody-256x192.py"),
    "stage 1, x to l": ("x", "l", DWPOSE + "s1_dis/dwpose_x_dis_l_coco-ubody-256x192.py"),
    "stage 2, l": (None, "l", DWPOSE + "s2_dis/dwpose_l-ll_coco-ubody-256x192.py"),
}
Step = Callable[[], Any]


def images_and_keypoints() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise [B, 3, H, W], and keypoints [B, 133, 3] anywhere in it, all labelled."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, HEIGHT, WIDTH, generator=generator)
    where = torch.rand(BATCH, KEYPOINTS, 2, generator=generator) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    return images, torch.cat((where, torch.ones(BATCH, KEYPOINTS, 1)), dim=2)


# -- the two codes -----------------------------------------------------------------------------------------------------


def ours(name: str) -> Step:
    from posedistill.benchmark.training import Step, distillation
    from posedistill.devices import Device

    device = Device(torch.device("cpu"), torch.float32, True, False, 0, 1, None)
    teacher, student, _ = STEPS[name]
    images, keypoints = images_and_keypoints()
    return Step(distillation(teacher, student, device), device.layout(images), keypoints, device)


def published(name: str) -> Step:
    """The published step as its own runner does it, with labels made beforehand as its data pipeline makes them."""
    import mmpose
    import mmpose.models  # registers them
    from mmengine.config import Config
    from mmengine.logging import MessageHub
    from mmengine.registry import init_default_scope
    from mmengine.structures import InstanceData
    from mmpose.codecs import SimCCLabel
    from mmpose.engine.hooks import ExpMomentumEMA  # type: ignore[attr-defined]
    from mmpose.registry import MODELS
    from mmpose.structures import PoseDataSample

    init_default_scope("mmpose")
    package = Path(mmpose.__file__).parent
    root = next((place for place in (package / ".mim", package.parent) if (place / STEPS[name][2]).is_file()), None)
    if root is None:
        raise SystemExit(f"no {STEPS[name][2]} beside {package}: use mmpose from its repository")
    settings = Config.fromfile(root / STEPS[name][2]).model
    for which in ("teacher_cfg", "student_cfg"):
        settings[which] = str(root / settings[which])
    settings.teacher_pretrained = None
    model = MODELS.build(settings)
    hub = MessageHub.get_current_instance()
    hub.update_info("epoch", 0)
    hub.update_info("max_epochs", 270)
    codec = SimCCLabel(
        input_size=(WIDTH, HEIGHT), sigma=(4.9, 5.66), simcc_split_ratio=2.0, normalize=False, use_dark=False
    )
    images, keypoints = images_and_keypoints()
    samples = []
    for points in keypoints.numpy():
        encoded = codec.encode(points[None, :, :2], points[None, :, 2])
        labels = {key: torch.from_numpy(np.asarray(encoded[key])) for key in ("keypoint_x_labels", "keypoint_y_labels")}
        labels["keypoint_weights"] = torch.from_numpy(np.asarray(encoded["keypoint_weights"]))
        sample = PoseDataSample()
        sample.gt_instance_labels = InstanceData(**labels)
        samples.append(sample)
    plain = [
        one for part, one in model.named_parameters() if one.requires_grad and one.ndim > 1 and ".bias" not in part
    ]
    known = {id(one) for one in plain}
    rest = [one for one in model.parameters() if one.requires_grad and id(one) not in known]
    groups = [{"params": plain, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    average = ExpMomentumEMA(model, momentum=2e-4, gamma=2000, update_buffers=True)
    model.train()

    def step() -> None:
        losses = model.loss(images, samples)
        sum(value for key, value in losses.items() if "loss" in key).backward()
        torch.nn.utils.clip_grad_norm_([*plain, *rest], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)

    return step


CODES: dict[str, Callable[[str], Step]] = {"ours": ours, "published": published}


# -- driving them in turn ----------------------------------------------------------------------------------------------


def serve(code: str) -> None:
    """Answer each step's name on standard input with the CPU seconds of one; build and warm up when first asked."""
    torch.set_num_threads(1)
    built: dict[str, Step] = {}
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    for line in sys.stdin:
        name = line.strip()
        if name not in built:
            built.clear()
            built[name] = CODES[code](name)
            built[name]()
        start = time.process_time()
        built[name]()
        print(json.dumps(time.process_time() - start), file=answers, flush=True)


class Process:
    """A process that serves one of the codes."""

    def __init__(self, python: str, code: str) -> None:
        self.code = code
        command = [python, __file__, "--serve", code]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self, name: str) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{name}: the process of the code ({self.code}) has ended; the reason stands above")
        return float(answer)

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def measure(peer: str, rounds: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    processes = [Process(sys.executable, "ours"), Process(peer, "published")]
    try:
        for name in STEPS:
            times = np.array([[process.step(name) for process in processes] for _ in range(rounds)])
            ours_ms, theirs_ms = 1000 * np.median(times, axis=0)
            low, middle, high = np.quantile(times[:, 0] / times[:, 1], (0, 0.5, 1))
            rows.append(
                {
                    "step": name,
                    "ours_ms": f"{ours_ms:.0f}",
                    "published_ms": f"{theirs_ms:.0f}",
                    "share": f"{middle:.3f}",
                    "lowest": f"{low:.3f}",
                    "highest": f"{high:.3f}",
                    "rounds": rounds,
                    "torch": torch.__version__,
                }
            )
            print(rows[-1], flush=True)
    finally:
        for process in processes:
            process.close()
    return rows


def has_mmpose(python: str) -> bool:
    program = "import importlib.util as u, sys; sys.exit(not (u.find_spec('mmpose') and u.find_spec('mmengine')))"
    return subprocess.run([python, "-c", program], check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--peer", default=sys.executable, help="Python with mmpose (default: this one)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", choices=CODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return 0
    if args.output is None or args.rounds < 1:
        parser.error("--output is needed, and --rounds of at least 1")
    if not has_mmpose(args.peer):
        print(
            f"{args.peer}: mmpose and mmengine are not installed there; name a Python that has them with --peer",
            file=sys.stderr,
        )
        return 2
    rows = measure(args.peer, args.rounds)
    with args.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
