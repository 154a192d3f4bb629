"""One way to open a deployment, with one list of checks, for every process and command."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ..control.entities import DeploymentRecord
from ..control.log import ControlLog
from ..edges.kafka import KafkaLog
from ..edges.kafka_causes import ANSWER_S_MAX
from ..edges.kafka_client import KafkaAdmin, TopicInfo
from ..edges.kafka_names import group_name, topic_names
from ..edges.kafka_owners import rightful
from ..edges.redis import RedisStore
from ..errors import LogUnavailable
from .checks import (
    RIGHTS,
    check_copies,
    check_copy,
    check_identity,
    check_policy,
    check_release,
    check_topics,
    identity_of,
    known_identity,
)
from .place import Place
from .spare import Spare


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment that is open.

    names: role → topic. control: read to the end it had, and able to read on. record: what the
    deployment was when it was opened; control.state has what it is now. away: why Kafka was not
    reached; then control.state is that of the copy in Redis, and nothing can be written.
    """

    place: Place
    names: dict[str, str]
    control: ControlLog
    record: DeploymentRecord
    store: RedisStore
    log: KafkaLog
    away: str | None = None


@asynccontextmanager
async def opened(
    place: Place,
    *,
    commits: bool = False,
    sends: bool = False,
    kafka_wait_s: float | None = None,
) -> AsyncIterator[Deployed]:
    """Open a deployment, and close all of it at the end.

    Args:
        commits: Whether the process will write numbers. Then everything that a commit stands on
            is checked as well: release, topics, eviction policy, rights. The state of a partition
            is its owner's to check: what is wrong with it halts this partition only.
        sends: Whether it will send events. Then it is checked that no copy of them stands alone.
        kafka_wait_s: For who reads numbers alone: how long Kafka may take to answer at first.
            Afterwards the deployment is opened without it. None: nothing can be done without.

    Raises:
        UsageError: there is no such deployment. Halt: it is one that this release, on these
            services, must not touch. Unavailable: a service does not answer; try again.
    """
    names = topic_names(place.name)
    async with AsyncExitStack() as stack:
        store = RedisStore(place.redis, place.name)
        stack.push_async_callback(store.close)
        log = KafkaLog(place.kafka, events=names["events"], rejected=names["rejected"])
        stack.push_async_callback(log.close)
        admin = KafkaAdmin(place.kafka, ANSWER_S_MAX if kafka_wait_s is None else kafka_wait_s)
        control = ControlLog(place.kafka, names["control"], place.control_secrets)
        topics: dict[str, TopicInfo] = {}
        away = None

        async def reach() -> dict[str, TopicInfo]:
            if commits:
                rights = {name: RIGHTS[role] for role, name in names.items()}
                found = await rightful(admin, rights, group_name(place.name))
            else:
                found = await admin.describe([names["control"]])
            if names["control"] not in found:
                await known_identity(None, store)
            await stack.enter_async_context(control)
            return found

        if kafka_wait_s is None:
            topics = await reach()
        else:
            async with Spare(place, control.topic, store) as spare:
                try:
                    topics = await reach()
                except LogUnavailable as error:
                    control.state, away = await spare.instead(error), str(error)
        record = await known_identity(control.state, store)
        store.base_bucket_s = record.deployment.base_bucket_s
        store.tags = lambda: identity_of(control.state).tags
        check_identity(record)
        if away is None and (commits or sends):
            await check_copies(admin, record)
        if commits:
            check_release(record)
            check_topics(record, topics)
            await check_policy(store)
            await store.check_rights(record.starts)
            await check_copy(store, record)
        yield Deployed(place, names, control, record, store, log, away)
