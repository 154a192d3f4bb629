"""RECOUNT_REDIS → where Redis is, and how to log in: a URL as redis-py has it, and a little more.

Rule: what is wrong in a URL is told before anything connects, and no message holds a password.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from ..errors import UsageError

_PORT: Final = 6379
HIDDEN: Final = "***"
_PASSWORD: Final = re.compile(r"(password=)[^&#]*", re.IGNORECASE)
_SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "password_file")
_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# Options of a URL, docs/configuration.md: each as its text becomes redis-py's argument.
_OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "db": int,
    "username": str,
    "password": str,
    "password_file": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_check_hostname": lambda text: _WORDS[text.lower()],
    "ssl_cert_reqs": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "health_check_interval": int,
    "client_name": str,
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is. options: arguments of redis-py.

    hosts: (name, port); none for a socket, one for a Redis, any nodes of a cluster.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    options: Mapping[str, Any]

    @property
    def is_tls(self) -> bool:
        """Whether connections speak TLS."""
        return self.scheme.startswith("rediss")

    @property
    def is_cluster(self) -> bool:
        """Whether it is a Redis Cluster."""
        return self.scheme.endswith("+cluster")


def redis_address(url: str) -> RedisAddress:
    """Return what a URL says.

    Raises:
        UsageError: it is none of ours, names an option that is not known, or a file that is not
            there.
    """
    try:
        return _parsed(url)
    except (ValueError, KeyError, OSError) as error:
        raise UsageError(f"RECOUNT_REDIS: {_why(error)}") from error


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot read {error.filename!r}: {error.strerror}"
    return f"no such word: {error}" if isinstance(error, KeyError) else str(error)


def _parsed(url: str) -> RedisAddress:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ValueError(f"a URL begins with one of {known}")
    rest, _, query = rest.partition("?")
    userinfo, _, rest = rest.rpartition("@")
    options = _options(query)
    username, _, password = userinfo.partition(":")
    if username:
        options["username"] = unquote(username)
    if password:
        options["password"] = unquote(password)
    if scheme == "unix":
        if not rest.startswith("/"):
            raise ValueError("unix:// is followed by the whole path of the socket, from /")
        return RedisAddress(scheme, (), unquote(rest), options)
    place, _, database = rest.partition("/")
    if database:
        options.setdefault("db", int(database))
    is_cluster = scheme.endswith("+cluster")
    if "," in place and not is_cluster:
        raise ValueError("one Redis has one host and port; a cluster is redis+cluster://")
    if is_cluster and options.pop("db", 0):
        raise ValueError("a cluster has database 0 only")
    hosts = tuple(map(_host, place.split(",")))
    if not scheme.startswith("rediss") and any(name.startswith("ssl_") for name in options):
        raise ValueError("an ssl_… option needs rediss://")
    return RedisAddress(scheme, hosts, "", options)


def _host(text: str) -> tuple[str, int]:
    """A host and its port; an IPv6 address stands in brackets."""
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port = text, str(_PORT)
    number = int(port)
    if not 0 < number < 65_536:
        raise ValueError(f"no port of TCP: {number}")
    return unquote(name.strip("[]")) or "localhost", number


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        if name not in _OPTIONS:
            raise ValueError(f"option {name!r} is not known; there are {', '.join(_OPTIONS)}")
        try:
            options[name] = _OPTIONS[name](text)
        except (ValueError, KeyError):
            raise ValueError(f"option {name!r} has a value that it cannot have") from None
    if options.get("ssl_cert_reqs", "required") not in {"required", "none"}:
        raise ValueError("option 'ssl_cert_reqs' is required or none")
    for name in _FILES:
        if name in options:
            with Path(options[name]).open("rb") as file:
                content = file.read()
            if name == "password_file":
                options["password"] = content.decode().rstrip("\r\n")
    options.pop("password_file", None)
    return options


def without_password(url: str) -> str:
    """A URL whose passwords are hidden, wherever they stand in it."""
    scheme, separator, rest = url.partition("://")
    userinfo, at, place = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    place = _PASSWORD.sub(rf"\1{HIDDEN}", place)
    return f"{scheme}{separator}{user}{colon}{HIDDEN if colon else ''}{at}{place}"
