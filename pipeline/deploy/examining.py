"""`recount doctor`: every condition of a deployment, looked at once, with what to do.

Rule 1: no number and no setting is changed, and nothing waits for long (Notes.within).
Rule 2: what cannot be looked at because something before it failed is unknown, never well.
Rule 3: a check asks what init, workers and servers ask (deploy/checks.py): what is well here does
not end in exit 5 there.
"""

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from ..control.log import ControlLog
from ..core.records import Span
from ..core.state import PartitionState
from ..edges.kafka import KafkaLog
from ..edges.kafka_client import KafkaAdmin
from ..edges.kafka_names import group_name, topic_names
from ..edges.kafka_owners import owners, rightful
from ..edges.redis import RedisStore
from ..errors import Damage, PipelineError, Unavailable
from ..ports import Clock
from ..telemetry.versions import has_native
from .checks import (
    COPIES_SAFE,
    RIGHTS,
    check_copies,
    check_identity,
    check_release,
    check_span,
    check_stamps,
    check_state,
    check_topics,
    identity_of,
)
from .examining_redis import REDIS_CHECKS, examine_redis
from .notes import Found, Notes, NotReached, Word
from .place import Place

_KAFKA_CHECKS: Final = ("kafka", "security", "control log", "topics", "copies", "rights on kafka")
_SKEW_MIND: Final = timedelta(seconds=5)
_SKEW_WRONG: Final = timedelta(minutes=30)  # a worker halts at an hour
_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_FOREVER: Final = "-1"


