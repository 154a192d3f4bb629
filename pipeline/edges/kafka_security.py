"""How a client logs in to Kafka and encrypts: librdkafka's names, for both clients."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError

PREFIX: Final = "RECOUNT_KAFKA_SECURITY_"
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_VERIFICATIONS: Final = ("https", "none")
_FILES: Final = ("ssl.certificate.location", "ssl.key.location")
_CA: Final = "ssl.ca.location"
_NEEDS: Final = "RECOUNT_KAFKA_SECURITY_PROTOCOL must be one of"


def variable(name: str) -> str:
    """Return the variable that sets one of librdkafka's names: `sasl.username`, for example."""
    return PREFIX + name.removeprefix("security.").upper().replace(".", "_")


def named(given: Mapping[str, str | Path | None]) -> dict[str, str]:
    """Return what is set, named as librdkafka names it.

    Args:
        given: Small letters, `_` for `.`; a secret may be in a file, `sasl_password_file`. An
            empty text is as if it were not set.

    Raises:
        UsageError: a thing is set twice, or the file of a secret cannot be read.
    """
    values = {name: str(value) for name, value in given.items() if value not in {None, ""}}
    for name in ("sasl_password", "ssl_key_password"):
        file = values.pop(f"{name}_file", None)
        if file is not None:
            _once(name, f"{name}_file", values)
            values[name] = _secret(f"{name}_file", file)
    other = values.pop("sasl_mechanisms", None)
    if other is not None:
        _once("sasl_mechanism", "sasl_mechanisms", values)
        values["sasl_mechanism"] = other
    return {
        "security.protocol" if name == "protocol" else name.replace("_", "."): value
        for name, value in values.items()
    }


def _once(name: str, other: str, values: Mapping[str, str]) -> None:
    if name in values:
        raise UsageError(f"set only one of {PREFIX}{name.upper()} and {PREFIX}{other.upper()}")


def _secret(name: str, file: str) -> str:
    try:
        text = Path(file).read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
        raise UsageError(f"{PREFIX}{name.upper()}: {file}: {why}") from error
    if not text:
        raise UsageError(f"{PREFIX}{name.upper()}: {file} is empty")
    return text


def checked(given: Mapping[str, str]) -> dict[str, str]:
    """Return the settings as both clients understand them.

    Raises:
        UsageError: a value that cannot be had, a setting without effect, a file that cannot be
            read: whatever would make a client connect otherwise than the operator meant.
    """
    security = dict(given)
    protocol = _one_of(security, "security.protocol", PROTOCOLS, PROTOCOLS[0])
    logs_in, encrypts = protocol.startswith("SASL_"), uses_tls(security)
    for name in security:
        if name.startswith("sasl.") and not logs_in:
            raise UsageError(
                f"{variable(name)} has no effect with {protocol}: {_NEEDS} SASL_SSL,"
                " SASL_PLAINTEXT"
            )
        if name.startswith("ssl.") and not encrypts:
            raise UsageError(
                f"{variable(name)} has no effect with {protocol}: {_NEEDS} SASL_SSL, SSL"
            )
    if logs_in:
        _check_login(security)
    if encrypts:
        _one_of(
            security, "ssl.endpoint.identification.algorithm", _VERIFICATIONS, _VERIFICATIONS[0]
        )
        if len({name in security for name in _FILES}) > 1:
            raise UsageError(
                f"{' and '.join(map(variable, _FILES))} are set together; one file may hold both"
            )
        if "ssl.key.password" in security and _FILES[1] not in security:
            raise UsageError(f"{variable('ssl.key.password')} needs {variable(_FILES[1])}")
        tls_context(security)
    return security


def uses_tls(security: Mapping[str, str]) -> bool:
    """Whether connections are encrypted."""
    return security.get("security.protocol", "PLAINTEXT").endswith("SSL")


def _one_of(security: dict[str, str], name: str, known: tuple[str, ...], default: str) -> str:
    """Return a value in its own spelling; it may be written in any case."""
    value = security.get(name, default)
    found = [each for each in known if each.lower() == value.lower()]
    if not found:
        raise UsageError(f"{variable(name)}: {value!r} cannot be had; one of {', '.join(known)}")
    if name in security:
        security[name] = found[0]
    return found[0]


def _check_login(security: dict[str, str]) -> None:
    if "sasl.mechanism" not in security:
        raise UsageError(
            f"{variable('sasl.mechanism')} is not set, and {security['security.protocol']} needs "
            f"it: one of {', '.join(MECHANISMS)}"
        )
    _one_of(security, "sasl.mechanism", MECHANISMS, "")
    for name in ("sasl.username", "sasl.password"):
        if name not in security:
            raise UsageError(
                f"{variable(name)} is not set, and {security['security.protocol']} needs it"
                + (f"; or {variable(name)}_FILE" if name == "sasl.password" else "")
            )


def tls_context(security: Mapping[str, str]) -> ssl.SSLContext:
    """Return what encrypts aiokafka's connections; the files are read now.

    Raises:
        UsageError: a file cannot be read, or does not hold what it should.
    """
    for name in (_CA, *_FILES):
        if name in security:
            _check_readable(name, security[name])
    authority = security.get(_CA)
    is_folder = authority is not None and Path(authority).is_dir()
    try:
        context = ssl.create_default_context(
            cafile=None if is_folder else authority, capath=authority if is_folder else None
        )
    except ssl.SSLError as error:
        raise UsageError(
            f"{variable(_CA)}: {authority} holds no certificate in PEM: {error}"
        ) from error
    if security.get("ssl.endpoint.identification.algorithm") == "none":
        context.check_hostname = False
    if _FILES[0] in security:
        certificate, key = (security[name] for name in _FILES)
        try:
            # Without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(certificate, key, security.get("ssl.key.password", ""))
        except ssl.SSLError as error:
            raise UsageError(
                f"{variable(_FILES[0])} and {variable(_FILES[1])}: {certificate} and {key} are no "
                f"certificate in PEM with its key, or {variable('ssl.key.password')} is not the "
                f"key's: {error}"
            ) from error
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        if not (name == _CA and Path(path).is_dir()):
            with Path(path).open("rb") as file:
                file.read(1)
    except OSError as error:
        raise UsageError(f"{variable(name)}: {path}: {error.strerror}") from error


def aiokafka_login(security: Mapping[str, str]) -> dict[str, Any]:
    """Return what aiokafka's clients take: protocol, login, TLS context."""
    settings: dict[str, Any] = {
        "security_protocol": security.get("security.protocol", PROTOCOLS[0])
    }
    if "sasl.mechanism" in security:
        settings["sasl_mechanism"] = security["sasl.mechanism"]
        settings["sasl_plain_username"] = security["sasl.username"]
        settings["sasl_plain_password"] = security["sasl.password"]
    if uses_tls(security):
        settings["ssl_context"] = tls_context(security)
    return settings
