"""The exception that means "the input is wrong" (not the program), and how its messages quote values."""

import functools
import reprlib
import sys
from collections.abc import Callable
from typing import ParamSpec

LIMIT = 200  # characters of a value in a message

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = LIMIT


class UserError(Exception):
    """Bad input: one clear line saying what is wrong, where, and what would be right.

    The command line and the notebook runner print it as it is, without a traceback, and exit with code 2.
    """


def shorten(value: object) -> str:
    """`value` as one line of at most LIMIT characters for a message, cut between words where it has any.

    Text stays as it is; of anything else, however large or deep, the beginning of its repr is taken.
    """
    try:
        text = value if isinstance(value, str) else _REPR.repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = f"a very large {type(value).__name__}"
    text = text[: 10 * LIMIT].encode("utf-8", "backslashreplace").decode()  # names that are not UTF-8
    line = " ".join(text.split())
    if len(line) <= LIMIT:
        return line
    return (line[: LIMIT - 1].rpartition(" ")[0] or line[: LIMIT - 2]) + " …"


Arguments = ParamSpec("Arguments")


def exits_with_line(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """For the `main` of a module: a UserError becomes one line on standard error and exit code 2."""

    @functools.wraps(main)
    def wrapped(*args: Arguments.args, **options: Arguments.kwargs) -> int:
        try:
            return main(*args, **options)
        except UserError as error:
            print(error, file=sys.stderr)
            return 2

    return wrapped
