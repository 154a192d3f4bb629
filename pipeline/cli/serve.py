"""serve: the HTTP doors."""

import sys
from ipaddress import ip_address
from typing import Annotated

import typer

from ..settings import load_settings
from .open import opened
from .output import wait


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the HTTP APIs until SIGTERM. You can run any number of servers.

    Each call needs a key: see `recount keys create`. /docs on the server
    describes all calls.
    """

    async def exists() -> None:
        async with opened(reads=True, sends=True):
            pass

    # FastAPI is large: no other command waits for it.
    from ..doors.app import serve as run  # noqa: PLC0415

    settings = load_settings()
    if settings.tls_certificate is None and not _is_loopback(host):
        sys.stderr.write(
            f"recount serve: warning: {host} can be reached from other machines, and keys and "
            "numbers go over it unencrypted; set RECOUNT_TLS_CERTIFICATE and RECOUNT_TLS_KEY, or "
            "put a proxy with TLS before it\n"
        )
    wait(exists())  # what is wrong is told before anything listens
    run(settings, host, port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
