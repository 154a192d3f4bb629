"""What was invoiced: the rows of a closed period, and what live numbers say beside them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from definitions.times import rfc3339

from ..control.entities import Metric, Revision
from ..core.dedup import home_of
from ..core.windows import Window, WindowSize, windows, zone_of
from ..errors import UnknownNameError
from ..reads.lines import places_in
from ..reads.pieces import pieces_of
from .changes import delta_of
from .folder import Folder
from .period import Periods
from .reading import ClosedRow, Key, by_customer, rows_in, standing_rows

_NOTHING: Final[Mapping[Key, ClosedRow]] = {}


class ClosedPeriod:
    """The files of a period, up to a revision, as their rows stand together.

    Raises:
        UnknownNameError: they are not here. ConflictError: they are not what they were.
    """

    def __init__(self, root: Path, revisions: Sequence[Revision]) -> None:
        self.revision = revisions[-1]
        folders = [Folder(root, each.period, each.timezone, each.number) for each in revisions]
        pairs = zip(folders, revisions, strict=True)
        self._whole = [(folder, folder.read(each)) for folder, each in pairs]
        first = self._whole[0][1]
        self._homes: int = first["homes"]
        self._per_home: int = first["parts"]

    def rows(self, customer: str | None = None) -> Iterator[ClosedRow]:
        """Yield the rows of one customer, or of all, part by part."""
        if customer is not None:
            found = self.part(self.part_of(customer))
            yield from (row for row in found if row.customer_id == customer)
            return
        for number in range(self._homes * self._per_home):
            yield from self.part(number)

    def part_of(self, customer: str) -> int:
        """The number of the part that a customer is in."""
        sub = crc32(customer.encode()) % self._per_home
        return home_of(customer, self._homes) * self._per_home + sub

    def part(self, number: int) -> Iterator[ClosedRow]:
        """Yield the rows of a part, in order."""
        start = f"part-{number:05d}."
        return standing_rows(
            [
                rows_in(folder.part(told), manifest["format"])
                for folder, manifest in self._whole
                for told in manifest["files"]
                if told["name"].startswith(start)
            ]
        )


def closed_line(topic: str, row: ClosedRow) -> dict[str, Any]:
    """Return the line of a closed row, with the members of a live one."""
    more: dict[str, Any] = {}
    if row.revision > 1:
        more = {"previous_value": row.previous_value, "delta": row.delta}
    if row.corrections is not None:
        more["corrections"] = json.loads(row.corrections)
    return {
        "customer_id": row.customer_id,
        "metric_id": row.metric_id,
        "metric": row.metric,
        "version": row.version,
        "starting_on": rfc3339(row.window_start),
        "ending_before": rfc3339(row.window_end),
        "group": row.group,
        "value": row.value,
        "unreadable": row.unreadable,
        "complete": True,
        "revision": row.revision,
        **more,
        **places_in(topic, row.lies),
    }


class Since:
    """What live rows say of closed periods: `closed`, and how much came since.

    root: the folder of all periods; None: nothing is compared with it.

    Rule: within a part customers are asked for in the order of their ids, as every answer has
    them; so each part is read once.
    """

    def __init__(self, periods: Periods, root: Path | None) -> None:
        self._periods = periods
        self._root = root
        self._found: dict[tuple[str, datetime, datetime], _Held | None] = {}

    def members(
        self,
        metric: Metric,
        customer: str | None,
        window: Window,
        group: tuple[str, Sequence[str]] | None,
        value: str | None,
    ) -> dict[str, Any]:
        """Return what a row says besides; nothing where its window lies in no closed period.

        group: as canonical JSON, and its names.
        """
        key = (metric.id, *window)
        if key not in self._found:
            self._found[key] = self._held(metric.id, window)
        held = self._found[key]
        if held is None or customer is None:
            return {}
        told: dict[str, Any] = {"closed": held.revision.number}
        if held.files is None or not held.has(metric, window, group):
            return told
        text = "" if group is None else group[0]
        row = held.of(customer).get((customer, metric.id, *window, text))
        before = None if row is None else row.value
        return {**told, "closed_value": before, "delta": delta_of(value, before)}

    def _held(self, metric_id: str, window: Window) -> "_Held | None":
        """The shortest closed period that a window lies in."""
        found = [
            known
            for known in self._periods.values()
            if known[-1].starting_on <= window.starting_on
            and window.ending_before <= known[-1].ending_before
            and metric_id in known[-1].metric_ids
        ]
        if not found:
            return None
        known = min(found, key=lambda each: each[0].ending_before - each[0].starting_on)
        for held in self._found.values():
            if held is not None and held.revision == known[-1]:
                return held
        files = None
        with suppress(UnknownNameError):  # they are elsewhere: then nobody can compare
            files = None if self._root is None else ClosedPeriod(self._root, known)
        return _Held(known[-1], files)


class _Held:
    """A closed period whose files are being read beside a live answer."""

    def __init__(self, revision: Revision, files: ClosedPeriod | None) -> None:
        self.revision = revision
        self.files = files
        self._parts: dict[int, Iterator[tuple[str, Mapping[Key, ClosedRow]]]] = {}
        self._last: dict[int, tuple[str, Mapping[Key, ClosedRow]] | None] = {}
        self._windows = set(
            windows(
                revision.starting_on,
                revision.ending_before,
                size=WindowSize(revision.window_size),
                zone=zone_of(revision.timezone),
                bucket_s=1,
            )
        )

    def has(self, metric: Metric, window: Window, group: tuple[str, Sequence[str]] | None) -> bool:
        """Whether the files hold such rows: windows of this size, groups of this key."""
        if group is not None and not self.revision.groups:
            return False
        key = None if group is None else tuple(group[1])
        wholes = [window] if window in self._windows else self._around(window)
        return any(window in pieces_of(metric, key, whole) for whole in wholes)

    def _around(self, window: Window) -> list[Window]:
        """The windows of the period that a shorter one lies in."""
        return [
            each
            for each in self._windows
            if each.starting_on <= window.starting_on
            and window.ending_before <= each.ending_before
        ]

    def of(self, customer: str) -> Mapping[Key, ClosedRow]:
        """The rows of a customer; those before him in his part are passed."""
        assert self.files is not None
        number = self.files.part_of(customer)
        if number not in self._parts:
            self._parts[number] = by_customer(self.files.part(number))
            self._last[number] = next(self._parts[number], None)
        while (last := self._last[number]) is not None and last[0] < customer:
            self._last[number] = next(self._parts[number], None)
        return last[1] if last is not None and last[0] == customer else _NOTHING
