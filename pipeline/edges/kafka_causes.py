"""Why Kafka cannot be reached: each bootstrap server is tried, and the cause has one sentence.

Both clients say `transport failure` or `connection closed` of most of it. So a server is tried
layer by layer: name, route, listener, TLS, login, metadata.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors as kerr
from aiokafka.client import collect_hosts
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from ..errors import Halt, LogUnavailable, UsageError
from .kafka_security import MECHANISMS, aiokafka_login, uses_tls, variable

ANSWER_S_MAX: Final = 4.0  # of all servers together; a command ends within five seconds
_LOGIN_S_MAX: Final = 2.5  # of a server that accepts the connection
_LAYER_S_MAX: Final = 1.0
_AGAIN_S: Final = 0.3  # a broker that starts may not know its users yet
_BROKERS_TRIES: Final = 5
_TOLD_MAX: Final = 3
_PORTS: Final = 65_536
_PROTOCOL: Final = variable("security.protocol")
# In OpenSSL's names of what the other end says of a client's certificate.
_ABOUT_CERTIFICATES: Final = ("CERTIFICATE", "UNKNOWN_CA")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a server was not reached. lasts: until the operator changes something."""

    why: str
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class _Server:
    """One bootstrap server, and how we log in."""

    host: str
    port: int
    security: Mapping[str, str]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def login(self) -> dict[str, Any]:
        """What aiokafka's connection takes."""
        return aiokafka_login(self.security)

    @property
    def we_use_tls(self) -> bool:
        """Whether we encrypt."""
        return uses_tls(self.security)

    def protocol(self, *, tls: bool, login: bool) -> str:
        """The protocol that would be it."""
        return f"{'SASL_' if login else ''}{'SSL' if tls else 'PLAINTEXT'}"


_NOBODY: Final = "nothing listens there"
_SILENT: Final = Cause(
    "something listens there, but does not answer as Kafka does: it is starting, frozen or no "
    "Kafka; look at its log, or correct RECOUNT_KAFKA"
)


def places(bootstrap: str) -> list[tuple[str, int]]:
    """Return host and port of each bootstrap server.

    Raises:
        UsageError: there is none, or one that is not host:port.
    """
    given = [server.strip() for server in bootstrap.split(",") if server.strip()]
    try:
        found = [(host, port) for host, port, _ in collect_hosts(given, randomize=False)]
    except ValueError:
        found = []
    if not found or any(not host or not 0 < port < _PORTS for host, port in found):
        raise UsageError(f"RECOUNT_KAFKA: {bootstrap!r} is not host:port, or several with commas")
    return found


async def reached(
    bootstrap: str, security: Mapping[str, str], within_s: float = ANSWER_S_MAX
) -> str:
    """Return the first bootstrap server that answers and lets us in.

    within_s: how long all of them have.

    Raises:
        Halt: a server answers, and the settings of its security are not ours. LogUnavailable: none
            answers; trying again may help. Both name each server with its cause.
    """
    servers = [_Server(*place, security) for place in places(bootstrap)]
    deadline = asyncio.get_running_loop().time() + within_s
    causes: dict[str, Cause] = {}
    found = await _first(servers, causes, deadline)
    if found is None and any(cause.lasts for cause in causes.values()):
        await asyncio.sleep(_AGAIN_S)
        found = await _first(servers, causes, deadline)
    if found is not None:
        return found
    # What the operator has to change comes first, and is enough.
    lasting = {server: cause for server, cause in causes.items() if cause.lasts}
    told = [
        f"Kafka at {server}: {cause.why}"
        for server, cause in (lasting or {str(each): _SILENT for each in servers} | causes).items()
    ]
    text = "; ".join(told[:_TOLD_MAX])
    if len(told) > _TOLD_MAX:
        text += f"; and {len(told) - _TOLD_MAX} more servers"
    raise Halt(text) if lasting else LogUnavailable(text)


