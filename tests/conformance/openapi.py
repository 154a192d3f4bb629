"""`python -m tests.conformance.openapi DIR`: every answer of ours against the vendors' documents.

DIR has the OpenAPI documents that the vendors publish, each as `NAME.json` or `NAME.json.gz` (see
DOCUMENTS). They are not part of the repository. What differs and is meant stands in MEANT, with
its reason, and in docs/http.md; every other difference fails.
"""

import gzip
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonschema_rs

from ..integration.doors import serving
from ..services import Recount, fresh, services
from ..vendors import Answered, plain, walk
from .runner import main

# name of a document → whose it is
DOCUMENTS: Final = {
    "klaviyo": "Klaviyo",
    "metronome": "Metronome",
    "statsig-console": "Statsig",
    "statsig-http": "Statsig",
}


class Difference(NamedTuple):
    """What an answer has that its document has not, or the other way round.

    kind: `status` (not told of), `schema` (another value or type), `member` (not told of).
    place: a JSON pointer; numbers of lists are `*`.
    """

    kind: str
    place: str
    message: str


class Reason(NamedTuple):
    """Differences that are meant: each part is a pattern, and all of them match."""

    vendor: str
    kind: str
    asked: str
    place: str
    why: str


_STANDS: Final = (
    "as_of|complete|definition|history|percent|exact_from|registered_at|halted.*|kafka"
)
MEANT: Final = (
    Reason(
        "Klaviyo",
        "schema",
        ".* sparse",
        '.* "(created|updated|name|definition|metric_groups|aggregation_method)" is a required.*',
        "sparse fields: what is asked for alone is answered, as the vendor's page shows",
    ),
    Reason(
        "Klaviyo",
        "schema",
        ".*/api/custom-metrics.*",
        '.*/operator "does not equal" is not one of .*',
        "an operator comes back as it was sent: this one is of the vendor's own page (CK15)",
    ),
    Reason(
        "Klaviyo",
        "member",
        ".* 4..",
        r"/errors/\*/(status|links|meta) .*",
        "bodies of errors that were observed have them (formats, 1.8)",
    ),
    Reason(
        "Klaviyo",
        "member",
        "POST .* 200",
        f"/meta/({_STANDS}) .*",
        "our own members: where numbers stand",
    ),
    Reason(
        "Metronome",
        "schema",
        ".*",
        r".*/property_filters/\*/exists null is not .*",
        "a body comes back as it was sent, and null is as good as absent",
    ),
    Reason(
        "Metronome",
        "schema",
        "POST /v1/usage 200",
        r"/data/\*/customer_id .* is not a \"uuid\"",
        "any text is a customer: events need no customer that was made before (CM22)",
    ),
    Reason(
        "Metronome",
        "member",
        "POST /v1/usage.* 200",
        "/as_of .*",
        "our own member: where numbers stand",
    ),
    Reason(
        "Metronome",
        "status",
        ".* 4..",
        ".*",
        "refusals: the document tells of next to none, the vendor's guides do (formats, 3.6)",
    ),
    Reason(
        "Statsig",
        "schema",
        "GET .*/metrics(/values)? 200",
        r"/data/\*/(numerator|denominator) null is not .*",
        "as the document's own example has it where a metric is no ratio",
    ),
    Reason(
        "Statsig",
        "schema",
        "GET .*/metrics(/values)? 200",
        r"/data/\*/value null is not .*",
        "what is not computed has no number",
    ),
    Reason(
        "Statsig",
        "member",
        "GET /console/v1/metrics 200",
        r"/data/\*/metric_(name|type) .*",
        "as the document's own example has it",
    ),
    Reason(
        "Statsig",
        "member",
        "GET .*/metrics(/values)? 200",
        "/as_of .*",
        "our own member: where numbers stand",
    ),
    Reason(
        "Statsig",
        "status",
        ".* 4..",
        ".*",
        "refusals that the document leaves out; their form is that of its other refusals",
    ),
)
_NO_RULES: Final = {"nullable", "example", "examples", "default", "discriminator", "xml"}


# -- documents --------------------------------------------------------------------------------


