"""`python -m posedistill benchmark`: measures this machine; its name is in the file names."""

import argparse
import importlib

# name → (module with add_arguments and run, what it measures)
PARTS = {
    "data": ("posedistill.benchmark.data", "persons/s of the data path, step by step"),
    "train": (
        "posedistill.benchmark.training",
        "distillation steps on the CPU, in ms and in units of a matrix product",
    ),
    "latency": ("posedistill.benchmark.latency", "the latency of a prediction by batch size, PyTorch and onnxruntime"),
    "scale": ("posedistill.benchmark.scale", "memory and time of prepare, loader and evaluation as the data grow"),
    "gpu": ("posedistill.benchmark.gpu", "a GPU: steps, memory, loader, evaluation, and a short real training"),
}
DEFAULT = ("data", "train")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = "; ".join(f"{name}: {text}" for name, (_, text) in PARTS.items())
    parser.description = (
        f"Measure this machine; prints a table and writes a CSV. {parts}. Without PART: data and train."
    )
    parser.add_argument("part", nargs="?", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="arguments of the part: see PART --help")


def run(args: argparse.Namespace) -> int:
    for name in (args.part,) if args.part else DEFAULT:
        module = importlib.import_module(PARTS[name][0])
        parser = argparse.ArgumentParser(prog=f"posedistill benchmark {name}")
        module.add_arguments(parser)
        if code := module.run(parser.parse_args(args.rest)):
            return code
    return 0
