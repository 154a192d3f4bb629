"""The reference of the settings as Markdown: the middle part of docs/configuration.md."""

import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from ..settings import Settings

# What a group is for, and its settings in the order of the page.
GROUPS: Final = {
    "Kafka, Redis and the deployment": ("kafka", "redis", "deployment", "control_key"),
    "Kafka's login and encryption": (
        "kafka_security_protocol",
        "kafka_security_sasl_mechanism",
        "kafka_security_sasl_mechanisms",
        "kafka_security_sasl_username",
        "kafka_security_sasl_password",
        "kafka_security_sasl_password_file",
        "kafka_security_ssl_ca_location",
        "kafka_security_ssl_certificate_location",
        "kafka_security_ssl_key_location",
        "kafka_security_ssl_key_password",
        "kafka_security_ssl_key_password_file",
        "kafka_security_ssl_endpoint_identification_algorithm",
    ),
    "Workers": (
        "flush_ms",
        "backfill_share",
        "session_timeout_s",
        "halt",
        "rejected_consecutive_max",
        "rejected_ratio_max",
    ),
    "Reads": ("read_wait_ms", "kafka_wait_ms", "lateness", "periods_dir"),
    "The HTTP server": (
        "tls_certificate",
        "tls_key",
        "connections_per_address_max",
        "key_requests_per_s_max",
        "vendor_limits",
        "klaviyo_custom_metrics_max",
        "klaviyo_plain_metrics_max",
        "statsig_environments",
    ),
    "Telemetry and logs": ("telemetry_port", "telemetry_host", "log", "log_level"),
}
_TYPES: Final = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    Path: "path of a file",
    timedelta: "duration",
}
_HEAD: Final = (
    "| variable | type | unit | default | meaning |",
    "| --- | --- | --- | --- | --- |",
)


def markdown() -> Iterator[str]:
    """Yield the lines: a heading and a table for each group of settings."""
    for group, names in GROUPS.items():
        yield from (f"### {group}", "", *_HEAD)
        yield from (_row(name, Settings.model_fields[name]) for name in names)
        yield ""


def _row(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    members: dict[str, Any] = extra if isinstance(extra, dict) else {}
    # A duration carries its unit in its text.
    unit = None if field.annotation is timedelta else members.get("unit")
    cells = (
        f"`RECOUNT_{name.upper()}`",
        _type(field, secret=bool(members.get("secret"))),
        unit or "-",
        _default(field.default),
        field.description or "",
    )
    return f"| {' | '.join(cells)} |"


def _type(field: FieldInfo, *, secret: bool) -> str:
    annotation: Any = field.annotation
    if isinstance(annotation, types.UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not types.NoneType)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(f'`{each}`' for each in get_args(annotation))}"
    bounds = {name: _bound(field, name) for name in ("ge", "le", "max_length")}
    text = "secret text" if secret else _TYPES[annotation]
    if bounds["max_length"] is not None:
        return f"{text}, at most {bounds['max_length']} characters"
    if bounds["le"] is not None:
        return f"{text}, {bounds['ge']:,} to {bounds['le']:,}"
    return text if bounds["ge"] is None else f"{text}, at least {bounds['ge']:,}"


def _bound(field: FieldInfo, name: str) -> Any:
    found = [getattr(each, name) for each in field.metadata if hasattr(each, name)]
    return found[0] if found else None


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, timedelta):
        hours, rest = divmod(value, timedelta(hours=1))
        return f"`{hours}h`" if not rest else f"`{round(value.total_seconds())}s`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
