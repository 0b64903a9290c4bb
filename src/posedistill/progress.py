"""Progress of long work on standard error: tqdm's bar on a terminal, elsewhere a plain line now and then.

A bar that is redrawn four times a second fills the log of a pipeline, a queue or a CI job. The runner of a notebook
knows whether there is a terminal behind the kernel's output and says so in POSEDISTILL_PROGRESS (terminal | lines).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

EVERY = 10.0  # seconds between two lines


def on_terminal() -> bool:
    """Whether standard error ends at a terminal: POSEDISTILL_PROGRESS where it is set."""
    told = os.environ.get("POSEDISTILL_PROGRESS")
    return told == "terminal" if told else sys.stderr.isatty()


def progress(
    items: Iterable | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    show: bool = True,
) -> tqdm | Lines:
    """A tqdm bar, or what writes plain lines in its place.

    Iterate over it, or call `update(n)`; use it as a context manager or `close()` it.

    items: what to iterate over. unit: name of what is counted, in the plural. total: how many there are; default: the
    length of `items`, if it has one. initial: how many were done before. show: False writes nothing.
    """
    if not show or on_terminal():
        return tqdm(
            items,
            desc=desc,
            unit=f" {unit}",
            total=total,
            initial=initial,
            disable=not show,
            dynamic_ncols=True,
            leave=False,
        )
    return Lines(items, desc=desc, unit=unit, total=total, initial=initial)


class Lines:
    """What the project uses of tqdm, as lines: one every EVERY seconds, and one at the end."""

    def __init__(
        self, items: Iterable | None = None, *, desc: str, unit: str, total: int | None = None, initial: int = 0
    ) -> None:
        self.items, self.unit = items, unit
        self.total = len(items) if total is None and hasattr(items, "__len__") else total  # type: ignore[arg-type]
        self.desc, self.n, self.initial, self.note = desc, initial, initial, ""
        self.start = self.written = time.monotonic()
        self.closed = False

    def update(self, n: int = 1) -> None:
        """`n` more are done."""
        self.n += n
        if self.n != self.total and time.monotonic() - self.written >= EVERY:  # `close` writes the last line
            self._write()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """What the coming lines end with."""
        self.note = text

    def close(self) -> None:
        """Write the last line, if anything was done."""
        if not self.closed and self.n > self.initial:
            self._write()
        self.closed = True

    def _write(self) -> None:
        self.written = time.monotonic()
        rate = (self.n - self.initial) / max(self.written - self.start, 1e-9)
        of = "" if self.total is None else f" of {self.total:,}"
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        line = f"{self.desc}: {self.n:,}{of} {self.unit}, {speed} {self.unit}/s"
        print(f"{line}, {self.note}" if self.note else line, file=sys.stderr, flush=True)

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self.items or ():
                yield item
                self.update()
        finally:
            self.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
