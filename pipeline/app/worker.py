"""One worker process: wiring, start, and a bounded end on SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import faust

from ..control.log import ControlLog
from ..deploy.checks import NO_IDENTITY, check_policy, check_store, check_topics, identity_of
from ..edges.clock import SystemClock
from ..edges.kafka import KafkaAdmin, KafkaLog, topic_names
from ..edges.redis import RedisStore
from ..errors import ExitCode, UsageError
from ..settings import Settings
from .crash import die, guarded
from .definitions import Definitions
from .lane import Lane, Parts, Seek
from .transport import LaneConsumer, LaneTransport, NoTables

_STOP_S_MAX: Final = 8.0
_SWITCH_S: Final = 0.02
_STREAM_BUFFER: Final = 16  # fetches; with POLL_RECORDS_MAX it bounds memory
_POLL_INTERVAL_S: Final = 604_800.0  # beyond it aiokafka leaves the group and deadlocks


def run(settings: Settings) -> None:
    """Run until SIGTERM, then end the process; any surprise ends it too."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # Long-lived objects are frozen out of the collector; what a batch makes dies by refcount.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    # Two threads share the lock, fetching and folding: fewer, longer turns waste less.
    sys.setswitchinterval(_SWITCH_S)
    asyncio.run(guarded(_serve(settings)))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        names, admin = topic_names(settings.deployment), KafkaAdmin(settings.address)
        topics = await admin.describe(list(names.values()))
        if names["control"] not in topics:
            raise UsageError(NO_IDENTITY)
        control = await stack.enter_async_context(ControlLog(settings.address, names["control"]))
        identity = identity_of(control.state)
        store = RedisStore(settings.redis, settings.deployment, identity.deployment.base_bucket_s)
        stack.push_async_callback(store.close)
        log = KafkaLog(settings.address, events=names["events"], rejected=names["rejected"])
        stack.push_async_callback(log.close)
        check_topics(identity, topics)
        await check_policy(store)
        await check_store(store, identity)
        definitions = Definitions(control.state)
        lane = Lane(
            Parts(
                identity=identity,
                store=store,
                log=log,
                definitions=definitions,
                clock=SystemClock(),
                admin=admin,
                flush_s=settings.flush_ms / 1000,
            )
        )
        app = _app(settings, lane, names["events"])
        tasks = [asyncio.create_task(guarded(definitions.follow(control)))]
        await app.start()
        consumer: LaneConsumer = app.consumer
        seek = _seeker(consumer)
        tasks.append(asyncio.create_task(guarded(lane.tend(consumer.positions, seek))))
        await stop.wait()
        await _end(app, lane, tasks)


async def _end(app: Any, lane: Lane, tasks: list[asyncio.Task[None]]) -> None:
    """Leave within the limit. A clean end is a courtesy; nothing depends on it."""
    for task in tasks:
        task.cancel()
    try:
        async with asyncio.timeout(_STOP_S_MAX):
            await lane.release()
            await app.stop()
    except TimeoutError:
        logging.getLogger(__name__).warning("did not stop in %s s; leaving", _STOP_S_MAX)
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


def _app(settings: Settings, lane: Lane, topic: str) -> LaneApp:
    session = settings.session_timeout_s
    app = LaneApp(
        settings.group,
        broker=f"kafka://{settings.kafka.split(',')[0]}",
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
    app.lane, app.kafka = lane, settings.address.aiokafka()
    app.transport = LaneTransport(app.conf.broker_consumer, app)
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


def main(settings: Settings) -> None:
    """Entry of the child process."""
    try:
        run(settings)
    except KeyboardInterrupt as error:
        die(error)
