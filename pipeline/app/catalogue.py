"""The definitions as a worker process knows them: the control log, followed while it runs."""

import asyncio
from collections.abc import Iterable
from typing import Final

from definitions.matcher import Matcher, compile_matcher
from definitions.metric import MetricVersion
from definitions.times import NS_PER_MS

from ..control.entities import DeploymentRecord
from ..control.log import ControlLog
from ..control.records import ControlState
from ..core.buckets import ns_of
from ..deploy.checks import identity_of
from ..errors import LogUnavailable

_RETRY_S: Final = 0.5
_AT_ONCE_CHARS_MAX: Final = 65_536  # of native bodies: some milliseconds of compiling


class Definitions:
    """What the control log said last, and the matchers compiled from it.

    changes: raised by one whenever a record was taken; owners compare it to notice.
    """

    def __init__(self, state: ControlState) -> None:
        self.state = state
        self.changes = 0
        self._matchers: dict[frozenset[str], Matcher] = {}
        self._ends: tuple[int, dict[str, int]] = (-1, {})
        self._with_past: tuple[int, frozenset[str]] = (-1, frozenset())

    @property
    def identity(self) -> DeploymentRecord:
        """The deployment as the control log says now: partitions are added while workers run."""
        return identity_of(self.state)

    def foldable(self) -> list[MetricVersion]:
        """The versions that this release can fold and that count anything."""
        return [
            version.body
            for version in self.state.versions.values()
            if version.foldable and version.body is not None
        ]

    def ends_ms(self) -> dict[str, int]:
        """effective_to of the versions that have one, milliseconds since 1970."""
        if self._ends[0] != self.changes:
            found = {
                key: ns_of(version.effective_to) // NS_PER_MS
                for key, version in self.state.versions.items()
                if version.effective_to is not None
            }
            self._ends = (self.changes, found)
        return self._ends[1]

    def bodies(self, keys: Iterable[str]) -> dict[str, MetricVersion]:
        """What is known of versions, by key; those that this release cannot read are left out."""
        known = self.state.versions
        found = {key: known[key].body for key in keys if key in known}
        return {key: body for key, body in found.items() if body is not None}

    def with_past(self) -> frozenset[str]:
        """The versions whose past is to be counted, where it is not yet."""
        if self._with_past[0] != self.changes:
            known = self.state.versions
            found = (body.key for body in self.foldable())
            keys = frozenset(key for key in found if not known[key].drops_history)
            self._with_past = (self.changes, keys)
        return self._with_past[1]

    async def matcher(self, keys: Iterable[str]) -> Matcher:
        """The matcher of a set of versions, compiled once; large ones in a thread.

        The event loop must not stand still while 200 large definitions are compiled.
        """
        wanted = frozenset(keys)
        found = self._matchers.get(wanted)
        if found is None:
            bodies = [version for version in self.foldable() if version.key in wanted]
            assert len(bodies) == len(wanted), "a version that cannot be folded was to be folded"
            size = sum(len(body.definition.origin.text) for body in bodies)
            if size > _AT_ONCE_CHARS_MAX:
                made = await asyncio.to_thread(compile_matcher, bodies)
            else:
                made = compile_matcher(bodies)
            # The last set is all that is asked for but for partitions on the way to it.
            if len(self._matchers) > 8:
                self._matchers.clear()
            found = self._matchers[wanted] = made
        return found

    def missing(self, keys: Iterable[str], digests: dict[str, str]) -> tuple[list[str], list[str]]:
        """Return the versions that are not known yet, and those this release cannot fold."""
        known = self.state.versions
        unknown = [key for key in keys if key not in known]
        foreign = [
            key
            for key in keys
            if (version := known.get(key)) is not None
            and (
                not version.foldable or version.body is None or version.body.digest != digests[key]
            )
        ]
        return unknown, foreign

    async def follow(self, log: ControlLog) -> None:
        """Take new records for ever; Kafka being away only delays them."""
        known = log.state.next
        while True:
            try:
                await log.poll()
                if log.state.next != known:  # read here, or by the clerk that writes to it
                    known = log.state.next
                    self.changes += 1
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)
