"""Persons a second that the default trains: in one process, with two threads, in two processes (`runtime.devices: 2`).

    python benchmarks/both_cores.py [--steps 30] [--repeats 3]

Steps of baseline and stage 1 at the default's sizes and batch, on noise, without the loader. The ways alternate, and
the median of each is printed. Run it on an idle machine, and once more beside other work: two threads wait for each
other in every operation, two processes once in a step.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from torch import nn

from posedistill.benchmark.training import distillation, persons
from posedistill.devices import Device, choose, set_up
from posedistill.models import build_rtmpose
from posedistill.params import Params, load_params
from posedistill.training import distributed
from posedistill.training.ema import MovingAverage
from posedistill.training.objective import Objective
from posedistill.training.optim import build_optimizer
from posedistill.training.supervised import Supervised

ROOT = Path(__file__).parents[1]
WAYS = {"one process": (1, 1), "two threads": (2, 1), "two processes": (1, 2)}  # threads, processes
WARM_UP = 5


def objective_of(stage: str, params: Params, device: Device) -> Objective:
    if stage == "stage1":
        return distillation(params.teacher.size, params.student.size, device, params.input.size)
    return device.place(Supervised(build_rtmpose(params.student.size, params.input.size), params.loss.reference_batch))


def train(stage: str, threads: int, steps: int) -> None:
    """In a process of its own, or in each of torchrun's: prints persons a second of all together."""
    params = load_params(ROOT / "params.yaml")
    device = dataclasses.replace(choose(params.runtime.replaced(device="cpu")), threads=threads)
    set_up(device)
    with distributed.joined("cpu") as group:
        objective = objective_of(stage, params, device).train()
        forward = distributed.wrap(objective, device.device, group)
        optimizer, average = build_optimizer(objective, 1e-4, 0.05), MovingAverage(objective.averaged)
        images, keypoints = persons(params.train.batch // group.size, device, params.input.size)
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                group.wait()
                start = time.perf_counter()
            terms, _, _ = forward(images, keypoints)
            terms["total"].backward()
            nn.utils.clip_grad_norm_(objective.parameters(), 5.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(objective.averaged)
        group.wait()
        if group.main:
            print(steps * len(images) * group.size / (time.perf_counter() - start))


def measure(stage: str, threads: int, processes: int, steps: int) -> float:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, __file__, "--stage", stage, "--threads", str(threads), "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="a measurement (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="for the median (default %(default)s)")
    parser.add_argument("--stage", choices=("baseline", "stage1"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        train(args.stage, args.threads, args.steps)
        return
    for stage in ("baseline", "stage1"):
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(args.repeats):
            for way, (threads, processes) in WAYS.items():
                found[way].append(measure(stage, threads, processes, args.steps))
        plain = statistics.median(found["one process"])
        for way, rates in found.items():
            rate = statistics.median(rates)
            print(f"{stage}, {way}: {rate:.0f} persons/s, {rate / plain:.2f} times one process", flush=True)


if __name__ == "__main__":
    main()
