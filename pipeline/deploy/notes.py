"""What `recount doctor` notes while it looks (deploy/examining.py)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ..control.entities import DeploymentRecord
from ..core.records import Span
from ..core.state import PartitionState
from ..edges.kafka_client import TopicInfo
from ..edges.redis_health import RedisHealth
from ..errors import PipelineError

GROUP_S_MAX: Final = 8.0


class Word(StrEnum):
    """What a check says. MIND: it works, and somebody should know. UNKNOWN: not looked at."""

    WELL = "well"
    MIND = "mind"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found. do: what to do, where `told` does not say it."""

    check: str
    state: Word
    told: str
    do: str | None = None


class NotReached(Exception):
    """What a check stands on is not there."""


@dataclass(slots=True)
class Seen:
    """What checks leave for those after them. record: None until the control log was read."""

    topics: dict[str, TopicInfo] = field(default_factory=dict)
    record: DeploymentRecord | None = None
    spans: dict[int, Span] = field(default_factory=dict)
    states: dict[int, PartitionState] = field(default_factory=dict)
    health: list[RedisHealth] = field(default_factory=list)

    @property
    def deployment(self) -> DeploymentRecord:
        """The deployment, for what cannot be looked at without it."""
        if self.record is None:
            raise NotReached
        return self.record


class Notes:
    """The findings, in the order of the checks."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.seen = Seen()

    def say(self, check: str, state: Word, told: str, do: str | None = None) -> None:
        """Note a finding."""
        self.found.append(Found(check, state, told, do))

    def say_well(self, check: str, told: str) -> None:
        """Note that all is well."""
        self.say(check, Word.WELL, told)

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """Note what is wrong; nothing that stands on it is looked at then."""
        try:
            yield
        except PipelineError as error:
            self.say(name, Word.WRONG, str(error))
            raise NotReached from error

    async def within(self, look: Callable[[], Awaitable[None]], *checks: str) -> None:
        """Run a group of checks for a bounded time; those that were not reached are unknown."""
        why = "what it stands on is not there"
        try:
            async with asyncio.timeout(GROUP_S_MAX):
                await look()
        except TimeoutError:
            why = f"no answer within {GROUP_S_MAX:.0f} s"
        except NotReached:
            pass
        told = {each.check for each in self.found}
        for check in checks:
            if check not in told:
                self.say(check, Word.UNKNOWN, f"not looked at: {why}")