async def _first(
    servers: Sequence[_Server], causes: dict[str, Cause], deadline: float
) -> str | None:
    """Return the first server that lets us in, until a deadline; note why the others do not."""
    tasks = {asyncio.create_task(_try(each)): str(each) for each in servers}
    pending = set(tasks)
    try:
        while pending:
            left = deadline - asyncio.get_running_loop().time()
            done, pending = await asyncio.wait(
                pending, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return None
            for task in done:
                cause = task.result()
                if cause is None:
                    return tasks[task]
                causes[tasks[task]] = cause
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    return None


async def _try(server: _Server) -> Cause | None:
    """Return why a server does not let us in; None: it does."""
    try:
        async with (
            asyncio.timeout(_LOGIN_S_MAX),
            connected(server.host, server.port, server.login) as connection,
        ):
            answer = await connection.send(MetadataRequest([]))
            for _ in range(_BROKERS_TRIES):
                if answer.brokers:
                    break
                await asyncio.sleep(_AGAIN_S)
                answer = await connection.send(MetadataRequest([]))
    except (kerr.KafkaError, OSError, TimeoutError, EOFError, UnicodeError) as error:
        return await _cause(server, error)
    return await _astray(
        server, [_Server(each[1], each[2], server.security) for each in answer.brokers]
    )


async def _astray(server: _Server, brokers: Sequence[_Server]) -> Cause | None:
    """Why no broker is reached at the address that the cluster gives for it; None: one is.

    Clients ask the bootstrap server for these addresses, and use them alone from then on.
    """
    if not brokers:
        return Cause(
            "it answers, but its cluster knows no broker that is up: it is starting, or cut off "
            "from its controller; wait, or look at its log"
        )
    if any((server.host, server.port) == (each.host, each.port) for each in brokers):
        return None
    found = await asyncio.gather(*(_no_broker(each) for each in brokers))
    told = [f"{each}: {why}" for each, why in zip(brokers, found, strict=True) if why]
    if len(told) < len(brokers):
        return None
    return Cause(
        "it answers, but the addresses that it gives for its brokers (advertised.listeners) are "
        f"not reached from here: {', '.join(told[:_TOLD_MAX])}; correct them in the "
        "configuration of Kafka, or name another of its listeners in RECOUNT_KAFKA"
    )


async def _no_broker(server: _Server) -> str | None:
    """Why a broker cannot be used at an address of the cluster's; None: it answers."""
    why = await _no_way(server.host, server.port)
    if why is not None:
        return why
    try:
        async with (
            asyncio.timeout(_LAYER_S_MAX),
            connected(server.host, server.port, server.login),
        ):
            return None
    except TimeoutError:
        return _SILENT.why
    except (kerr.KafkaError, OSError, EOFError) as error:
        return (await _cause(server, error)).why


@asynccontextmanager
async def connected(
    host: str, port: int, login: Mapping[str, Any]
) -> AsyncIterator[AIOKafkaConnection]:
    """A connection to just this server. login: aiokafka's settings."""
    connection = await create_conn(host, port, **login)
    try:
        yield connection
    finally:
        closing = connection.close()
        if closing is not None:
            await asyncio.wait([closing], timeout=_LAYER_S_MAX)


async def _cause(server: _Server, error: BaseException) -> Cause:
    """Find the layer at which it ended."""
    why = await _no_way(server.host, server.port)
    if why is not None:
        start = "start Kafka (here: `recount stack up`), or " if why == _NOBODY else ""
        other = "" if start else ", or DNS or the network"
        return Cause(f"{why}; {start}correct RECOUNT_KAFKA{other}")
    ours, theirs = server.we_use_tls, await _speaks_tls(server)
    logs_in = "sasl.mechanism" in server.security
    if ours and theirs:
        return await _tls_cause(server, error)
    if theirs:
        return Cause(
            "this listener speaks TLS, and we do not: set "
            f"{_PROTOCOL} to {server.protocol(tls=True, login=logs_in)}, or name a plain "
            "listener in RECOUNT_KAFKA",
            lasts=True,
        )
    if ours and await _answers_plain(server):
        return Cause(
            "this listener does not speak TLS, and we do: name its TLS listener in RECOUNT_KAFKA, "
            f"or set {_PROTOCOL} to {server.protocol(tls=False, login=logs_in)}",
            lasts=True,
        )
    return _SILENT if ours else await _login_cause(server, error)


async def _no_way(host: str, port: int) -> str | None:
    """Why no connection can be made; None: it can."""
    try:
        async with asyncio.timeout(_LAYER_S_MAX):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except (socket.gaierror, UnicodeError) as failed:
        return f"no host has the name {host!r} ({failed.args[-1]})"
    except ConnectionRefusedError:
        return _NOBODY
    except TimeoutError:
        return "the host does not answer: no route, a firewall, or it is off"
    except OSError as failed:
        return f"no way there ({failed.strerror or failed})"
    return None


async def _speaks_tls(server: _Server) -> bool:
    """Whether a TLS handshake gets an answer of TLS, whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(_LAYER_S_MAX):
            _, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # an answer of TLS, if not a kind one
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def _answers_plain(server: _Server) -> bool:
    """Whether a Kafka answers without TLS: it tells its versions to everybody."""
    login = {"security_protocol": "PLAINTEXT"}
    with suppress(kerr.KafkaError, OSError, TimeoutError, EOFError):
        async with asyncio.timeout(_LAYER_S_MAX), connected(server.host, server.port, login):
            return True
    return False


async def _tls_cause(server: _Server, error: BaseException) -> Cause:
    """Why a handshake, or what came after it, failed where both speak TLS."""
    context = server.login["ssl_context"]
    try:
        async with asyncio.timeout(_LAYER_S_MAX):
            reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
            try:
                # A broker that refuses our certificate says so after the handshake; else it waits.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAYER_S_MAX / 2):
                        await reader.read(1)
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as refused:
        if refused.verify_code in {62, 64}:  # the name of a host, an address
            return Cause(
                f"its certificate is not for this name ({refused.verify_message}); name it in "
                "RECOUNT_KAFKA as its certificate does, or set "
                f"{variable('ssl.endpoint.identification.algorithm')} to none",
                lasts=True,
            )
        return Cause(
            f"its certificate is not trusted ({refused.verify_message}); set "
            f"{variable('ssl.ca.location')} to the authority that signed it",
            lasts=True,
        )
    except ssl.SSLError as refused:
        reason = refused.reason or str(refused)
        if not any(word in reason for word in _ABOUT_CERTIFICATES):
            return Cause(f"the TLS handshake ended ({reason}); look at the log of Kafka")
        shown = "ssl.certificate.location" in server.security
        return Cause(
            ("it refuses our certificate" if shown else "it asks for a certificate of ours")
            + f" ({reason}); set {variable('ssl.certificate.location')} and "
            f"{variable('ssl.key.location')} to one that its authorities have signed",
            lasts=True,
        )
    except (OSError, TimeoutError):
        return _SILENT
    return await _login_cause(server, error)


async def _login_cause(server: _Server, error: BaseException) -> Cause:
    """Why Kafka itself did not let us in."""
    security = server.security
    mechanism, user = security.get("sasl.mechanism"), security.get("sasl.username")
    if isinstance(error, kerr.UnsupportedSaslMechanismError):
        offered = await _mechanisms(server)
        both = [each for each in offered if each in MECHANISMS]
        return Cause(
            f"it does not take {mechanism}, but {', '.join(offered) or 'others'}; set "
            f"{variable('sasl.mechanism')} to {' or '.join(both) or 'one of them'}",
            lasts=True,
        )
    if isinstance(error, kerr.IllegalSaslStateError):
        return Cause(
            f"this listener takes no login; set {_PROTOCOL} to "
            f"{server.protocol(tls=server.we_use_tls, login=False)} and remove the login, or name "
            "the listener that takes one in RECOUNT_KAFKA",
            lasts=True,
        )
    if isinstance(error, (kerr.AuthenticationFailedError, kerr.SaslAuthenticationFailed)):
        return Cause(
            f"it refuses the login of {user!r} by {mechanism}: wrong name or password; correct "
            f"{variable('sasl.username')} and {variable('sasl.password')}",
            lasts=True,
        )
    if mechanism is None:
        offered = await _mechanisms(server)
        if offered:
            return Cause(
                f"this listener asks for a login ({', '.join(offered)}); set {_PROTOCOL} to "
                f"{server.protocol(tls=server.we_use_tls, login=True)}, with a mechanism, a "
                "name and a password",
                lasts=True,
            )
    return _SILENT


async def _mechanisms(server: _Server) -> list[str]:
    """Return how one may log in to a listener; nothing where it does not say."""
    login = {
        **server.login,
        "security_protocol": server.protocol(tls=server.we_use_tls, login=False),
    }
    with suppress(kerr.KafkaError, OSError, TimeoutError, EOFError):
        async with (
            asyncio.timeout(_LAYER_S_MAX),
            connected(server.host, server.port, login) as connection,
        ):
            answer = await connection.send(SaslHandShakeRequest("-"))
            return [str(each) for each in answer.enabled_mechanisms]
    return []
