"""Which measures have cells of many customers, and which cells readers may look at."""

from datetime import datetime

from definitions.metric import MetricVersion

from ..control.records import ControlState
from ..core.buckets import ns_of
from ..recount.ledger import Cell, of_everybody


class SharedMeasures:
    """What the control log says of measures: which have cells of many customers, which are read.

    versions: those that it knows. Cells outside a version's effective times are dead: nobody reads
    them (docs/design.md 6).
    """

    def __init__(self, control: ControlState, before: "SharedMeasures | None" = None) -> None:
        """Take what the log says.

        Args:
            before: What it said when books were begun. Of a measure that came later nobody knew
                in which book its cells belong, so what has cells of many customers is left out.
        """
        self._shared: set[str] = set()
        self.versions = set(control.versions)
        self._bounds: dict[str, tuple[int | None, int | None]] = {}
        for key, version in control.versions.items():
            body: MetricVersion | None = version.body
            starts = None if body is None else body.effective_from
            self._bounds[key] = (_ns(starts), _ns(version.effective_to))
            for number, measure in enumerate(body.definition.measures if body else ()):
                if body is not None and of_everybody(body, measure):
                    self._shared.add(f"{key}.{number}")
        known = self.versions if before is None else before.versions
        self._left_out = {each for each in self._shared if _version(each) not in known}

    def holds(self, measure: str) -> bool:
        """Whether events of many customers meet in the measure's cells."""
        return measure in self._shared

    def lacks(self, measure: str) -> bool:
        """The opposite: cells of one customer each, and those of no measure we know."""
        return measure not in self._shared

    def leaves_out(self, measure: str) -> bool:
        """Whether a measure is left to the next audit."""
        return measure in self._left_out

    def covers(self, cell: Cell, opens_ns: int) -> bool:
        """Whether a reader may look at a cell; one of an unknown version must not exist."""
        if cell.measure in self._left_out:
            return False
        starts, ends = self._bounds.get(_version(cell.measure), (None, None))
        return (starts is None or opens_ns >= starts) and (ends is None or opens_ns < ends)


def _version(measure: str) -> str:
    return measure.rpartition(".")[0]


def _ns(moment: datetime | None) -> int | None:
    return None if moment is None else ns_of(moment)
