"""The parts of `benchmark gpu`, each a program: python -m posedistill.benchmark.gpu_parts PART …"""

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from posedistill.benchmark.figures import Figures
from posedistill.benchmark.gpu_run import ASSETS, LARGE, SMALL, Run, workshop
from posedistill.benchmark.machine import hardware
from posedistill.benchmark.training import LOSS, Step, distillation, persons
from posedistill.data.feed.device_augment import compiled_model_input, to_model_input
from posedistill.data.feed.loader import TrainLoader
from posedistill.data.store.arrow import TrainStore, ValPersons, ValStore
from posedistill.devices import Device
from posedistill.errors import UserError, exits_with_line
from posedistill.models.macs import count_macs
from posedistill.models.rtmpose import build_rtmpose
from posedistill.parallel import cores
from posedistill.params import from_settings
from posedistill.pipeline.prepare import prepare
from posedistill.training.compiled import prepare_compiler

# -- card and data -----------------------------------------------------------------------------------------------------


def card(run: Run) -> None:
    """The card's name, and its rate of bfloat16 matrix products: the ceiling of everything else."""
    if run.sizes is LARGE and not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU here; --small runs all in miniature on the CPU")
    device = run.device
    side = run.sizes.matrix
    left, right = (torch.randn((side, side), device=device.device, dtype=device.precision) for _ in range(2))
    times = timed_steps(lambda: torch.mm(left, right), 2, run.sizes.steps)
    rate = 2 * side**3 / statistics.median(times)
    about = {"name": hardware(device.device.type), "rate": rate}
    (run.work / "card.json").write_text(json.dumps(about))
    run.add("matrix product", rate / 1e12, "Tflop/s", note=f"{str(device.precision)[6:]}, torch {torch.__version__}")


def data(run: Run) -> None:
    """Render and prepare what is trained, validated and measured on."""
    start = time.perf_counter()
    prepare(run.params)
    seconds = time.perf_counter() - start
    images = sum(int(source.images or 0) for source in (*run.params.data.train, *run.params.data.val))
    note = f"{images} images, {len(TrainStore('prepared/train'))} persons to train on, {seconds:.0f} s"
    run.add("rendering and preparing", images / seconds, "images/s", note=note)


# -- steps -------------------------------------------------------------------------------------------------------------


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed_steps(step: Callable[[], Any], warm_up: int, steps: int) -> list[float]:
    """Seconds of each of `steps` calls, after `warm_up` others."""
    for _ in range(warm_up):
        step()
    times = []
    for _ in range(steps):
        synchronise()
        start = time.perf_counter()
        step()
        synchronise()
        times.append(time.perf_counter() - start)
    return times


def operations(teacher: str | None, student: str, size: tuple[int, int]) -> float:
    """Floating-point operations per person: a forward pass of the frozen model, and three times that of the trained one
    (its backward pass costs two forward passes)."""
    trained = 2.0 * count_macs(build_rtmpose(student, size))
    if teacher is None:  # of the head alone, which is little beside the backbone
        return trained
    return 2.0 * count_macs(build_rtmpose(teacher, size)) + 3 * trained


def build_step(run: Run, teacher: str | None, student: str, micro_batch: int) -> Step:
    device, size = run.device, run.params.input.size
    objective = distillation(teacher, student, device, size)
    if device.compile:
        prepare_compiler()
        objective.compile()
    return Step(objective, *persons(micro_batch, device, size), device)


def measure_step(
    run: Run,
    name: str,
    teacher: str | None,
    student: str,
    micro_batch: int,
    bars: dict[str, str],
    warm_up_name: str = "",
) -> None:
    """Persons/s, memory and warm-up of steps on one micro-batch that is already on the device."""
    if run.device.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    step = build_step(run, teacher, student, micro_batch)
    step()
    synchronise()
    warm_up = time.perf_counter() - start
    times = timed_steps(step, run.sizes.warm_up, run.sizes.steps)
    speed = micro_batch / statistics.median(times)
    share = speed * operations(teacher, student, run.params.input.size) / run.rate
    how = f"{'compiled' if run.device.compile else 'eager'}, {str(run.device.precision)[6:]}"
    spread = f"{micro_batch / max(times):.0f} to {micro_batch / min(times):.0f} in {len(times)} steps"
    run.add(f"{name}: speed", speed, "persons/s", bars.get("speed", ""), f"{how}, {spread}")
    run.add(f"{name}: share of the matrix rate", share, "")
    if run.device.cuda:
        run.add(f"{name}: peak memory", torch.cuda.max_memory_allocated() / 1e9, "GB", bars.get("memory", ""))
    run.add(f"{name}: {warm_up_name or 'warm-up'}", warm_up, "s", bars.get("warm-up", ""))


