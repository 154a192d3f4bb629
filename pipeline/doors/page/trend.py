"""Where the deployment stood at each of the last moments: what the Overview shows and draws.

A server looks every few seconds, whoever asks, so a view costs Kafka and Redis nothing and is
answered at once. What is kept is bounded: an hour of sums. Other numbers of the page are read
when they are asked for.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from ...core.state import FATES
from ...errors import PipelineError
from ...reads.usage import Status
from ..http.errors import refused_of
from ..http.service import Service

LOOK_S: Final = 3.0
_SAMPLES_MAX: Final = 1_200  # an hour


@dataclass(frozen=True, slots=True)
class Sample:
    """The sums of all partitions at a moment. lag: None while Kafka is away."""

    at_s: float
    fates: Mapping[str, int]
    lag: int | None


class Trend:
    """What a server saw of its deployment.

    lines: of `status` at the last look. owners: partition → who reads it; None where Kafka does
    not tell us. trouble: why the last look failed.
    """

    def __init__(self) -> None:
        self.lines: Status = []
        self.owners: Mapping[int, str] | None = None
        self.seen_at: datetime | None = None
        self.trouble: str | None = None
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES_MAX)

    async def follow(self, service: Service) -> None:
        """Look for ever."""
        while True:
            await self.look(service)
            await asyncio.sleep(LOOK_S)

    async def look(self, service: Service) -> None:
        """Look once."""
        try:
            lines = await service.reader.status((await service.fresh()).versions)
        except PipelineError as error:
            self.trouble = refused_of(error).message
            return
        self.lines, self.trouble = lines, None
        self.seen_at = service.clock.now()
        self._add(lines[-1], service.clock.monotonic())
        try:
            self.owners = await service.owners()
        except PipelineError:
            self.owners = None

    def _add(self, total: Mapping[str, Any], at_s: float) -> None:
        fates = {fate: int(total[fate]) for fate in FATES}
        if self._samples and sum(fates.values()) < sum(self._samples[-1].fates.values()):
            self._samples.clear()  # a rebuild began again
        self._samples.append(Sample(at_s, fates, total["lag"]))

    @property
    def per_s(self) -> float | None:
        """Events a second between the last two looks."""
        if len(self._samples) < 2:
            return None
        return sum(_rates(self._samples[-2], self._samples[-1]).values())

    def points(self) -> dict[str, list[Any]]:
        """What is drawn: seconds before now, events a second by fate, and the lag."""
        found = list(self._samples)
        pairs = list(pairwise(found))
        last = found[-1].at_s if found else 0.0
        rates = [_rates(before, after) for before, after in pairs]
        return {
            "x": [round(after.at_s - last, 1) for _, after in pairs],
            **{fate: [round(each[fate], 1) for each in rates] for fate in FATES},
            "lag": [after.lag for _, after in pairs],
        }


def _rates(before: Sample, after: Sample) -> dict[str, float]:
    took_s = max(after.at_s - before.at_s, 0.001)
    return {fate: (after.fates[fate] - before.fates[fate]) / took_s for fate in FATES}
