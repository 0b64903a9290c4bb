"""Latency of a prediction over batch sizes: PyTorch and onnxruntime (fp32, fp16, int8) in alternation."""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posedistill import project
from posedistill.benchmark.machine import add_output, output_path, parse_size, report
from posedistill.devices import choose_device
from posedistill.errors import UserError
from posedistill.export.onnx_file import export_onnx
from posedistill.export.precision import to_half, to_int8
from posedistill.models.macs import parameters_and_macs
from posedistill.models.onnx_model import OnnxModel
from posedistill.models.rtmpose import RTMPose, build_rtmpose
from posedistill.params import SIZES, load_params

BATCHES = (1, 2, 4, 8, 16, 32)
SHOWN = ("size", "input_size", "runtime", "device", "batch", "median_ms", "p95_ms", "persons_per_s")
SAVED = "benchmarks/latency/{}.csv"  # one file per machine; the pipeline's `export` quotes them
_WARM_UP = 3

Predict = Callable[[Tensor], object]


def measure(
    models: Mapping[str, Predict], images: Tensor, *, seconds: float = 2.0, maximum: int = 200
) -> dict[str, np.ndarray]:
    """Milliseconds of single calls of each model on `images` [B, 3, H, W]: name → [calls].

    The models alternate call by call, so that other load on the machine affects all of them alike. Ends after
    `seconds` per model, with at least 10 and at most `maximum` calls each.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for predict in models.values():
            for _ in range(_WARM_UP):
                predict(images)
        _synchronize(images)
        end = time.perf_counter() + seconds * len(models)
        for call in range(maximum):
            if call >= 10 and time.perf_counter() > end:
                break
            for name, predict in models.items():
                start = time.perf_counter()
                predict(images)
                _synchronize(images)
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in times.items()}


def latency_rows(
    model: RTMPose,
    onnx_path: str | Path,
    *,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    device: str = "cpu",
    seconds: float = 2.0,
) -> list[dict[str, object]]:
    """One row per runtime and batch size. `threads` applies to both runtimes on the CPU."""
    import onnxruntime

    torch.set_num_threads(threads)
    onnx_model = OnnxModel(onnx_path, threads=threads, device=device)
    which = {"size": model.size.name, "input_size": f"{model.input_size[0]}x{model.input_size[1]}"}
    parameters, macs = parameters_and_macs(model)
    facts = {
        "parameters": parameters,
        "macs": macs,
        "file_bytes": Path(onnx_path).stat().st_size,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    pytorch = model.to(device).eval()
    runtimes: dict[str, nn.Module] = {"pytorch": pytorch, "onnxruntime": onnx_model}
    for precision, content in _precisions(onnx_path, model.input_size).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(content)
            runtimes[f"onnxruntime {precision}"] = OnnxModel(path, threads=threads, device=device)
    on_card = onnx_model.provider.startswith("CUDA")
    where = {name: device if name == "pytorch" else "cuda" if on_card else "cpu" for name in runtimes}
    rows = []
    for batch in batches:
        images = torch.zeros(batch, 3, *model.input_size, device=device).normal_(
            generator=torch.Generator(device).manual_seed(batch)
        )
        for name, times in measure(runtimes, images, seconds=seconds).items():
            median, slow = np.percentile(times, (50, 95))
            rows.append(
                {
                    **which,
                    "runtime": name,
                    "device": where[name],
                    "threads": threads,
                    "batch": batch,
                    "calls": len(times),
                    "median_ms": round(median, 3),
                    "p95_ms": round(slow, 3),
                    "persons_per_s": round(1000 * batch / median, 1),
                    **facts,
                }
            )
    return rows


def _precisions(onnx_path: str | Path, input_size: tuple[int, int]) -> dict[str, bytes]:
    """The file in fp16 and int8. Ranges come from noise, since times do not depend on values."""
    content = Path(onnx_path).read_bytes()
    noise = np.random.default_rng(0).standard_normal((2, 3, *input_size), np.float32)
    return {"fp16": to_half(content), "int8": to_int8(content, noise)}


def _synchronize(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time of a prediction over batch sizes, PyTorch and onnxruntime, with fresh weights."
    parser.add_argument("--size", action="append", choices=SIZES, help="may be repeated; default: the student's")
    parser.add_argument("--input-size", metavar="HxW", help="default: that of params.yaml")
    parser.add_argument("--batch", type=int, action="append", help="may be repeated; default: 1 to 32")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a runtime and batch size (%(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    add_output(parser, SAVED)


def run(args: argparse.Namespace) -> int:
    choose_device(args.device)
    if min(args.batch or BATCHES) < 1 or not 1 <= args.threads <= 1024 or not args.seconds > 0:
        raise UserError("--batch must be at least 1, --threads from 1 to 1024, --seconds above 0")
    output = output_path(args, args.device)
    params = load_params(project.root() / "params.yaml")
    input_size = parse_size("--input-size", args.input_size) if args.input_size else params.input.size
    rows: list[dict[str, object]] = []
    for size in args.size or [params.student.size]:
        model = build_rtmpose(size, input_size)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path)
            rows += latency_rows(
                model,
                path,
                batches=args.batch or BATCHES,
                threads=args.threads,
                device=args.device,
                seconds=args.seconds,
            )
    report(output, rows, SHOWN)
    return 0