def stage1_first(run: Run) -> None:
    """The first pair at several micro-batches; the first of them compiles with an empty cache."""
    teacher, student = run.sizes.pairs[0]
    bars = {
        256: {"speed": "≥ 4000", "memory": "≤ 11.3", "warm-up": "≤ 40"},
        512: {"speed": "≥ 4000"},
        64: {"memory": "≤ 3.4"},
    }
    for micro_batch in run.sizes.micro_batches:
        name = f"stage 1, {teacher} to {student}, micro-batch {micro_batch}"
        measure_step(run, name, teacher, student, micro_batch, bars.get(micro_batch, {}))


def stage1_again(run: Run) -> None:
    """The first pair in a new process, which finds the compiled code on the disk; then with the loader."""
    teacher, student = run.sizes.pairs[0]
    micro_batch, device = run.sizes.micro_batches[0], run.device
    start = time.perf_counter()
    step = build_step(run, teacher, student, micro_batch)
    step()
    synchronise()
    name = f"stage 1, {teacher} to {student}"
    run.add(f"{name}, started again: warm-up", time.perf_counter() - start, "s", "≤ 15")
    alone = micro_batch / statistics.median(timed_steps(step, run.sizes.warm_up, run.sizes.steps))
    with_loader(run, f"{name}, with the loader", step, micro_batch, alone, device)


def with_loader(run: Run, name: str, step: Step, batch: int, alone: float, device: Device) -> None:
    """Persons/s with the loader: worker processes, transfer, the device's part of the augmentation, and the step; and
    the share of the time that the step waits for the loader."""
    model_input = compiled_model_input(device.device) if device.compile else to_model_input
    with train_loader(run, batch) as loader:
        batches = _endless(loader)
        waited = start = 0.0
        for number in range(run.sizes.warm_up + run.sizes.steps):
            if number == run.sizes.warm_up:
                synchronise()
                start, waited = time.perf_counter(), 0.0
            began = time.perf_counter()
            given = next(batches)
            waited += time.perf_counter() - began
            parts = (given.images, given.keypoints, given.changes)
            images, keypoints, changes = (values.to(device.device, non_blocking=True) for values in parts)
            step.images, step.keypoints = device.layout(model_input(images, changes)), keypoints
            step()
        synchronise()
        seconds = time.perf_counter() - start
    speed = run.sizes.steps * batch / seconds
    run.add(f"{name}: speed", speed, "persons/s", note=f"{device.workers} workers")
    run.add(f"{name}: share of the speed without it", speed / alone, "", "≥ 0.95")
    run.add(f"{name}: share of the time spent waiting", waited / seconds, "")


def _endless(loader: TrainLoader) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def train_loader(run: Run, batch: int, workers: int | None = None) -> TrainLoader:
    """The training loader over the rendered persons."""
    params, device = run.params, run.device
    return TrainLoader(
        TrainStore("prepared/train"),
        params.input,
        lambda _: params.augment,
        batch=min(batch, len(TrainStore("prepared/train"))),
        seed=0,
        workers=device.workers if workers is None else workers,
        for_gpu=device.cuda,
    )


def stage1_second(run: Run) -> None:
    teacher, student = run.sizes.pairs[1]
    measure_step(run, f"stage 1, {teacher} to {student}", teacher, student, run.sizes.batch, {"speed": "≥ 9000"})


def stage2(run: Run) -> None:
    measure_step(run, f"stage 2, {run.sizes.student}", None, run.sizes.student, run.sizes.batch, {"speed": "≥ 10000"})


# -- loader, epochs, evaluation ----------------------------------------------------------------------------------------


def loader(run: Run) -> None:
    """The loader alone, over epochs of many batches and of few: the end of an epoch must not cost anything."""
    long = run.sizes.micro_batches[0]
    for name, batch in (("long", long), ("short", 4 * long)):
        with train_loader(run, batch) as source:
            batches, count, seconds = _endless(source), 0, 0.0
            for _ in range(3 * run.device.workers + 1):  # starts the processes, and uses up what they have prepared
                next(batches)
            start = time.perf_counter()
            while seconds < run.sizes.seconds:
                count += len(next(batches).images)
                seconds = time.perf_counter() - start
            note = f"{run.device.workers} workers, epochs of {source.steps} batches of {batch}"
        run.add(f"loader alone, {name} epochs", count / seconds, "persons/s", "≥ 8000", note)


