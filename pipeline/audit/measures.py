"""Which measures have cells of many customers, and which cells readers may look at."""

from datetime import datetime

from definitions.metric import MetricVersion

from ..control.records import ControlState
from ..core.buckets import ns_of
from ..recount.ledger import Cell, of_everybody


class SharedMeasures:
    """What the control log says of measures: which have cells of many customers, which are read.

    Cells outside a version's effective times are dead: nobody reads them (docs/design.md 6).
    """

    def __init__(self, control: ControlState) -> None:
        self._shared: set[str] = set()
        self._bounds: dict[str, tuple[int | None, int | None]] = {}
        for key, version in control.versions.items():
            body: MetricVersion | None = version.body
            starts = None if body is None else body.effective_from
            self._bounds[key] = (_ns(starts), _ns(version.effective_to))
            for number, measure in enumerate(body.definition.measures if body else ()):
                if body is not None and of_everybody(body, measure):
                    self._shared.add(f"{key}.{number}")

    def holds(self, measure: str) -> bool:
        """Whether events of many customers meet in the measure's cells."""
        return measure in self._shared

    def lacks(self, measure: str) -> bool:
        """The opposite: cells of one customer each, and those of no measure we know."""
        return measure not in self._shared

    def covers(self, cell: Cell, opens_ns: int) -> bool:
        """Whether a reader may look at a cell; one of an unknown version must not exist."""
        starts, ends = self._bounds.get(cell.measure.rpartition(".")[0], (None, None))
        return (starts is None or opens_ns >= starts) and (ends is None or opens_ns < ends)


def _ns(moment: datetime | None) -> int | None:
    return None if moment is None else ns_of(moment)
