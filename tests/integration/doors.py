"""A server of the shipped command, with its keys, for tests of the doors."""

import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trustme

from pipeline.stack.processes import free_port

from ..services import Recount
from ..waiting import eventually


@dataclass
class Server:
    """`recount serve` of one deployment. keys: by role."""

    recount: Recount
    port: int
    keys: dict[str, str] = field(default_factory=dict)
    tls: bool = False
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Whether it listens."""
        try:
            answer = httpx.get(f"{self.url}/openapi.json", timeout=2, verify=False)  # noqa: S501
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def certified(folder: Path) -> tuple[ssl.SSLContext, Path, Path]:
    """A context that trusts a new certificate of 127.0.0.1, its file and its key's."""
    pem, key = folder / "cert.pem", folder / "key.pem"
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    for part in issued.cert_chain_pems:
        part.write_to_path(pem, append=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return trusting, pem, key


@contextmanager
def serving(
    recount: Recount,
    log: Path,
    keys: dict[str, str] | None = None,
    *,
    more: Sequence[str] = (),
) -> Iterator[Server]:
    """A server that ends with the block; keys of every role are made unless they are given.

    more: settings, each NAME=value.
    """
    tls = any(each.startswith("RECOUNT_TLS") for each in more)
    made = Server(recount, free_port(), dict(keys or {}), tls)
    for role in ("ingest", "read", "manage") if keys is None else ():
        made.keys[role] = recount.run("keys", "create", "--name", role, "--role", role)[0]["key"]
    with log.open("ab") as output:
        options: dict[str, Any] = {"stdout": output, "stderr": output}
        extra = dict(each.split("=", 1) for each in more)
        process = made.process = recount.start(
            "serve", "--port", str(made.port), more=extra, **options
        )
    try:
        eventually(made.answers, within_s=60, because="the server answers")
        yield made
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