class Examination:
    """One look at everything that a deployment needs."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._names = topic_names(place.name)
        self._admin = KafkaAdmin(place.kafka)
        self._notes = Notes()

    async def run(self) -> list[Found]:
        """Look at all of it; return the findings in the order of the checks."""
        notes, names = self._notes, self._names
        self._native()
        async with AsyncExitStack() as stack:
            store = RedisStore(self._place.redis, self._place.name)
            stack.push_async_callback(store.close)
            log = KafkaLog(self._place.kafka, events=names["events"], rejected=names["rejected"])
            stack.push_async_callback(log.close)
            await notes.within(self._kafka, *_KAFKA_CHECKS)
            await notes.within(lambda: examine_redis(notes, store), *REDIS_CHECKS)
            await notes.within(lambda: self._partitions(store, log), "partitions", "lag")
            await notes.within(self._workers, "workers")
        self._clocks()
        return notes.found

    def _native(self) -> None:
        if has_native():
            self._notes.say_well("native", "native/ is built: it folds plain events")
            return
        told = "native/ is not built here: Python folds every event, slower, to the same numbers"
        do = "install Rust's cargo (1.88 or later), and run `make env`"
        self._notes.say("native", Word.MIND, told, do)

    # -- Kafka -----------------------------------------------------------------------------------

    async def _kafka(self) -> None:
        notes, seen = self._notes, self._notes.seen
        with notes.check("kafka"):
            seen.topics = await self._admin.describe([*self._names.values()])
        notes.say_well("kafka", f"Kafka answers at {self._place.kafka.bootstrap}")
        self._security()
        with notes.check("control log"):
            await self._control()
        record = seen.deployment
        with notes.check("topics"):
            check_topics(record, seen.topics)
            await check_stamps(self._admin, self._names["events"])
            await self._kept()
        with notes.check("copies"):
            await check_copies(self._admin, record)
        if record.replication_factor >= COPIES_SAFE:
            notes.say_well("copies", f"{record.replication_factor} of each record")
        else:
            told = f"{record.replication_factor} of each record: a lost disk may lose records"
            do = "where that matters: three brokers and --replication-factor 3"
            notes.say("copies", Word.MIND, told, do)
        with notes.check("rights on kafka"):
            rights = {self._names[role]: right for role, right in RIGHTS.items()}
            await rightful(self._admin, rights, group_name(self._place.name))
        notes.say_well("rights on kafka", "this user may do what a worker does")

    def _security(self) -> None:
        address = self._place.kafka
        protocol = address.security.get("security.protocol", "PLAINTEXT").upper()
        user = address.security.get("sasl.username")
        login = f"logged in as {user!r}" if protocol.startswith("SASL") else "without a login"
        is_local = all(server.rpartition(":")[0] in _LOCAL for server in address.servers)
        if protocol.endswith("SSL"):
            self._notes.say_well("security", f"{protocol}: encrypted, {login}")
        elif is_local:
            self._notes.say_well("security", f"{protocol}: on this machine alone, {login}")
        else:
            do = "on a network of others: RECOUNT_KAFKA_SECURITY_… (docs/configuration.md)"
            self._notes.say("security", Word.MIND, f"{protocol}: not encrypted, {login}", do)

    async def _control(self) -> None:
        place, topic = self._place, self._names["control"]
        if topic not in self._notes.seen.topics:
            told = f"there is no deployment {place.name!r}: topic {topic!r} does not exist"
            do = "run `recount init`, or correct RECOUNT_DEPLOYMENT or RECOUNT_KAFKA"
            self._notes.say("control log", Word.WRONG, told, do)
            raise NotReached
        async with ControlLog(place.kafka, topic, place.control_secrets) as log:
            record = identity_of(log.state)
            check_identity(record)
            check_release(record)
        self._notes.seen.record, ignored = record, log.state.ignored
        told = f"read up to offset {log.state.next}, {len(log.state.metrics)} metrics"
        if not ignored:
            self._notes.say_well("control log", told)
            return
        told += f"; {len(ignored)} records are ignored, the last at offset {ignored[-1].offset}"
        self._notes.say("control log", Word.MIND, f"{told}: {ignored[-1].why}")

    async def _kept(self) -> None:
        """How long records of the topics are kept."""
        names, control = [*self._names.values()], self._names["control"]
        policies = await self._admin.config(names, "cleanup.policy")
        kept = (await self._admin.config([control], "retention.ms"))[control]
        lost = [name for name, policy in policies.items() if "compact" in policy]
        if lost:
            told = f"topic {lost[0]!r} is compacted, which removes records"
            self._notes.say("topics", Word.WRONG, told, "set cleanup.policy=delete on it")
        elif kept != _FOREVER:
            told = f"topic {control!r} keeps records for {kept} ms: then definitions are lost"
            self._notes.say("topics", Word.WRONG, told, "set retention.ms=-1 on it")
        else:
            events = self._notes.seen.topics[self._names["events"]]
            told = f"{events.partitions} partitions of events; kept, and stamped, as they must be"
            self._notes.say_well("topics", told)

    # -- what is counted -------------------------------------------------------------------------

    async def _partitions(self, store: RedisStore, log: KafkaLog) -> None:
        notes, record = self._notes, self._notes.seen.deployment
        if not notes.seen.health:
            raise NotReached
        with notes.check("partitions"):
            spans = notes.seen.spans = await log.spans()
        bad = 0
        for number in record.starts:
            try:
                state = check_state(await store.state(number), record, number)
                notes.seen.states[number] = state
                why = _why_not(state, number, spans.get(number, Span(0, 0)))
            except (Damage, Unavailable) as error:
                why = str(error)
            if why is not None:
                bad += 1
                notes.say("partitions", Word.WRONG, why)
        if not bad:
            notes.say_well("partitions", f"{len(record.starts)} are open, and none has halted")
        states = notes.seen.states.items()
        lag = sum(max(spans[at].end - state.next, 0) for at, state in states if at in spans)
        if lag:
            do = "it should fall; where it does not, look at workers, or start more"
            notes.say("lag", Word.MIND, f"{lag:,} records are not applied yet", do)
        else:
            notes.say_well("lag", "every record is applied")

    async def _workers(self) -> None:
        notes, record = self._notes, self._notes.seen.deployment
        topic, group = record.topics["events"][0], group_name(self._place.name)
        try:
            held = await owners(self._admin, group, topic)
        except PipelineError as error:  # a right that is missing, or no coordinator yet
            notes.say("workers", Word.UNKNOWN, str(error))
            return
        if held is None:
            notes.say("workers", Word.MIND, "partitions are just being given out; look again")
            return
        idle = [number for number in record.starts if number not in held]
        if idle:
            which = "any partition" if len(idle) == len(record.starts) else f"partitions {idle}"
            notes.say("workers", Word.WRONG, f"no worker has {which}", "start `recount worker`")
        else:
            notes.say_well("workers", f"{len({*held.values()})} processes have every partition")

    def _clocks(self) -> None:
        notes, now = self._notes, self._clock.now()
        apart = {
            f"Redis at {each.place}": each.time - now
            for each in notes.seen.health
            if each.time is not None
        }
        ahead_ms = [
            state.clock_ms - now.timestamp() * 1_000 for state in notes.seen.states.values()
        ]
        if ahead_ms:
            apart["the last record of Kafka"] = timedelta(milliseconds=max(0.0, *ahead_ms))
        if not apart:
            notes.say("clocks", Word.UNKNOWN, "nothing told its time")
            return
        told = ", ".join(f"{name} {by.total_seconds():+.1f} s" for name, by in apart.items())
        most = max(map(abs, apart.values()))
        if most <= _SKEW_MIND:
            notes.say_well("clocks", f"beside this machine: {told}")
            return
        state = Word.WRONG if most > _SKEW_WRONG else Word.MIND
        do = "keep the clocks of brokers, Redis and workers by NTP"
        notes.say("clocks", state, f"beside this machine: {told}", do)


def _why_not(state: PartitionState, number: int, span: Span) -> str | None:
    """Why a partition is not counted on; None: it is.

    Raises:
        Damage: the log does not hold what comes next.
    """
    check_span(state, number, span.start, span.end)
    if state.halted is not None:
        return state.halted.reason
    return None if state.is_open else f"partition {number} is being rebuilt"
