"""init, settings, publish, worker."""

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from definitions.events import SYSTEMS

from ..control.terms import check_config
from ..core.deployment import BASE_BUCKETS_S, Keying
from ..deploy.init import Wish, init
from ..errors import UsageError
from ..log.publish import publish, translated
from ..settings import describe, load_settings
from .open import opened
from .output import TableOption, progress, show, wait

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(init_command)
    app.command("settings")(settings_command)
    app.command("publish")(publish_command)
    app.command("worker")(worker_command)


def init_command(
    partitions: Annotated[int | None, typer.Option(min=1, help="Default 12; can grow.")] = None,
    replication_factor: Annotated[int | None, typer.Option(min=1, help="Default 1.")] = None,
    retention_days: Annotated[float | None, typer.Option(help="Default: unlimited.")] = None,
    dedup_window_days: Annotated[float | None, typer.Option(help="Default 35.")] = None,
    max_age_days: Annotated[float | None, typer.Option(help="Default 34; 0: no limit.")] = None,
    max_ahead_hours: Annotated[float | None, typer.Option(help="Default 24.")] = None,
    base_bucket: Annotated[str | None, typer.Option(help="1h (default) or 15m.")] = None,
    keying: Annotated[str | None, typer.Option(help="trust (default) or strict.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings of the formats.")] = None,
) -> None:
    """Make the deployment's topics and identity, or check that they are as asked; idempotent."""
    if keying not in {None, *Keying}:
        raise UsageError("--keying is trust or strict")
    if base_bucket not in {None, *BASE_BUCKETS_S}:
        raise UsageError("--base-bucket is 1h or 15m")
    for name, value in (
        ("--retention-days", retention_days),
        ("--dedup-window-days", dedup_window_days),
        ("--max-age-days", max_age_days),
        ("--max-ahead-hours", max_ahead_hours),
    ):
        if value is not None and not 0 <= value < 1e6:
            raise UsageError(f"{name} must lie between 0 and 1,000,000")
    settings = load_settings()
    wish = Wish(
        partitions=partitions,
        replication_factor=replication_factor,
        retention_days=retention_days,
        dedup_window_ms=_scaled(dedup_window_days, _DAY_MS),
        max_age_ms=_scaled(max_age_days, _DAY_MS),
        max_ahead_ms=_scaled(max_ahead_hours, _HOUR_MS),
        base_bucket_s=None if base_bucket is None else BASE_BUCKETS_S[base_bucket],
        keying=keying,
        formats=None if config is None else _config(config),
    )
    identity = wait(init(settings.address, settings.redis, settings.deployment, wish))
    deployment = identity.deployment
    buckets = {seconds: name for name, seconds in BASE_BUCKETS_S.items()}
    show(
        [
            {
                "store_id": deployment.store_id,
                "topics": {role: name for role, (name, _) in identity.topics.items()},
                "settings": {
                    "partitions": len(identity.starts),
                    "homes": deployment.homes,
                    "replication_factor": identity.replication_factor,
                    "retention_days": identity.retention_days,
                    "dedup_window_days": deployment.dedup_window_ms / _DAY_MS,
                    "max_age_days": deployment.max_age_ms / _DAY_MS,
                    "max_ahead_hours": deployment.max_ahead_ms / _HOUR_MS,
                    "base_bucket": buckets[deployment.base_bucket_s],
                    "keying": deployment.keying.value,
                    "formats": dict(identity.formats),
                    "rules": identity.rules,
                    "format_version": identity.format_version,
                    "id_hash": identity.id_hash,
                },
            }
        ]
    )


def _config(path: Path) -> dict[str, Any]:
    """Read a configuration, JSON or TOML."""
    try:
        text = path.read_text()
        return check_config(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON (or, as .toml, not TOML): {error}") from error


def _scaled(value: float | None, unit_ms: int) -> int | None:
    return None if value is None else round(value * unit_ms)


def settings_command(table: TableOption = False) -> None:
    """Print every setting of a process with its value, default and unit."""
    show(describe(load_settings()), table=table)


def publish_command(
    file: Annotated[str, typer.Argument(help="Events, JSON lines; - is stdin.")],
    format_: Annotated[
        str, typer.Option("--format", help="metronome (default), cloudevents, klaviyo, statsig.")
    ] = "metronome",
    key: Annotated[str, typer.Option(help="customer (default) or none.")] = "customer",
) -> None:
    """Send every line to the events topic, durable before this ends."""
    if format_ not in SYSTEMS:
        raise UsageError(f"--format is one of {', '.join(SYSTEMS)}")
    if key not in {"customer", "none"}:
        raise UsageError("--key is customer or none")
    show([{"published": wait(_publish(file, format_, keyed=key == "customer"))}])


async def _publish(file: str, format_: str, *, keyed: bool) -> int:
    async with opened() as deployment:
        total = None if file == "-" else _count(Path(file))
        with progress("published", total) as (bar, task):
            return await publish(
                deployment.settings.address,
                deployment.identity.topics["events"][0],
                _lines(file) if format_ == "metronome" else translated(format_, _lines(file)),
                homes=deployment.identity.deployment.homes,
                keyed=keyed,
                progress=lambda done: bar.advance(task, done),
            )


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _count(path: Path) -> int:
    with _open(path) as lines:
        return sum(1 for _ in lines)


def _lines(file: str) -> Iterator[bytes]:
    """Every line without its newline, otherwise unchanged."""
    if file == "-":
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n")
        return
    with _open(Path(file)) as lines:
        for line in lines:
            yield line.removesuffix(b"\n")


def worker_command(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="Exit 0 at the end offset seen at start.")
    ] = False,
) -> None:
    """Apply the log, until SIGTERM. A HALT (exit 5) says what to do and is not restarted."""
    from ..app.supervisor import Supervisor

    settings = load_settings()
    supervisor = Supervisor(settings, processes)
    code: Any = wait(supervisor.run(until_caught_up=until_caught_up))
    raise typer.Exit(code)
