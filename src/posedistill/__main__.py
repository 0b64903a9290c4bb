"""The command line: python -m posedistill COMMAND. Each command's arguments live in its own module."""

import argparse
import importlib
import os
import sys

from posedistill.errors import UserError
from posedistill.files import printable, refusal
from posedistill.parallel import limit_spinning

# name → (module with add_arguments and run, what it does)
COMMANDS = {
    "evaluate": ("posedistill.evaluation.cli", "COCO-WholeBody metrics of a file of predictions"),
    "convert": ("posedistill.commands.convert", "translate checkpoints between this project's and mmpose's layout"),
    "predict": ("posedistill.commands.predict", "keypoints of people in images, folders and videos"),
    "export": ("posedistill.commands.export", "a trained model as a folder to distribute"),
    "calibrate": ("posedistill.commands.calibrate", "add a calibration to a model: confidences that are probabilities"),
    "stress": ("posedistill.stress.cli", "how models fare as rendered people change step by step"),
    "audit": ("posedistill.audit.cli", "rank what looks wrong in annotations, and apply accepted corrections"),
    "benchmark": ("posedistill.benchmark.cli", "measure data path, training step and latency on this machine"),
    "train": ("posedistill.training.cli", "train one stage outside the pipeline, on several devices or machines too"),
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser with the arguments of `command` alone: importing all rooms would take seconds."""
    parser = argparse.ArgumentParser(prog="posedistill", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        one = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == command:
            importlib.import_module(module).add_arguments(one)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; bad input and what the machine refuses (a full disk) are one line on stderr and exit code 2."""
    limit_spinning()
    arguments = sys.argv[1:] if arguments is None else arguments
    command = next((argument for argument in arguments if argument in COMMANDS), None)
    try:
        parsed = build_parser(command).parse_args(arguments)
        code = importlib.import_module(COMMANDS[parsed.command][0]).run(parsed)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _end(f"posedistill {command}: {printable(str(error))}", 2)  # file names may hold line breaks
    except KeyboardInterrupt:
        return _end(f"posedistill {command}: interrupted", 130)
    except BrokenPipeError:  # as in `… | head`
        return _end("", 1)
    except OSError as error:
        if not (reason := refusal(error)):
            raise
        return _end(f"posedistill {command}: {printable(str(error.filename or 'output'))}: {reason}", 2)


def _end(line: str, code: int) -> int:
    """Print `line`; what stdout has not taken by now is dropped, or Python would complain about it at exit."""
    if line:
        print(line, file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


if __name__ == "__main__":
    sys.exit(main())
