"""init, settings, publish, worker."""

import codecs
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, cast

import typer

from definitions.events import SYSTEMS

from ..control.entities import DeploymentRecord
from ..control.terms import check_config
from ..core.deployment import BASE_BUCKETS_S, Deployment, Keying
from ..core.reasons import Reason
from ..deploy.init import DEFAULTS, init
from ..deploy.sizing import Load
from ..deploy.wish import Wish
from ..edges.clock import SystemClock
from ..errors import UsageError
from ..log.publish import Checked, check, publish, translated
from ..settings import describe, load_settings
from .configuration import markdown
from .open import opened
from .output import TableOption, progress, show, wait
from .size import check_above_0, told_of

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_SPOOL_BYTES_MAX = 64 * 1_048_576  # of stdin in memory; more goes to a temporary file


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(init_command)
    app.command("settings")(settings_command)
    app.command("publish")(publish_command)
    app.command("worker")(worker_command)


def init_command(
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of the events topic. Default 12; can grow later.")
    ] = None,
    replication_factor: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Copies of each record. Default 1. From 3 on, two copies acknowledge each record "
            "(min.insync.replicas=2).",
        ),
    ] = None,
    allow_single_copy: Annotated[
        bool | None,
        typer.Option(
            "--allow-single-copy/--refuse-single-copy",
            help="With three copies, whether one alone may acknowledge a record. Default: refuse. "
            "Can be changed later.",
        ),
    ] = None,
    retention_days: Annotated[
        float | None, typer.Option(help="Of the events topic. Default: unlimited.")
    ] = None,
    dedup_window_days: Annotated[
        float | None, typer.Option(help="How long an event's identity is remembered. Default 35.")
    ] = None,
    max_age_days: Annotated[
        float | None, typer.Option(help="Older events are rejected. Default 34; 0: no limit.")
    ] = None,
    max_ahead_hours: Annotated[
        float | None, typer.Option(help="Events further in the future are rejected. Default 24.")
    ] = None,
    base_bucket: Annotated[
        str | None, typer.Option(help="The smallest window: 1h (default) or 15m.")
    ] = None,
    keying: Annotated[
        str | None,
        typer.Option(
            help="An event outside its customer's home partition counts (trust, default) or is "
            "rejected (strict)."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="JSON or TOML: names of the vendor formats (docs/operations.md)."),
    ] = None,
    expected_events_per_second: Annotated[
        float | None,
        typer.Option(
            help="Say first what this load takes, as `recount size` does, and refuse too few"
            " partitions (exit 2)."
        ),
    ] = None,
    expected_customers: Annotated[
        int, typer.Option(min=1, help="Of that load. More of it: `recount size`.")
    ] = 1_000,
) -> None:
    """Create the deployment: its topics and the settings that decide numbers.

    If it exists, check that its settings are as given (exit 5 if not), and add
    partitions if --partitions is larger.

    Example: recount init --partitions 12
    """
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
            raise UsageError(f"{name} must be between 0 and 1,000,000")
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
        allow_single_copy=allow_single_copy,
    )
    if expected_events_per_second is not None:
        check_above_0("--expected-events-per-second", expected_events_per_second, 1e9)
        window_ms = wish.dedup_window_ms or DEFAULTS.dedup_window_ms or 0
        load = Load(expected_events_per_second, expected_customers, 3, window_ms / _DAY_MS)
        _say(told_of(load, partitions or DEFAULTS.partitions or 0))
    made = wait(init(settings.place, wish, _say), stopped="run it again: it goes on where it is")
    show([_line(made)])


def _say(text: str) -> None:
    sys.stderr.write(f"recount init: {text}\n")


