"""keys create, list, revoke: who may use the HTTP doors."""

from typing import Annotated, Any, Final

import typer

from ..control.api_keys import LIKE, create_key, revoke_key
from ..control.entities import CLIENT_KEY, ApiKey
from ..control.records import ROLES
from ..edges.clock import SystemClock
from ..errors import UnknownNameError, UsageError
from .open import opened
from .output import TableOption, show, wait

_SEE: Final = "`recount keys list` shows which keys there are"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="API keys of the HTTP doors.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(list_command)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


def create(
    name: Annotated[str, typer.Option(help="A name for people: who uses the key.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="ingest, read or manage (includes read); repeatable."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="The form that a vendor's clients insist on: statsig-server (secret-…), or"
            " statsig-client (client-…), which may only ingest: anybody can read it in a web page."
        ),
    ] = None,
) -> None:
    """Create a key and print it. It cannot be shown again: only its hash is kept.

    With --like, the role is ingest unless another one is given.
    """
    role = role or ([] if like is None else ["ingest"])
    if not role or set(role) - ROLES:
        raise UsageError(f"--role is one of {', '.join(sorted(ROLES))}; give at least one")
    if like is not None and like not in LIKE:
        raise UsageError(f"--like is one of {', '.join(LIKE)}")
    if like == CLIENT_KEY and set(role) != {"ingest"}:
        raise UsageError(f"a key like {CLIENT_KEY} is public: its only role is ingest")
    if not name.strip():
        raise UsageError("--name must not be blank")

    async def work() -> tuple[ApiKey, str]:
        async with opened() as deployment:
            return await create_key(deployment.control, SystemClock(), name, role, like)

    made, text = wait(work(), stopped=_SEE)
    show([{**_line(made), "key": text}])


def _line(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "roles": sorted(key.roles),
        "created_at": key.created_at,
        **({} if key.like is None else {"like": key.like}),
    }


def list_command(table: TableOption = False) -> None:
    """List the valid keys, without their secrets."""

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            return [_line(key) for key in deployment.control.state.keys.values()]

    show(wait(work()), table=table)


def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key: every server refuses it from the next request on."""

    async def work() -> None:
        async with opened() as deployment:
            if key_id not in deployment.control.state.keys:
                raise UnknownNameError(f"no key has the id {key_id!r}; see `recount keys list`")
            await revoke_key(deployment.control, key_id)

    wait(work(), stopped=_SEE)
    show([{"id": key_id, "revoked": True}])
