"""What of a question about usage nothing has: a note on stderr, and a member of lines."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import harmless
from ..reads.answers import UsageRow
from ..reads.known import UNKNOWN, is_bare, why_no_group, why_unknown
from ..reads.query import Query
from .open import Opened


class Unknown:
    """Looks only where an answer is empty or all of it is 0. rows: how many were told so far."""

    def __init__(self, deployment: Opened) -> None:
        self._deployment = deployment
        self.rows = 0

    async def of_rows(self, customer: str | None, rows: Sequence[UsageRow]) -> Mapping[str, Any]:
        """What each of these rows says besides. customer: whose all of them are."""
        self.rows += len(rows)
        if customer is None or not is_bare(rows):
            return {}
        return await self._of_customer(customer)

    async def of_nobody(self, customer: str | None) -> Mapping[str, Any]:
        """What the last line says besides, where no row came before it."""
        return {} if self.rows or customer is None else await self._of_customer(customer)

    async def of_end(self, query: Query) -> Mapping[str, Any]:
        """The same where groups may have been asked for that there are not."""
        about = await self.of_nobody(query.customer)
        if about or self.rows or not query.group_filters:
            return about
        groups = None
        if query.customer is not None:
            everything = replace(query, group_filters={})
            found = await self._deployment.reader.usage(everything)
            groups = [row.group for row in found.rows if row.group is not None]
        _note(why_no_group(query.group_filters, groups))
        return UNKNOWN

    async def _of_customer(self, customer: str) -> Mapping[str, Any]:
        if await self._deployment.knows(customer):
            return {}
        _note(why_unknown(customer))
        return UNKNOWN


def _note(text: str) -> None:
    sys.stderr.write(f"recount usage: {harmless(text)}\n")
