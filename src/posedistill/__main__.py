"""The command line: python -m posedistill COMMAND. Each command's arguments live in the room that it belongs to."""

import argparse
import importlib
import sys

from posedistill.errors import UserError

# name → (module with add_arguments and run, what it does)
COMMANDS = {
    "evaluate": ("posedistill.evaluation.cli", "COCO-WholeBody metrics of a file of predictions"),
    "convert": ("posedistill.pipeline.convert_cli", "translate checkpoints between this project's and mmpose's layout"),
    "predict": ("posedistill.pipeline.predict_cli", "keypoints of people in images, folders and videos"),
    "export": ("posedistill.pipeline.export_cli", "the trained student as a folder to hand out"),
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
    """Run a command; bad input is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = next((argument for argument in arguments if argument in COMMANDS), None)
    try:
        parsed = build_parser(command).parse_args(arguments)
        return importlib.import_module(COMMANDS[parsed.command][0]).run(parsed)
    except UserError as error:
        print(f"posedistill {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"posedistill {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `… | head`
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
