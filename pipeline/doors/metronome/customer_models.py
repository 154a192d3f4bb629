"""Metronome's bodies about customers (docs/formats.md 3.7)."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from definitions.formats.bodies import is_text_list

from ...control.customers import ALIASES_MAX, CHARS_MAX
from ..http.bodies import Body, refuses
from .models import not_blank


def _aliases(given: Any) -> Any:
    if not is_text_list(given):
        raise refuses(("texts_type", ""))
    if len(given) > ALIASES_MAX or not all(0 < len(each) <= CHARS_MAX for each in given):
        why = f"at most {ALIASES_MAX} aliases of 1 to {CHARS_MAX} characters"
        raise refuses(("M-ALIASES", why))
    return given


Aliases = Annotated[
    list[str],
    BeforeValidator(_aliases),
    Field(json_schema_extra={"maxItems": ALIASES_MAX}),
]


class NewCustomer(Body):
    """A customer; what is billed, and how, is not kept here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "Example, Inc.", "ingest_aliases": ["team@example.com"]}]
        }
    )

    name: Annotated[str, AfterValidator(not_blank)] = Field(
        description="Its name; not blank.", json_schema_extra={"pattern": r"\S"}
    )
    ingest_aliases: Aliases = Field(
        default_factory=list, description="Other customer_ids of its events."
    )
    custom_fields: dict[str, str] = Field(default_factory=dict, description="Kept as given.")


class IngestAliases(Body):
    """All aliases that a customer has from now on."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ingest_aliases": ["team@example.com"]}]}
    )

    ingest_aliases: Aliases = Field(description="Those it had before and that are not here end.")
