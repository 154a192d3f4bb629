"""One worker process: wiring, start, and a bounded end on SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import faust

from ..control.clerk import Clerk, patience_of
from ..control.kept import Copier
from ..core.limits import Limits
from ..deploy.opened import Deployed, opened
from ..edges.clock import SystemClock
from ..edges.kafka_client import KafkaAdmin
from ..edges.redis_epochs import RedisEpochs
from ..errors import ExitCode, UsageError
from ..reads.catalogue import Catalogue
from ..settings import Settings, started
from ..telemetry.logs import LOG, begin, line
from .catalogue import Definitions
from .crash import guarded, stay_instead, tell_as
from .desk import Seek
from .dropping import Dropping
from .filling import Filling
from .lane import Lane, Parts
from .reporting import WorkerVitals, serve
from .staying import STAYING
from .transport import LaneConsumer, LaneTransport, NoTables
from .watchdog import Doctor, Signs, examine, keep_beating, watch_loop

_STOP_S_MAX: Final = 8.0
_SWITCH_S: Final = 0.02
_STREAM_BUFFER: Final = 2  # fetches; with POLL_RECORDS_MAX it bounds memory, more is not faster
_POLL_INTERVAL_S: Final = 604_800.0  # beyond it aiokafka leaves the group and deadlocks


def run(settings: Settings, number: int) -> None:
    """Run until SIGTERM, then end the process; any surprise ends it too.

    Args:
        number: Which of the supervisor's processes this is.
    """
    begin(settings.log, settings.log_level, process=number)
    tell_as(line)
    LOG.info("start", **started(settings), telemetry=settings.telemetry_port_of(number))
    # Long-lived objects are frozen out of the collector; what a batch makes dies by refcount.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    # Two threads share the lock, fetching and folding: fewer, longer turns waste less.
    sys.setswitchinterval(_SWITCH_S)
    if settings.halt == "stay":
        stay_instead("-m", "pipeline", STAYING, str(number))
    asyncio.run(guarded(_serve(settings, number)))


async def _serve(settings: Settings, process: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    beats, is_alive = watch_loop()
    beating = asyncio.create_task(keep_beating(beats))
    port = settings.telemetry_port_of(process)
    working = asyncio.create_task(guarded(_work(settings, stop, port, is_alive)))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        LOG.info("stop")
        # Told to stop: _work() leaves by itself, also out of the middle of its start.
        await asyncio.wait((working,), timeout=_STOP_S_MAX)
    beating.cancel()
    os._exit(ExitCode.DONE)


async def _work(
    settings: Settings, stop: asyncio.Event, port: int | None, is_alive: Callable[[], bool]
) -> None:
    """Start, run until told to stop, and end."""
    async with AsyncExitStack() as stack:
        lane, found = await _boot(settings, stack)
        filling = Filling(
            lambda: lane.desks,
            store=found.store,
            clock=SystemClock(),
            share=settings.backfill_share,
        )
        if port is not None:
            _answer(
                settings.telemetry_host,
                port,
                WorkerVitals(
                    lane.owned,
                    lambda: lane.halted,
                    lambda: lane.done,
                    is_alive,
                    lambda: filling.is_paused,
                ),
            )
        near = await settings.address.nearest()
        app = _app(settings, lane, found.names["events"], near.aiokafka())
        definitions = lane.definitions
        copier = Copier(settings.address, found.control, found.store)
        clerk, catalogue = _office(settings, found, lane)
        # Before the group lets us in: it may not, and aiokafka waits silently then.
        tasks = [
            asyncio.create_task(guarded(work))
            for work in (
                definitions.follow(found.control),
                lane.check(),
                copier.work(),
                clerk.work(),
                catalogue.work(),
            )
        ]
        starting = asyncio.create_task(app.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            os._exit(ExitCode.DONE)  # nothing was taken yet
        await starting
        consumer: LaneConsumer = app.consumer
        doctor = Doctor(settings.session_timeout_s)

        def signs() -> Signs:
            assigned: dict[int, int | None] = {}
            if not lane.opening:
                numbers = {tp.partition for tp in consumer.assignment()}
                assigned = dict.fromkeys(numbers.difference(lane.halted))
            return Signs(assigned | lane.nexts, consumer.generation(), lane.store_answers)

        tasks += [
            asyncio.create_task(guarded(work))
            for work in (
                lane.tend(consumer.positions, _seeker(consumer)),
                filling.run(_seeker(consumer)),
                Dropping(lambda: lane.nexts, RedisEpochs(found.store)).run(),
                examine(doctor, found.log, SystemClock(), signs, lane.ends),
            )
        ]
        await stop.wait()
        await _end(app, lane, tasks)


def _office(settings: Settings, found: Deployed, lane: Lane) -> tuple[Clerk, Catalogue]:
    """What takes requests and keeps the catalogue: first of all the owner of partition 0."""
    name, place = settings.deployment, settings.place
    clerk = Clerk(
        place.kafka,
        name,
        control=lambda: found.control,
        secrets=place.control_secrets,
        clock=SystemClock(),
        patience=lambda: 0.0 if 0 in lane.desks else patience_of(os.getpid()),
    )
    catalogue = Catalogue(
        place.kafka,
        name,
        store=found.store,
        seen=lambda: found.control.state,
        keeps=lambda: 0 in lane.desks,
    )
    return clerk, catalogue


def _answer(host: str, port: int, vital: WorkerVitals) -> None:
    try:
        serve(host, port, vital)
    except OSError as error:
        raise UsageError(
            f"RECOUNT_TELEMETRY_HOST and _PORT: {host} port {port}: {error.strerror or error}"
        ) from error


async def _boot(settings: Settings, stack: AsyncExitStack) -> tuple[Lane, Deployed]:
    """Open everything and check it.

    Raises:
        Halt, UsageError: nobody restarts it. Unavailable: a supervisor tries again.
    """
    found = await stack.enter_async_context(opened(settings.place, commits=True))
    lane = Lane(
        Parts(
            store=found.store,
            log=found.log,
            definitions=Definitions(found.control.state),
            clock=SystemClock(),
            admin=KafkaAdmin(settings.address),
            group=settings.group,
            flush_s=settings.flush_ms / 1000,
            limits=Limits(settings.rejected_consecutive_max, settings.rejected_ratio_max),
        )
    )
    return lane, found


async def _end(app: Any, lane: Lane, tasks: list[asyncio.Task[None]]) -> None:
    """Leave within the limit. A clean end is a courtesy; nothing depends on it."""
    for task in tasks:
        task.cancel()
    try:
        async with asyncio.timeout(_STOP_S_MAX):
            await lane.release()
            await app.stop()
    except TimeoutError:
        LOG.warning("stop_was_slow", s=_STOP_S_MAX)
    logging.shutdown()
    os._exit(ExitCode.DONE)


def _seeker(consumer: LaneConsumer) -> Seek:
    async def seek(partition: int, offset: int) -> None:
        points = {tp: offset for tp in consumer.assignment() if tp.partition == partition}
        if points:
            await consumer.seek_wait(points)

    return seek


class LaneApp(faust.App):
    """Faust's app, with the lane and aiokafka's settings where the transport finds them."""

    lane: Lane
    kafka: dict[str, Any]


def _app(settings: Settings, lane: Lane, topic: str, kafka: dict[str, Any]) -> LaneApp:
    session = settings.session_timeout_s
    app = LaneApp(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.address.servers],  # names only
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / "recount-faust",  # Faust makes it; nothing is in it
        web_enabled=False,
        autodiscover=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        TableManager=NoTables,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=10_000,
        stream_buffer_maxsize=_STREAM_BUFFER,
        stream_wait_empty=False,
        broker_request_timeout=90.0,
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_max_poll_interval=_POLL_INTERVAL_S,
        broker_rebalance_timeout=60.0,
    )
    app.lane, app.kafka = lane, kafka
    # Both connect with app.kafka: Faust's own settings of the broker know no login.
    app.transport = LaneTransport(app.conf.broker_consumer, app)
    app.producer_transport = LaneTransport(app.conf.broker_producer, app)
    events = app.topic(
        topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        acks=False,
    )

    @app.agent(events)
    async def apply(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            await guarded(lane.take(message.partition, message.value, _seeker(app.consumer)))

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        await lane.release()

    app.finalize()
    return app
