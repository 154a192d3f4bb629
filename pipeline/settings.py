"""The settings of a process: one frozen object, from the environment or a `.env` file.

Settings that decide numbers are not here: they belong to the deployment (core/deployment.py).
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .control.seal import SECRET_BYTES_MIN
from .deploy.place import Place
from .edges.kafka_client import KafkaAddress
from .edges.kafka_names import group_name
from .edges.kafka_security import PREFIX, checked, named
from .edges.redis_address import HIDDEN, without_password
from .errors import UsageError
from .telemetry.versions import release

_DURATION: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_ENV_FILE: Final = ".env"
_SECURITY: Final = "kafka_security_"
_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class Settings(BaseSettings):
    """What `recount settings` prints. unit: of the value, where it has one."""

    model_config = SettingsConfigDict(
        env_prefix="RECOUNT_", env_file=_ENV_FILE, extra="ignore", frozen=True
    )

    kafka: str = Field(
        "127.0.0.1:9092", description="The bootstrap servers of Kafka, joined by commas."
    )
    redis: str = Field(
        "redis://127.0.0.1:6379/0",
        description="The URL of Redis, or of a Redis Cluster; a password in it is never shown.",
    )
    deployment: str = Field(
        "default",
        max_length=64,
        description="The deployment: its name begins the names of its topics, of its consumer"
        " group and of its keys in Redis; `default` adds no prefix to the topics.",
    )
    kafka_security_protocol: str = Field(
        "PLAINTEXT",
        description="How each client connects to Kafka: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or"
        " `SASL_SSL`.",
    )
    kafka_security_sasl_mechanism: str | None = Field(
        None,
        description="How a client logs in: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`; needed"
        " with `SASL_SSL` and `SASL_PLAINTEXT`.",
    )
    kafka_security_sasl_mechanisms: str | None = Field(
        None, description="The same in librdkafka's other spelling; one mechanism."
    )
    kafka_security_sasl_username: str | None = Field(
        None, description="The name that a client logs in with."
    )
    kafka_security_sasl_password: str | None = Field(
        None,
        description="The password of this name.",
        json_schema_extra={"secret": True},
    )
    kafka_security_sasl_password_file: Path | None = Field(
        None,
        description="A file with this password, instead of the password itself; a line break at"
        " its end does not count.",
    )
    kafka_security_ssl_ca_location: Path | None = Field(
        None,
        description="The file, PEM, with the authorities that may sign the brokers' certificates,"
        " or a folder as `c_rehash` makes it; without it, those of the system.",
    )
    kafka_security_ssl_certificate_location: Path | None = Field(
        None,
        description="The file, PEM, with the certificate that a client shows (mutual TLS).",
    )
    kafka_security_ssl_key_location: Path | None = Field(
        None, description="The file, PEM, with the private key of this certificate."
    )
    kafka_security_ssl_key_password: str | None = Field(
        None,
        description="The password of this key, if it has one.",
        json_schema_extra={"secret": True},
    )
    kafka_security_ssl_key_password_file: Path | None = Field(
        None, description="A file with this password, instead of the password itself."
    )
    kafka_security_ssl_endpoint_identification_algorithm: str | None = Field(
        None,
        description="With `https`, or where it is not set, a broker's certificate must name the"
        " host that a client connects to; with `none` it need not.",
    )

    flush_ms: int = Field(
        250,
        ge=1,
        le=60_000,
        description="A worker commits what it has read after at most this time.",
        json_schema_extra={"unit": "ms"},
    )
    backfill_share: float = Field(
        0.5,
        ge=0.01,
        le=1,
        description="While live events come, a worker spends at most this share of its time on the"
        " history of new metrics.",
    )
    lateness: timedelta = Field(
        timedelta(hours=1),
        description="A window is not called complete before the stream has passed the window's"
        " end by this time.",
        json_schema_extra={"unit": "s"},
    )
    read_wait_ms: int = Field(
        500,
        ge=0,
        le=60_000,
        description="A reader waits at most this time until workers have applied what was durable"
        " when it was asked; 0: it does not wait.",
        json_schema_extra={"unit": "ms"},
    )
    kafka_wait_ms: int = Field(
        1_000,
        ge=100,
        le=60_000,
        description="A reader waits at most this time for Kafka's first answer; then it answers"
        " from Redis alone, and says so.",
        json_schema_extra={"unit": "ms"},
    )
    periods_dir: str = Field(
        "periods",
        description="The folder that closed periods are written to and read from.",
    )
    control_key: str | None = Field(
        None,
        description="A secret of at least 32 bytes: with it, a process obeys only records of the"
        " control log that are sealed by it; of several, joined by commas, the first one seals"
        " and each one opens.",
        json_schema_extra={"secret": True},
    )
    telemetry_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="The port of /healthz, /readyz and /metrics; of several processes of a worker,"
        " the first listens on it, and each further one on the next; without it, none listens.",
    )
    telemetry_host: str = Field(
        "127.0.0.1",
        description="The address on which /healthz, /readyz and /metrics answer; they ask for no"
        " key.",
    )
    log: Literal["text", "json"] = Field(
        "text",
        description="The form of what a worker and a server say on stderr, a line for each event:"
        " `text` for people, `json` for programs.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="The lowest level that is said; with `debug` also what the libraries tell.",
    )
    session_timeout_s: float = Field(
        6.0,
        ge=1,
        le=300,
        description="The consumer group waits this time for a silent worker before it gives the"
        " worker's partitions to others.",
        json_schema_extra={"unit": "s"},
    )

    halt: Literal["exit", "stay"] = Field(
        "exit",
        description="What a worker process does where the whole deployment cannot be gone on"
        " with: `exit` ends it with exit 5; `stay` keeps it up, doing nothing, not ready, with the"
        " reason in /readyz, for whoever would restart it for ever.",
    )

    rejected_consecutive_max: int = Field(
        10_000,
        ge=0,
        description="A partition halts rather than reject more events in a row than this; events"
        " that can be re-driven do not count; 0: no limit.",
    )
    rejected_ratio_max: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A partition halts rather than reject more than this share of its last 20,000"
        " events; 0: no limit.",
    )

    key_requests_per_s_max: int = Field(
        0,
        ge=0,
        description="One API key may send this many requests a second to all servers together;"
        " 0: no limit.",
    )
    connections_per_address_max: int = Field(
        400,
        ge=0,
        description="One client address may hold this many connections to a server; 0: no limit,"
        " for servers behind a proxy.",
    )
    vendor_limits: bool = Field(
        False,
        description="If true, a server applies to each key the rate limits that the vendor"
        " documents for the call.",
    )
    klaviyo_custom_metrics_max: int = Field(
        50, ge=1, description="At most this many custom metrics exist of Klaviyo's API."
    )
    klaviyo_plain_metrics_max: int = Field(
        200,
        ge=0,
        description="At most this many plain metrics of Klaviyo's API are counted; each is counted"
        " from its first event through that API, or from the first question of a key with the role"
        " `manage`.",
    )
    statsig_environments: str = Field(
        "production",
        description="The events of these environments of Statsig's SDKs count, separated by"
        " commas; others are taken and left out, as Statsig does; `*`: all count.",
    )
    tls_certificate: Path | None = Field(
        None,
        description="The file, PEM, with the certificate of `recount serve`; with it and"
        " RECOUNT_TLS_KEY, the server speaks TLS.",
    )
    tls_key: Path | None = Field(
        None, description="The file, PEM, with the private key of RECOUNT_TLS_CERTIFICATE."
    )

    @field_validator("statsig_environments")
    @classmethod
    def _environments(cls, value: str) -> str:
        if not all(part.strip() for part in value.split(",")):
            raise ValueError("give names separated by commas, or * for all")
        return value

    @property
    def counted_environments(self) -> frozenset[str] | None:
        """Statsig's environments that count, in small letters; None is all."""
        named = frozenset(part.strip().lower() for part in self.statsig_environments.split(","))
        return None if "*" in named else named

    @field_validator("deployment")
    @classmethod
    def _deployment(cls, value: str) -> str:
        if not _DEPLOYMENT.fullmatch(value):
            raise ValueError("use letters, digits, _ and -; single dots may join parts")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _unset(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty text of the security settings is as if the variable were not there."""
        name = info.field_name or ""
        if value == "" and name.startswith(_SECURITY):
            return cls.model_fields[name].default
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

    def telemetry_port_of(self, process: int) -> int | None:
        """The port on which a worker's process answers; None: it does not."""
        return None if self.telemetry_port is None else self.telemetry_port + process

    @property
    def group(self) -> str:
        """The consumer group."""
        return group_name(self.deployment)

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
        """Where Kafka is, and how to log in.

        Raises:
            UsageError: RECOUNT_KAFKA_SECURITY_… do not fit together, or a file cannot be read.
        """
        given = {name: getattr(self, f"{_SECURITY}{name}") for name in security_names()}
        return KafkaAddress(self.kafka, checked(named(given)))


def duration_of(option: str, text: str) -> timedelta:
    """Read a duration that an option was given.

    Raises:
        UsageError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{option}: {text[:80]!r} is no duration such as 24h, 90m or 3d")
    return timedelta(seconds=int(match[1]) * _UNIT_S[match[2]])


def security_names() -> list[str]:
    """Return what may follow RECOUNT_KAFKA_SECURITY_, in small letters."""
    return [name.removeprefix(_SECURITY) for name in Settings.model_fields if _SECURITY in name]


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        UsageError: every setting that is wrong, with its variable.
    """
    _check_security_names()
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"RECOUNT_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()
        )
        raise UsageError(wrong) from error
    _ = settings.address.servers  # every process says at its start what is wrong with it
    return settings


def _check_security_names() -> None:
    """Refuse a name that nobody would read: the connection would not be as it was meant."""
    known = [f"{PREFIX}{name.upper()}" for name in security_names()]
    for name in (*os.environ, *dotenv_values(_ENV_FILE)):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise UsageError(f"{name} is not known; one of {', '.join(known)}")


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
    return rows


def _shown(name: str, value: Any, extra: Any) -> Any:
    if isinstance(extra, dict) and extra.get("secret") and value is not None:
        return HIDDEN
    return without_password(value) if name == "redis" else value


def started(settings: Settings) -> dict[str, Any]:
    """What a process that starts says of itself: where it is, and what runs."""
    return {
        "deployment": settings.deployment,
        "kafka": settings.kafka,
        "redis": without_password(settings.redis),
        **release(),
    }
