"""python -m posedistill stress: how models fare as rendered people change step by step."""

import argparse
import signal
from pathlib import Path

from posedistill import project
from posedistill.devices import choose_device
from posedistill.errors import UserError, shorten
from posedistill.files import dumps_json, printable, refuse_overwrite, writable_folder, write_atomic
from posedistill.parallel import cores
from posedistill.stress.shots import AXES

PERSONS, MOST_PERSONS = 100, 100_000
FILES = ("card.json", "card.png", "differences.png", "jitter.png", "steps.jpg")
DESCRIPTION = (
    "How models fare as rendered people change step by step, one thing at a time: the same persons in all steps and "
    "models, mean OKS of each part with 95 % intervals."
)
EPILOG = (
    f"Axes: {', '.join(AXES)}. Writes DIR/card.json (all numbers), card.png, differences.png (to the first model, "
    "paired), jitter.png and steps.jpg (one person at all steps). Finished persons are kept in DIR/parts: an "
    "interrupted command continues, and more persons or models cost only what is new."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `stress`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help=".safetensors, mmpose .pth or .onnx")
    parser.add_argument("--axes", default=",".join(AXES), metavar="A,B", help="what changes (default: all)")
    parser.add_argument("--persons", type=int, default=PERSONS, help="rendered persons (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of persons and bootstrap (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/stress"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=0, help="processes, one thread each; 0 = all cores")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--flip-test", action="store_true", help="mean of the picture and its mirror")
    parser.add_argument("--body", type=Path, metavar="DIR", help="the body's data (default: the project's assets/body)")


def run(args: argparse.Namespace) -> int:
    """Judge, write the card, print where curves fall to half; 0 if all went well."""
    axes = _axes(args.axes)
    for name, low, high in (("persons", 2, MOST_PERSONS), ("seed", 0, 2**32 - 1), ("jobs", 0, 1024)):
        if not low <= getattr(args, name) <= high:
            raise UserError(f"--{name}: found {getattr(args, name)}, expected {low} to {high}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    refuse_overwrite([args.out / name for name in FILES], *args.models)
    body = args.body if args.body is not None else project.root() / "assets" / "body"
    device = choose_device(args.device)

    # Late: `--help` and bad options answer at once.
    from posedistill.stress.card import NOTE, judge_persons, make_card
    from posedistill.stress.judge import Setting
    from posedistill.stress.tables import half_lines

    print(NOTE, flush=True)
    writable_folder(args.out)
    setting = Setting(str(body), args.seed, axes, args.flip_test, device)
    judged = judge_persons(setting, args.models, args.persons, args.out / "parts", args.jobs or cores())
    card = make_card(setting, judged)
    write_atomic(args.out / "card.json", dumps_json(card, pretty=False))
    _write_figures(args.out, card, setting)
    print(half_lines(card))
    print(f"written to {printable(args.out)}")
    return 0


def _write_figures(out: Path, card: dict, setting) -> None:
    from posedistill.reporting import style
    from posedistill.stress import figures
    from posedistill.stress.sitters import make_sitter
    from posedistill.synthetic.scene import Studio

    style.use_style()
    style.save_figure(figures.card_figure(card), "card", folder=out)
    for name, wanted, draw in (
        ("differences", len(card["models"]) > 1, figures.differences_figure),
        ("jitter", "jitter" in card, figures.jitter_figure),
    ):
        if wanted:
            style.save_figure(draw(card), name, folder=out)
        else:
            (out / f"{name}.png").unlink(missing_ok=True)  # of an earlier card
    sheet = figures.steps_sheet(make_sitter(Studio(setting.body), setting.seed, 0), setting.axes)
    style.save_photo(sheet, "steps", folder=out)


def _axes(text: str) -> tuple[str, ...]:
    """The named axes, in the card's order."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in AXES]
    if unknown or not names:
        raise UserError(
            f"--axes: found {shorten(unknown[0] if unknown else text)!r}, expected some of {','.join(AXES)}"
        )
    return tuple(name for name in AXES if name in names)
