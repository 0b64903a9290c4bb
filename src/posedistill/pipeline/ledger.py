"""The account of a preparation: what was read, kept and dropped, and why. The books balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from posedistill.data.store.parts import Notes
from posedistill.errors import UserError
from posedistill.files import printable
from posedistill.sources.person import Funnel, SourcePersons

SHOWN = 10  # broken pictures that an error message lists


@dataclass
class Ledger:
    """What became of every record, for the notebook; also written to prepared/report.json.

    sets: one entry for `train` and for each validation set: persons, images, bytes, parts (labelled counts), …
    funnels: as Funnel.as_dict, with their set. broken: pictures that could not be used, with the reason.
    """

    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    funnels: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)

    def settle(self, name: str, reads: Sequence[SourcePersons], notes: Sequence[Notes]) -> None:
        """Enter the funnels of a set's sources, with the persons of broken pictures moved from kept to dropped."""
        for index, read in enumerate(reads):
            for picture, reason, image_id, persons in broken_pictures(notes, index):
                if undetected := read.annotated[image_id]:  # persons and their detections are counted apart
                    _drop(read.funnels[0], reason, picture, undetected)
                funnel = _funnel_of(read.funnels, picture)
                if persons:
                    _drop(funnel, reason, picture, persons)
                entry = {"picture": picture, "reason": reason, "persons": persons}
                self.broken.append({"set": name, "source": funnel.source, **entry})
            for source, picture, what in (odd for part in notes for odd in part["odd"]):
                if source == index:
                    _funnel_of(read.funnels, picture).note(f"picture: {what}", picture)
        for funnel in (funnel for read in reads for funnel in read.funnels):
            funnel.check()
            self.funnels.append({"set": name, **funnel.as_dict()})


def broken_pictures(notes: Iterable[Notes], source: int) -> list[tuple[str, str, int, int]]:
    """(name, reason, image id, persons) of the pictures of a source that could not be used."""
    return [tuple(entry[1:]) for part in notes for entry in part["broken"] if entry[0] == source]  # type: ignore[misc]


def check_share(source: str, cases: Sequence[str], count: int, total: int, allowed: float) -> None:
    """UserError if `count` broken pictures of `total` are more than a share of `allowed`; lists the first `cases`."""
    if count > allowed * total:
        listed = "; ".join(map(printable, cases[:SHOWN])) + ("; …" if len(cases) > SHOWN else "")
        raise UserError(
            f"source {source}: {count} of {total} pictures cannot be used, allowed: a share of {allowed:g} "
            f"(data.max_broken): {listed}"
        )


def reasons(reads: Sequence[SourcePersons]) -> str:
    """Why persons were dropped, most frequent first, as one line."""
    counts: Counter[str] = Counter()
    for funnel in (funnel for read in reads for funnel in read.funnels):
        counts.update({f"{funnel.what}: {reason}": number for reason, number in funnel.dropped.items()})
    return "; ".join(f"{reason} ({number})" for reason, number in counts.most_common()) or "none was annotated"


def _drop(funnel: Funnel, reason: str, picture: str, persons: int) -> None:
    funnel.drop(reason, picture, persons)
    funnel.kept -= persons


def _funnel_of(funnels: list[Funnel], picture: str) -> Funnel:
    """The funnel that counted a picture's persons: its scene's, where a source has one per scene; else the last."""
    scene = picture.split("/")[0]
    counting = [funnel for funnel in funnels if funnel.what != "pictures"]
    return next((funnel for funnel in counting if funnel.source.endswith(f"/{scene}")), counting[-1])
