"""Options that all experiments have."""

import argparse
from collections.abc import Sequence

from posedistill.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """--seeds and --processes."""
    parser.add_argument("--seeds", type=_at_least(0), nargs="+", help="training seeds (0 1 2; sweep: 0)")
    parser.add_argument("--processes", type=_at_least(1), default=2, help="trainings side by side, one thread each (2)")


def distinct(seeds: Sequence[int] | None) -> tuple[int, ...]:
    """The seeds that were given, none for None. UserError if one is there twice."""
    found = tuple(seeds or ())
    if len(set(found)) < len(found):
        raise UserError(f"--seeds: found {' '.join(map(str, found))}, expected each seed once")
    return found


def _at_least(smallest: int):
    def whole(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"found {value}, expected a whole number from {smallest}")
        return value

    whole.__name__ = "whole number"  # what argparse calls it where the text is no number
    return whole