def epochs(run: Run) -> None:
    """A training as a stage does it: until its first step, and what the ends of its epochs cost."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from posedistill.training import Paths, train_stage

    settings = {name: dict(values) for name, values in run.settings.items()}
    settings["teacher"] |= {"epochs": 4}
    settings["train"] |= {"validate_every": 100}
    params = from_settings(settings)
    times: list[float] = []

    def note_time(*_: object) -> None:
        synchronise()
        times.append(time.perf_counter())
        if len(times) == 1:
            run.add("start of a training", time.time() - run.launched, "s", "≤ 8", "from nothing to the first step")
        elif len(times) == 4 * steps:
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            ends = [gaps[epoch * steps - 1] for epoch in (1, 2, 3)]
            within = [gap for i, gap in enumerate(gaps, 1) if i % steps]
            lost = statistics.mean(ends) - statistics.median(within)
            run.add("lost at an epoch's end", lost, "s", "≤ 0.1", f"{params.teacher.size}, mean of 3")
            speed = params.train.batch / statistics.median(within)
            run.add("training loop within an epoch", speed, "persons/s", note=f"{params.teacher.size}, eager")

    steps = len(TrainStore("prepared/train")) // params.train.batch
    handle = register_optimizer_step_post_hook(note_time)
    try:
        train_stage("teacher", params, Paths(name="probe", output="models/probe.safetensors"))
    finally:
        handle.remove()


def evaluation(run: Run) -> None:
    """Boxes/s with flip test, the loader included. Each person is predicted several times in a row, as detections of an
    image are; two sizes, whose difference has no start in it."""
    from posedistill.evaluation.predict import predict_poses

    (name,) = sorted(path.name for path in Path("prepared").glob("val-*"))
    store, device = ValStore(f"prepared/{name}"), run.device
    model = device.place(build_rtmpose(run.sizes.student, run.params.input.size)).eval()

    def seconds(boxes: int) -> float:
        rows = torch.arange(boxes).numpy() * len(store.persons) // boxes
        given = {field.name: getattr(store.persons, field.name)[rows] for field in dataclasses.fields(ValPersons)}
        start = time.perf_counter()
        predict_poses(model, store, run.params, device.device, ValPersons(**given))
        return time.perf_counter() - start

    few, many = run.sizes.boxes
    seconds(few)  # warms up
    short, long = seconds(few), seconds(many)
    rate = (many - few) / (long - short) if long > short else many / long
    what = f"evaluation with flip test, {run.sizes.student}"
    run.add(f"{what}: speed", rate, "boxes/s", "≥ 4000", f"{device.workers} workers")
    run.add(f"{what}: the 104,125 detections of COCO val", short + (104_125 - few) / rate, "s", note="extrapolated")


def parity(run: Run) -> None:
    """How well the gradients of a stage 1 step on the device agree with those in float32 on the CPU: of the models that
    this run has trained, else of the default's backbones."""
    from posedistill.models.checkpoint import load_backbone, model_from_checkpoint
    from posedistill.training.parity import step_parity

    trained = [Path("models/baseline.safetensors"), Path("models/teacher.safetensors")]
    if all(path.is_file() for path in trained):
        student, teacher = map(model_from_checkpoint, trained)
    else:
        torch.manual_seed(0)
        student, teacher = (build_rtmpose(size, run.params.input.size) for size in ("n", "nw"))
        for model in (student, teacher):
            load_backbone(model, ASSETS / "backbones" / f"cspnext-{model.size.name}-body-rendered.safetensors")
    with train_loader(run, run.sizes.compared, workers=0) as loader:
        batch = next(iter(loader.epoch(0)))
    torch.set_num_threads(cores())
    found = step_parity(student, teacher.eval(), LOSS, batch, run.device)
    what = f"{str(run.device.precision)[6:]} step against float32 on the CPU"
    note = f"{teacher.size.name} to {student.size.name}, the lowest of {found.count} tensors: {found.name}"
    run.add(f"{what}: cosine of the gradients", found.lowest, "", "≥ 0.99", note)
    run.add(f"{what}: difference of the loss", found.loss, "")


PARTS: dict[str, Callable[[Run], None]] = {
    "card": card,
    "data": data,
    "stage 1 x to l": stage1_first,
    "stage 1 x to l, started again": stage1_again,
    "stage 1 l to t": stage1_second,
    "stage 2 l": stage2,
    "loader": loader,
    "epochs": epochs,
    "evaluation": evaluation,
    "parity": parity,
}


def training(run: Run) -> None:
    from posedistill.benchmark import gpu_training

    gpu_training.train_all(run)


def judgement(run: Run) -> None:
    from posedistill.benchmark import gpu_training

    gpu_training.judge(run)


PARTS |= {"training": training, "judgement": judgement}


@exits_with_line
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="posedistill.benchmark.gpu_parts", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    for name in ("work", "figures", "report"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="after which this process is ended")
    parser.add_argument("--launched", type=float, required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--whole-recipe", action="store_true")
    args = parser.parse_args(arguments)
    end = time.monotonic() + args.seconds - (time.time() - args.launched)
    sizes = SMALL if args.small else LARGE
    run = Run(args.part, args.work, Figures(args.figures), args.report, end, args.launched, sizes, args.whole_recipe)
    with workshop(args.work):
        PARTS[args.part](run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