def _line(identity: DeploymentRecord) -> dict[str, Any]:
    """What a deployment is."""
    deployment = identity.deployment
    buckets = {seconds: name for name, seconds in BASE_BUCKETS_S.items()}
    return {
        "store_id": deployment.store_id,
        "topics": {role: name for role, (name, _) in identity.topics.items()},
        "settings": {
            "partitions": len(identity.starts),
            "homes": deployment.homes,
            "replication_factor": identity.replication_factor,
            "allow_single_copy": identity.allow_single_copy,
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


def _config(path: Path) -> dict[str, Any]:
    """Read a configuration, JSON or TOML."""
    try:
        text = path.read_text("utf-8-sig")
        return check_config(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON (or, as .toml, not TOML): {error}") from error


def _scaled(value: float | None, unit_ms: int) -> int | None:
    return None if value is None else round(value * unit_ms)


def settings_command(
    table: TableOption = False,
    as_markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="The reference without values, as docs/configuration.md has it."
        ),
    ] = False,
) -> None:
    """Print every setting (environment variable) with its value, default, unit and meaning."""
    if as_markdown:
        sys.stdout.writelines(f"{line}\n" for line in markdown())
        return
    show(describe(load_settings()), table=table)


def publish_command(
    file: Annotated[str, typer.Argument(help="One JSON event a line; - is stdin.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="metronome (default), cloudevents, klaviyo, segment, statsig."
        ),
    ] = "metronome",
    key: Annotated[str, typer.Option(help="Key of the records: customer or none.")] = "customer",
    send_anyway: Annotated[
        bool,
        typer.Option(
            "--send-anyway",
            envvar="RECOUNT_SEND_ANYWAY",
            help="Send all events; workers make dead letters of those that they reject.",
        ),
    ] = False,
) -> None:
    """Send the events of a file to Kafka. Ends when Kafka has stored all of them durably.

    First each event is checked as a worker would check it, by its form and its
    age. If workers would reject any, nothing is sent (exit 2), and stderr says
    how many and why.

    Example: recount publish events.jsonl
    """
    if format_ not in SYSTEMS:
        raise UsageError(f"--format is one of {', '.join(SYSTEMS)}")
    if key not in {"customer", "none"}:
        raise UsageError("--key is customer or none")
    with _spooled(file) as lines:
        durable = Durable()
        sent, checked = wait(
            _publish(lines, format_, durable, keyed=key == "customer", send_anyway=send_anyway),
            stopped=durable.told,
        )
    show([{"published": sent, **_rejections(checked)}])


@dataclass(slots=True)
class Durable:
    """How many events of a file Kafka has stored."""

    count: int = 0
    total: int = 0

    def told(self) -> str:
        """What is told where the command is interrupted."""
        if not self.total:
            return "nothing was sent"
        return (
            f"{self.count:,} of {self.total:,} events are durable, perhaps some more; run it "
            "again: what was sent counts once"
        )


def _rejections(checked: Checked) -> dict[str, Any]:
    """What of the events that were sent workers will reject, where there is any."""
    if not checked.rejected:
        return {}
    sys.stderr.write(f"sent; {checked.told}; see `recount rejected list`\n")
    counts = {str(reason): count for reason, (count, _) in checked.rejected.items()}
    return {"will_be_rejected": counts}


async def _publish(
    lines: BinaryIO, format_: str, durable: Durable, *, keyed: bool, send_anyway: bool
) -> tuple[int, Checked]:
    async with opened(sends=True) as deployment:
        settings = deployment.identity.deployment

        def events() -> Iterator[bytes]:
            lines.seek(0)
            bare = _bare(lines)
            environments = deployment.settings.counted_environments
            return bare if format_ == "metronome" else translated(format_, bare, environments)

        checked = check(events(), settings, SystemClock().now())
        if checked.rejected and not send_anyway:
            raise UsageError(
                f"checked before sending: {checked.told}. {_advice(checked, settings)}"
            )
        durable.total = checked.total
        with progress("published", checked.total) as (bar, task):

            def stored(count: int) -> None:
                durable.count += count
                bar.advance(task, count)

            sent = await publish(
                deployment.settings.address,
                deployment.identity.topics["events"][0],
                events(),
                homes=settings.homes,
                keyed=keyed,
                progress=stored,
            )
    return sent, checked


def _bare(lines: BinaryIO) -> Iterator[bytes]:
    """The lines without their ends, and without a byte order mark, which some editors write."""
    for number, line in enumerate(lines):
        whole = line.removesuffix(b"\n")
        yield whole if number else whole.removeprefix(codecs.BOM_UTF8)


def _advice(checked: Checked, deployment: Deployment) -> str:
    """What to do about events that would be rejected."""
    advice = "Nothing was sent. Correct the events, or send all of them with --send-anyway: "
    advice += "workers then keep the rejected ones as dead letters"
    if Reason.TOO_OLD in checked.rejected:
        days = deployment.max_age_ms / _DAY_MS
        advice += (
            f". This deployment rejects events older than {days:g} days, and that cannot change; "
            "to load history, create another deployment with `recount init --max-age-days 0` "
            "(docs/operations.md, Loading history)"
        )
    return advice


@contextmanager
def _spooled(file: str) -> Iterator[BinaryIO]:
    """A file that can be read twice; stdin, or a pipe, is kept aside while it is read.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with ExitStack() as stack:
            given: BinaryIO = sys.stdin.buffer
            if file != "-":
                given = stack.enter_context(Path(file).open("rb"))
                if given.seekable():
                    yield given
                    return
            kept = stack.enter_context(SpooledTemporaryFile(max_size=_SPOOL_BYTES_MAX))
            shutil.copyfileobj(given, kept)
            yield cast("BinaryIO", kept)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error


def worker_command(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up",
            help="Exit 0 at the end of the log as it is now; 5 where partitions have halted and "
            "the others are there.",
        ),
    ] = False,
) -> None:
    """Count the events of the log until SIGTERM.

    A process that crashes is started again. What is wrong with one partition
    halts this one; the others go on, and `recount status` says what to do. What
    is wrong with the deployment ends the command (exit 5) and says what to do.

    Example: recount worker --processes 2
    """
    from ..app.crash import tell_as
    from ..app.supervisor import Supervisor
    from ..telemetry.logs import line

    settings = load_settings()
    supervisor = Supervisor(settings, processes)
    tell_as(line)
    code: Any = wait(supervisor.run(until_caught_up=until_caught_up))
    raise typer.Exit(code)
