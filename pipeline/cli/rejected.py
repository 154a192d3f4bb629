"""rejected list."""

import base64
from typing import Annotated, Any

import typer

from ..core.reasons import Reason
from ..edges.kafka import all_records, headers_of
from ..errors import UsageError
from .later import add_absent
from .open import opened
from .output import TableOption, show, wait


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Dead letters.", no_args_is_help=True)
    group.command("list")(list_command)
    add_absent(group, "redrive", "rejected redrive", "it comes with the fault suite")
    app.add_typer(group, name="rejected")


def list_command(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    table: TableOption = False,
) -> None:
    """List the dead letters with reason and original, each rejected event once."""
    if reason is not None and reason not in set(Reason):
        raise UsageError(f"--reason is one of {', '.join(Reason)}")
    show(wait(_letters(reason)), table=table)


async def _letters(reason: str | None) -> list[dict[str, Any]]:
    async with opened() as deployment:
        topic = deployment.identity.topics["rejected"][0]
        found: dict[str, dict[str, Any]] = {}
        async for record in all_records(deployment.settings.address, topic):
            key = (record.key or b"").decode(errors="replace")
            place, _, offset = key.rpartition("@")
            source, _, partition = place.rpartition("/")
            # A crash may have written a letter twice: the same key, the same original.
            if key in found or not offset.isdigit() or not partition.isdigit():
                continue
            headers = headers_of(record)
            if reason is not None and headers.get("reason") != reason:
                continue
            found[key] = {
                "reason": headers.get("reason"),
                "detail": headers.get("detail"),
                "topic": source,
                "partition": int(partition),
                "offset": int(offset),
                "append_time_ms": int(headers.get("append_time", "-1")),
                "key": headers.get("key"),
                **_original(record.value, headers),
            }
    return list(found.values())


def _original(value: bytes | None, headers: dict[str, str]) -> dict[str, Any]:
    """The original as text; bytes that are no UTF-8 as base64."""
    if "omitted" in headers:
        return {"original": None, "omitted": headers["omitted"]}
    if value is None:
        return {"original": None}
    try:
        return {"original": value.decode()}
    except UnicodeDecodeError:
        return {"original": None, "original_base64": base64.b64encode(value).decode()}
