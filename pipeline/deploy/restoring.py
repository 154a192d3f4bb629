"""`recount control export` and `import`: the control log as a file, and back as a topic.

Durable order of an import: the topic, its records at the offsets that they had, then the record
`restore`, which says that the deployment is on this topic now, then the copies in Redis. Until
`restore` is there every worker refuses the topic by its id. Killed anywhere, the same import goes
on where it is: what the topic holds must be the beginning of the file, byte by byte.

Offsets are kept because other things name them: the copy of the control log in Redis, revisions of
closed periods, outcomes of requests.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ..control.backup import BackedUp, Backup
from ..control.entities import DeploymentRecord
from ..control.kept import elements_in, spans_in
from ..control.log import ControlLog
from ..control.members import claim_of
from ..control.records import ControlState
from ..control.seal import HEADER
from ..edges.kafka import PlacedProducer, consumer, producer, read_span, spans_of
from ..edges.kafka_client import KafkaAdmin, guard
from ..edges.kafka_names import topic_names
from ..edges.redis import RedisStore
from ..errors import Halt, UsageError
from .checks import REBUILD, identity_of, store_id_in
from .init import topic_config
from .place import Place
from .request_topics import make_request_topics

_BATCH_BYTES: Final = 262_144


@dataclass(frozen=True, slots=True)
class Restored:
    """What an import made. rebuild: why every number has to be counted again; None: it has not."""

    records: int
    state: ControlState
    rebuild: str | None


async def exported(place: Place) -> Backup:
    """Return every record of the control log.

    Raises:
        UsageError: there is no such topic, or no deployment on it. Halt: its beginning is gone.
    """
    topic = topic_names(place.name)["control"]
    if topic not in await KafkaAdmin(place.kafka).describe([topic]):
        raise UsageError(
            f"Kafka at {place.kafka.bootstrap} has no topic {topic!r}; correct RECOUNT_KAFKA or "
            "RECOUNT_DEPLOYMENT. If the topic was lost, `recount control export --from-redis` "
            "writes what the copy in Redis holds"
        )
    backup = await _read(place, topic)
    _checked(backup, place.control_secrets, f"{topic} at {place.kafka.bootstrap}")
    return backup


async def exported_copy(place: Place) -> Backup:
    """Return what the copy of the control log in Redis holds: what was obeyed of it.

    Raises:
        UsageError: Redis holds no deployment of this name. Unavailable: it holds no copy.
    """
    topic, store = topic_names(place.name)["control"], RedisStore(place.redis, place.name)
    try:
        held = await store.identity()
        if held is None:
            raise UsageError(
                f"this Redis holds no deployment {place.name!r}; correct RECOUNT_REDIS or "
                "RECOUNT_DEPLOYMENT"
            )
        backup = await _copied(store, topic, str(store_id_in(held)))
    finally:
        await store.close()
    _checked(backup, place.control_secrets, "the copy in Redis")
    return backup


async def restored(place: Place, backup: Backup, name: str, *, lose_later: bool) -> Restored:
    """Make the control topic from a backup, and the deployment stand on it.

    Args:
        name: Of the file, for people.
        lose_later: Whether records that the copy in Redis has, and the file has not, may go.

    Raises:
        UsageError: the file is another deployment's, or the topic holds something else.
        Halt: Redis holds another deployment, or the topic of the events is gone.
    """
    topic = topic_names(place.name)["control"]
    if backup.topic != topic:
        raise UsageError(
            f"{name} is of the topic {backup.topic!r}, RECOUNT_DEPLOYMENT {place.name!r} has "
            f"{topic!r}; a deployment is restored under its own name"
        )
    state = _checked(backup, place.control_secrets, name)
    identity = identity_of(state)
    store = RedisStore(place.redis, place.name, identity.deployment.base_bucket_s)
    admin = KafkaAdmin(place.kafka)
    try:
        held = await store.identity()
        if held is not None and store_id_in(held) != identity.deployment.store_id:
            raise Halt(
                f"{name} is of store id {identity.deployment.store_id!r}, this Redis holds "
                f"{store_id_in(held)!r} under the same name; take the right file, or correct "
                "RECOUNT_REDIS"
            )
        later = 0 if held is None else await _later(store, backup, identity, name)
        if later and not lose_later:
            raise UsageError(
                f"the copy in Redis has {later} records after the end of {name}: run `recount "
                "control export --from-redis --output NEWER`, and import NEWER. To go on without "
                "these records, give --lose-later"
            )
        topic_id, moved = await _topics(admin, place, identity)
        told = {
            "type": "restore",
            "store_id": identity.deployment.store_id,
            "control_topic_id": topic_id,
        }
        is_told = await _fill(place, backup, told, identity, name)
        async with ControlLog(place.kafka, topic, place.control_secrets) as log:
            if not is_told:
                await log.write(told)
            if later:
                await store.keep_control("")  # it goes on otherwise than the log: made again
            if held is not None:
                await store.write_identity(identity_of(log.state).text, again=True)
            why = _rebuild(lost=held is None, moved=moved, later=later)
            return Restored(len(backup.records), log.state, why)
    finally:
        await store.close()


def _rebuild(*, lost: bool, moved: bool, later: int) -> str | None:
    """Say why every number has to be counted again; None: workers go on where they were."""
    if moved:
        return "the topic of the events was made anew"
    if lost:
        return "Redis does not hold the deployment"
    return f"{later} later records were lost, which numbers may stand on" if later else None


def _checked(backup: Backup, secrets: Sequence[bytes], name: str) -> ControlState:
    """Return what a backup says.

    Raises:
        UsageError: it says nothing, or RECOUNT_CONTROL_KEY does not fit it.
    """
    if backup.is_sealed and not secrets:
        raise UsageError(
            f"{name}: records are sealed, and RECOUNT_CONTROL_KEY is not set; set it: without it "
            "records would count that nobody obeyed"
        )
    state = backup.state(secrets)
    if state.identity is None:
        why = next((f"; its first record: {each.why}" for each in state.ignored), "")
        raise UsageError(f"{name} holds no deployment{why}")
    known, _ = state.identity.topics["control"]
    if known != backup.topic:
        raise UsageError(f"{name} is of the topic {backup.topic!r}, its records are of {known!r}")
    return state


async def _read(place: Place, topic: str) -> Backup:
    async with consumer(place.kafka) as client:
        span = (await spans_of(client, topic, 1))[0]
        if span.start:
            raise Halt(
                f"{topic} begins at offset {span.start}: its beginning was deleted, and with it "
                "the deployment; delete the topic, and import the last export that is whole"
            )
        records: list[BackedUp] = []
        async for some in read_span(client, topic, 0, 0, span.end):
            records += map(_kept, some)
        return Backup(topic, records, span.end)


def _kept(record: Any) -> BackedUp:
    return BackedUp(
        record.offset, record.timestamp, record.key, record.value, tuple(record.headers)
    )


async def _copied(store: RedisStore, topic: str, store_id: str) -> Backup:
    """The copy in Redis. It has no keys: those that the records claim stand for them."""
    records, ends = [], 0
    for ends, some in spans_in(await elements_in(store), store_id):  # noqa: B007  the last one
        for offset, value, seal in some:
            headers = ((HEADER, seal),) if seal else ()
            key = claim_of(json.loads(value)).encode()
            records.append(BackedUp(offset, None, key, value, headers))
    return Backup(topic, records, ends)


async def _later(store: RedisStore, backup: Backup, identity: DeploymentRecord, name: str) -> int:
    """Return how many records the copy in Redis has after the end of a backup.

    Raises:
        UsageError: they are not of one history.
    """
    if not await store.control_copy():
        return 0
    copy = await _copied(store, backup.topic, identity.deployment.store_id)
    known = {each.offset: each.value for each in backup.records}
    for record in copy.records:
        if record.offset < backup.next and known.get(record.offset) != record.value:
            raise UsageError(
                f"{name} and the copy in Redis differ at offset {record.offset}: the file is of "
                "another history of this deployment; take another export, or `recount control "
                "export --from-redis`"
            )
    return sum(record.offset >= backup.next for record in copy.records)


async def _topics(admin: KafkaAdmin, place: Place, identity: DeploymentRecord) -> tuple[str, bool]:
    """Make topics that are missing; return the id of control, and whether the events moved.

    Raises:
        Halt: the topic of the events is gone.
    """
    copies, single = identity.replication_factor, identity.allow_single_copy
    names = {role: name for role, (name, _) in identity.topics.items()}
    found = await admin.describe([*names.values()])
    events = found.get(names["events"])
    if events is None:
        raise Halt(
            f"topic {names['events']!r} is gone. Restore it first; if its events are lost for "
            f"good, make it anew with {len(identity.starts)} partitions and "
            "message.timestamp.type=LogAppendTime"
        )
    for role in ("control", "rejected"):
        config = topic_config(role, copies, allow_single_copy=single)
        await admin.create(names[role], partitions=1, replication=copies, config=config)
    await make_request_topics(admin, place.name, copies=copies, allow_single_copy=single)
    made = await admin.describe([names["control"]])
    return made[names["control"]].id, events.id != identity.topics["events"][1]


async def _fill(
    place: Place,
    backup: Backup,
    told: Mapping[str, str],
    identity: DeploymentRecord,
    name: str,
) -> bool:
    """Write the records that the topic does not hold yet, and see that it holds just these.

    Returns:
        Whether an import before this one has written what is told after them, too.

    Raises:
        UsageError: it holds something else.
    """
    topic, wanted = backup.topic, list(backup.filled())
    there = [*(await _read(place, topic)).filled()]
    if there and identity.topics["control"][1] == told["control_topic_id"]:
        raise UsageError(
            f"{topic} is not empty: it holds {len(there)} records, and is the topic that the "
            "deployment is on; nothing is to be restored"
        )
    if is_told := len(there) == len(wanted) + 1 and _says(there[-1], told):
        del there[-1]
    _check_begins(there, wanted, topic, name)
    rest = wanted[len(there) :]
    async with producer(place.kafka, max_batch_size=_BATCH_BYTES) as client:
        while rest:
            del rest[: await _send(client, topic, rest)]
    if not is_told:
        _check_begins([*(await _read(place, topic)).filled()], wanted, topic, name)
    return is_told


def _says(record: BackedUp, told: Mapping[str, str]) -> bool:
    with suppress(ValueError):
        said = json.loads(record.value or b"")
        return isinstance(said, dict) and told.items() <= said.items()
    return False


def _check_begins(
    there: Sequence[BackedUp], wanted: Sequence[BackedUp], topic: str, name: str
) -> None:
    """Refuse a topic that holds anything but the beginning of a file."""
    same = [one.said == other.said for one, other in zip(there, wanted, strict=False)]
    if len(there) > len(wanted) or not all(same):
        at = same.index(False) if False in same else len(wanted)
        raise UsageError(
            f"{topic} is not empty: it holds {len(there)} records, and that at offset {at} is not "
            f"the one of {name}. Nothing is restored over it: if these records are worth nothing, "
            "stop every process of the deployment, delete the topic, and import again"
        )


async def _send(client: PlacedProducer, topic: str, records: Sequence[BackedUp]) -> int:
    """Write as many of the records as one batch takes, at their offsets; return how many.

    Raises:
        Halt: they came to other offsets. RecordRefused: a record is too large for the topic.
    """
    batch, count = client.create_batch(), 0
    for record in records:
        headers = list(record.headers)
        given = {"key": record.key, "value": record.value, "headers": headers}
        if batch.append(timestamp=None, **given) is None:
            break
        count += 1
    async with guard(client.place, topic):
        first = int((await (await client.send_batch(batch, topic, partition=0))).offset)
    if first != records[0].offset:
        raise Halt(
            f"{topic}: the record of offset {records[0].offset} came to {first}: somebody else "
            "writes to the topic; stop every process of the deployment, delete the topic, and "
            "import again"
        )
    return count


def needs(restored_: Restored) -> str | None:
    """Return what is to be done after an import, before workers start; None: nothing."""
    if restored_.rebuild is None:
        return None
    return f"{restored_.rebuild}: {REBUILD}, before you start workers"