class Document:
    """A vendor's OpenAPI 3 document: the schema of each answer it tells of."""

    def __init__(self, text: Mapping[str, Any]) -> None:
        self._text = text
        self._operations = {
            (method.upper(), plain(path)): operation
            for path, operations in text["paths"].items()
            for method, operation in operations.items()
            if method in {"get", "post", "put", "patch", "delete"}
        }
        self.judged = cache(self._judged)

    def tells_of(self, method: str, route: str) -> bool:
        """Whether it has an operation."""
        return (method, route) in self._operations

    def differences(self, answered: Answered) -> list[Difference]:
        """What an answer of an operation that it tells of has otherwise."""
        told, schema = self.judged(answered.method, answered.route, answered.status)
        if not told:
            return [Difference("status", "", f"{answered.status} is not told of")]
        if schema is None:
            return []
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        wrong = (
            Difference("schema", _pointer(error.instance_path), _said(error))
            for each in validator.iter_errors(answered.body)
            for error in _nearest(each)
        )
        return sorted({*wrong, *_untold([schema], answered.body, ())})

    def _judged(self, method: str, route: str, status: int) -> tuple[bool, Any]:
        """Whether the document tells of an answer, and its schema, if it has a body."""
        told = self._operations[method, route]["responses"]
        codes = (str(status), f"{status // 100}XX", "default")
        response = next((told[code] for code in codes if code in told), None)
        if response is None:
            return False, None
        content = self._resolved(response).get("content") or {}
        schemas = (each["schema"] for each in content.values() if "schema" in each)
        return True, self._expanded(next(schemas, None), ())

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            found: Any = self._text
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            node = found
        return node

    def _expanded(self, schema: Any, within: tuple[str, ...]) -> Any:
        """OpenAPI 3.0 → JSON Schema, with every reference in its place."""
        if isinstance(schema, list):
            return [self._expanded(each, within) for each in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            if schema["$ref"] in within:
                return {}
            return self._expanded(dict(self._resolved(schema)), (*within, schema["$ref"]))
        made = {
            name: {key: self._expanded(each, within) for key, each in held.items()}
            if name == "properties"
            else self._expanded(held, within)
            for name, held in schema.items()
            if name not in _NO_RULES
        }
        return _plain(_merged(made), nullable=schema.get("nullable") is True)


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without allOf: one object has the members of all."""
    for part in schema.pop("allOf", []):
        for name, held in part.items():
            if name == "properties":
                schema["properties"] = {**schema.get("properties", {}), **held}
            elif name == "required":
                schema["required"] = sorted({*schema.get("required", ()), *held})
            else:
                schema.setdefault(name, held)
    return schema


def _plain(schema: dict[str, Any], *, nullable: bool) -> dict[str, Any]:
    """What JSON Schema says in other words than OpenAPI 3.0."""
    for bound, name in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(name), bool) and schema.pop(name):
            schema[name] = schema.pop(bound)
    if "oneOf" in schema:  # an integer is a number too, and fits both
        schema["anyOf"] = schema.pop("oneOf")
    return {"anyOf": [schema, {"type": "null"}]} if nullable else schema


def _nearest(error: Any) -> Iterator[Any]:
    """The errors of an error: of alternatives those of the one that the value is nearest to."""
    branches = getattr(error.kind, "context", None)
    if not branches:
        yield error
        return
    found = [[each for inner in branch for each in _nearest(inner)] for branch in branches]
    here = list(error.instance_path)
    kept = [errors for errors in found if all(list(each.instance_path) != here for each in errors)]
    yield from min(kept or found, key=len)


def _untold(schemas: list[Any], value: Any, place: tuple[Any, ...]) -> Iterator[Difference]:
    """The members of a value that no alternative tells of."""
    held = [each for schema in schemas for each in _alternatives(schema)]
    if isinstance(value, list):
        items = [each["items"] for each in held if "items" in each]
        for number, inner in enumerate(value if items else ()):
            yield from _untold(items, inner, (*place, number))
    elif isinstance(value, dict):
        closed = [each for each in held if "properties" in each or "additionalProperties" in each]
        for name, inner in value.items() if closed else ():
            told = [
                each["properties"][name] for each in closed if name in each.get("properties", {})
            ]
            free = [
                each["additionalProperties"] for each in closed if each.get("additionalProperties")
            ]
            if told or free:
                yield from _untold(told or free, inner, (*place, name))
            else:
                yield Difference("member", _pointer((*place, name)), "is not told of")


def _alternatives(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for each in schema.get("anyOf", ()):
            yield from _alternatives(each)


def _pointer(path: Iterable[Any]) -> str:
    return "".join(f"/{'*' if isinstance(each, int) else each}" for each in path)


def _said(error: Any) -> str:
    return re.sub(r"\s+", " ", error.message)[:300]


def documents(folder: Path) -> dict[str, Document]:
    """The documents of a folder by name. Raises: FileNotFoundError."""
    found = {}
    for name in DOCUMENTS:
        packed, file = folder / f"{name}.json.gz", folder / f"{name}.json"
        data = gzip.decompress(packed.read_bytes()) if packed.exists() else file.read_bytes()
        found[name] = Document(json.loads(data))
    return found


# -- the run ----------------------------------------------------------------------------------


def run(folder: Path) -> tuple[int, list[str]]:
    """Ask every route of a server of our own; return how many answers fit, and what does not."""
    held = documents(folder)
    with services() as found, tempfile.TemporaryDirectory(prefix="recount-openapi-") as made:
        recount = Recount(found, fresh("openapi"))
        recount.run("init", "--partitions", "2")
        with serving(recount, Path(made) / "serve.log") as server:
            now = datetime.now(UTC)  # noqa: TID251  a runner's clock
            answers = walk(server, now.replace(minute=0, second=0, microsecond=0))
    passed, failed, met = 0, [], set()
    for answered in answers:
        left = []
        for each in differences_of(held, answered):
            reason = reason_of(answered, each)
            if reason is None:
                left.append(
                    f"{answered.vendor} {answered}: {each.kind} {each.place} {each.message}"
                )
            else:
                met.add(reason)
        passed += not left
        failed += left
    for reason in MEANT:
        if reason in met:
            told = f"{reason.vendor} {reason.kind} {reason.asked} {reason.place}: {reason.why}"
            print(f"meant   {told}")  # noqa: T201
        else:
            failed.append(f"{reason} is not met: take it out of MEANT")
    return passed, sorted(set(failed))


def differences_of(held: Mapping[str, Document], answered: Answered) -> list[Difference]:
    """What an answer has otherwise than its vendor's documents; one of them must tell of it."""
    for name, vendor in DOCUMENTS.items():
        if vendor == answered.vendor and held[name].tells_of(answered.method, answered.route):
            return held[name].differences(answered)
    return [Difference("route", "", "no document tells of it")]


def reason_of(
    answered: Answered, difference: Difference, reasons: Iterable[Reason] = MEANT
) -> Reason | None:
    """Why a difference is meant, or None."""
    for reason in reasons:
        if (
            (reason.vendor, reason.kind) == (answered.vendor, difference.kind)
            and re.fullmatch(reason.asked, str(answered))
            and re.fullmatch(reason.place, f"{difference.place} {difference.message}")
        ):
            return reason
    return None


if __name__ == "__main__":
    sys.exit(main("openapi", run))
