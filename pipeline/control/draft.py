"""A draft of the control log: what would become of records, before any of them is written."""

import uuid
from collections.abc import Mapping
from typing import Any

from ..errors import ConflictError
from .records import INVALID, SCHEMA_VERSION, ControlState, drafted, take_part


class Draft:
    """Stands in for the control log: what is written changes a copy of its state alone.

    records: what was written, as the log would have it.
    """

    def __init__(self, state: ControlState) -> None:
        self.state = drafted(state)
        self.records: list[dict[str, Any]] = []

    async def write(self, record: Mapping[str, Any]) -> int:
        """Take one record; return how many there are.

        Raises:
            ConflictError: it is not valid after what was written before; the draft is of no use.
        """
        body = {"schema_version": SCHEMA_VERSION, "nonce": uuid.uuid4().hex, **record}
        try:
            take_part(self.state, body)
        except INVALID as error:
            raise ConflictError(f"nothing was changed: {error}") from error
        self.records.append(body)
        return len(self.records)
