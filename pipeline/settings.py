"""The settings of a process: one frozen object, from the environment or a `.env` file.

Settings that decide numbers are not here: they belong to the deployment (core/deployment.py).
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .control.seal import SECRET_BYTES_MIN
from .deploy.place import Place
from .edges.kafka_client import KafkaAddress
from .errors import UsageError

_DURATION: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SECURITY: Final = "RECOUNT_KAFKA_SECURITY_"
# Security settings that say nothing secret; files of keys are named by …_LOCATION.
_HARMLESS: Final = {
    "PROTOCOL",
    "SASL_MECHANISM",
    "SASL_MECHANISMS",
    "SASL_USERNAME",
    "SSL_ENDPOINT_IDENTIFICATION_ALGORITHM",
}
HIDDEN: Final = "***"
_PASSWORD: Final = re.compile(r"(password=)[^&#]*", re.IGNORECASE)
_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class Settings(BaseSettings):
    """What `recount settings` prints. unit: of the value, where it has one."""

    model_config = SettingsConfigDict(
        env_prefix="RECOUNT_", env_file=".env", extra="ignore", frozen=True
    )

    kafka: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers")
    redis: str = Field(
        "redis://127.0.0.1:6379/0",
        description="URL of Redis; its password is not shown",
    )
    deployment: str = Field(
        "default",
        max_length=64,
        description="name of the deployment: prefix of topics, group and keys in Redis",
    )
    flush_ms: int = Field(
        250,
        ge=1,
        le=60_000,
        description="longest time between reading events and committing them",
        json_schema_extra={"unit": "ms"},
    )
    lateness: timedelta = Field(
        timedelta(hours=1),
        description="how long after its end a window can first be complete",
        json_schema_extra={"unit": "s"},
    )
    read_wait_ms: int = Field(
        500,
        ge=0,
        le=60_000,
        description="how long a query waits for workers to apply the events that were durable"
        " when it arrived; 0: not at all",
        json_schema_extra={"unit": "ms"},
    )
    control_key: str | None = Field(
        None,
        description="a secret of at least 32 bytes; if set, only records of the control log that"
        " are sealed with it are obeyed; of several, joined by commas, the first seals new records"
        " and all are accepted",
        json_schema_extra={"secret": True},
    )
    telemetry_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="port of /healthz, /readyz and /metrics; the n-th worker process adds n",
    )
    telemetry_host: str = Field(
        "127.0.0.1",
        description="address of /healthz, /readyz and /metrics; they need no key",
    )
    session_timeout_s: float = Field(
        6.0,
        ge=1,
        le=300,
        description="Kafka's group replaces a worker that is silent for so long",
        json_schema_extra={"unit": "s"},
    )

    rejected_consecutive_max: int = Field(
        10_000,
        ge=0,
        description="a worker stops (exit 5) if more events in a row are rejected in a partition"
        "; 0: no limit; events that can be re-driven do not count",
    )
    rejected_ratio_max: float = Field(
        0.5,
        ge=0,
        le=1,
        description="a worker stops (exit 5) if a larger share of a partition's last 20,000 events"
        " is rejected; 0: no limit",
    )

    key_requests_per_s_max: int = Field(
        0,
        ge=0,
        description="most requests a second for one API key, over all servers; 0: no limit",
    )
    connections_per_address_max: int = Field(
        400,
        ge=0,
        description="`recount serve`: most connections from one address; 0: no limit, for servers"
        " behind a proxy",
    )
    vendor_limits: bool = Field(
        False, description="`recount serve`: apply the rate limits that each vendor documents"
    )
    klaviyo_custom_metrics_max: int = Field(
        50, ge=1, description="most custom metrics that Klaviyo's API can create"
    )
    klaviyo_plain_metrics_max: int = Field(
        200,
        ge=0,
        description="most Klaviyo metrics that are counted without a custom metric; each begins"
        " with its first event through Klaviyo's API, or its first query by a key that manages",
    )
    tls_certificate: Path | None = Field(
        None,
        description="`recount serve`: PEM file of the certificate; with the key it serves TLS",
    )
    tls_key: Path | None = Field(None, description="`recount serve`: PEM file of the private key")

    @field_validator("deployment")
    @classmethod
    def _deployment(cls, value: str) -> str:
        if not _DEPLOYMENT.fullmatch(value):
            raise ValueError("use letters, digits, _ and -; single dots may join parts")
        return value

    @field_validator("control_key")
    @classmethod
    def _control_key(cls, value: str | None) -> str | None:
        if value and any(len(part.encode()) < SECRET_BYTES_MIN for part in value.split(",")):
            raise ValueError(f"each secret has at least {SECRET_BYTES_MIN} bytes")
        return value or None

    @field_validator("lateness", mode="before")
    @classmethod
    def _lateness(cls, value: Any) -> Any:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        return timedelta(seconds=int(match[1]) * _UNIT_S[match[2]])

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.deployment}.recount"

    @property
    def place(self) -> Place:
        """Where the deployment is."""
        return Place(self.address, self.redis, self.deployment, self.control_secrets)

    @property
    def control_secrets(self) -> tuple[bytes, ...]:
        """What seals control records: the first one; what opens them: all."""
        return tuple(part.encode() for part in (self.control_key or "").split(",") if part)

    @property
    def address(self) -> KafkaAddress:
        """Where Kafka is, with RECOUNT_KAFKA_SECURITY_* named as librdkafka names them."""
        security = {}
        for name, value in os.environ.items():
            if name.startswith(_SECURITY):
                key = name[len(_SECURITY) :].lower().replace("_", ".")
                security["security.protocol" if key == "protocol" else key] = value
        return KafkaAddress(self.kafka, security)


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        UsageError: every setting that is wrong, with its variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"RECOUNT_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()
        )
        raise UsageError(wrong) from error


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Return every setting with its value, default and unit; no secret is in it."""
    rows = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        value, default = getattr(settings, name), field.default
        if isinstance(value, timedelta):
            value, default = value.total_seconds(), default.total_seconds()
        if isinstance(value, Path):
            value = str(value)
        rows.append(
            {
                "variable": f"RECOUNT_{name.upper()}",
                "value": _shown(name, value, extra),
                "default": default,
                "unit": extra.get("unit") if isinstance(extra, dict) else None,
                "meaning": field.description,
            }
        )
    return rows + [
        _security_row(name) for name in sorted(os.environ) if name.startswith(_SECURITY)
    ]


def _shown(name: str, value: Any, extra: Any) -> Any:
    if isinstance(extra, dict) and extra.get("secret") and value is not None:
        return HIDDEN
    return _without_password(value) if name == "redis" else value


def _security_row(variable: str) -> dict[str, Any]:
    """A setting of Kafka's clients; whatever is not known to be harmless is a secret."""
    name = variable[len(_SECURITY) :]
    shown = os.environ[variable] if name in _HARMLESS or name.endswith("_LOCATION") else HIDDEN
    meaning = f"for every Kafka client, as librdkafka's {name.lower().replace('_', '.')}"
    return {
        "variable": variable,
        "value": shown,
        "default": None,
        "unit": None,
        "meaning": meaning,
    }


def _without_password(url: str) -> str:
    """A URL whose passwords are hidden, wherever they stand in it."""
    scheme, separator, rest = url.partition("://")
    userinfo, at, place = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    place = _PASSWORD.sub(rf"\1{HIDDEN}", place)
    return f"{scheme}{separator}{user}{colon}{HIDDEN if colon else ''}{at}{place}"
