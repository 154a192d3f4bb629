"""Customers as Metronome knows them: names, and other ids under which their events may come."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from definitions.times import parse_timestamp

from .members import InvalidRecord, text_in, truth_in

CUSTOMERS_MAX: Final = 100_000  # of a deployment: every process holds them all
ALIASES_MAX: Final = 1_000  # of a customer
CHARS_MAX: Final = 256  # of an id and an alias, as of a customer_id


@dataclass(frozen=True, slots=True)
class NamedCustomer:
    """A customer. aliases: customer_ids of events that are this customer's."""

    id: str
    name: str
    aliases: tuple[str, ...]
    custom_fields: Mapping[str, str]
    created_at: str
    updated_at: str
    archived: bool = False


@dataclass(slots=True)
class Customers:
    """What the control log says of customers. by_alias: alias → the customer who has it now."""

    held: dict[str, NamedCustomer] = field(default_factory=dict)
    by_alias: dict[str, str] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a customer as it is from now on; an alias of another one moves.

        Raises:
            InvalidRecord: it is not what a reader relies on.
        """
        id_, at = text_in(record, "customer_id"), text_in(record, "at")
        before = self.held.get(id_)
        aliases, fields = record["ingest_aliases"], record["custom_fields"]
        if not isinstance(aliases, list) or not isinstance(fields, dict):
            raise InvalidRecord("ingest_aliases is a list, custom_fields an object")
        if not all(isinstance(each, str) for each in (*aliases, *fields.values())):
            raise InvalidRecord("aliases and custom fields are texts")
        if not all(0 < len(each) <= CHARS_MAX for each in (id_, *aliases)):
            raise InvalidRecord(f"ids and aliases have 1 to {CHARS_MAX} characters")
        if len(aliases) > ALIASES_MAX or (before is None and len(self.held) >= CUSTOMERS_MAX):
            raise InvalidRecord("too many aliases, or customers")
        if parse_timestamp(at) is None:
            raise InvalidRecord("at must be RFC 3339")
        made = NamedCustomer(
            id_,
            text_in(record, "name"),
            tuple(dict.fromkeys(aliases)),
            fields,
            at if before is None else before.created_at,
            at,
            truth_in(record, "archived"),
        )
        for alias in () if before is None else before.aliases:
            del self.by_alias[alias]
        for alias in made.aliases:
            owner = self.held.get(self.by_alias.get(alias, ""))
            if owner is not None:
                left = tuple(each for each in owner.aliases if each != alias)
                self.held[owner.id] = replace(owner, aliases=left)
            self.by_alias[alias] = id_
        self.held[id_] = made

    def of(self, customer_id: str) -> str:
        """Return the customer that the customer_id of an event stands for."""
        if customer_id in self.held:
            return customer_id
        return self.by_alias.get(customer_id, customer_id)


def record_of(made: NamedCustomer, at: str) -> dict[str, Any]:
    """Return the record of a customer as it is from now on."""
    return {
        "type": "customer",
        "customer_id": made.id,
        "name": made.name,
        "ingest_aliases": list(made.aliases),
        "custom_fields": dict(made.custom_fields),
        "archived": made.archived,
        "at": at,
    }
