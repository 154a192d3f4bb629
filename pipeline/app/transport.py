"""Faust's transport, with a batch lane: one message for each partition and fetch.

Why. Faust hands over one message for each event, and that costs more than everything that is done
with the event: 10 to 16 thousand events/s on a core. Here a message is a whole fetch of one
partition; its value is the list of records. The owner of the partition (app/owner.py) takes it
from there (docs/design.md 8).

How a fetch travels. aiokafka's fetcher receives the bytes and splits them by partition. Classes of
edges/kafka_batches.py and edges/kafka_raw.py replace its own, so that the records of a batch stay
where they lie, for native/, or are made in C, in one list. LaneConsumer.getmany() yields one
message for each partition. Faust puts it into the agent's stream, the agent gives it to the lane,
the lane to the owner's desk. Two batches wait at a desk while one is taken; then nothing is
fetched of this partition, and the agent, who has the batches of all, never waits for one.

Where it starts. Faust asks for committed offsets after every rebalance. seek_to_committed()
answers with Redis' offsets instead: the lane opens every assigned partition, and the consumer
seeks to each `next`. Kafka's committed offsets are never read.

What is stale. A fetch that was made before a rebalance carries the older generation and is
dropped. A fetch that was made before a seek back is dropped by its offset: the owner expects
`next`, skips what lies below, and asks the log about what lies above.

Rule 1: the start offset is set in seek_to_committed(), from Redis; a seek made in a signal is
overwritten by Faust.
Rule 2: no acks, no take(), no pause_partitions(): docs/faults.md, "Faust rules".
Every override and private member, with the test that fails when it changes: docs/faults.md, "What
Recount replaces in Faust and aiokafka".
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faust.tables import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from ..core.raw import Delivered
from ..edges.kafka_batches import BoundedResult, WholeRecords
from ..edges.kafka_client import guard
from ..edges.kafka_raw import RawBatches
from ..errors import Damage, Halt
from .crash import CrashOnly, die, guarded
from .desk import BadBatch
from .lane import Lane

FETCH_BYTES = 12 * 1_048_576
POLL_RECORDS_MAX = 50_000
# Faust leaves a partition out of fetches while its buffer is full. Where all are, it looks again
# after a second: at 20,000 events/s that cost a second several times a minute (measured).
_LOOK_AGAIN_S = 0.02
_WAIT_S_MAX = 0.1  # for records of the other partitions


class LaneResult(BoundedResult):
    """What a reader gets, but that an error of ours ends the process.

    A batch that cannot be read is told in its place: it halts its partition, and no other one.
    """

    def getall(self, max_records: int | None = None) -> Delivered:
        """Return up to max_records, or the one that stands for what cannot be read."""
        try:
            return super().getall(max_records)
        except Damage as error:
            source: WholeRecords | None = self._partition_records
            assert source is not None  # what raises is read from it
            return [BadBatch(source.next_fetch_offset, error)]

    def _next_part(self, source: WholeRecords) -> Delivered | None:
        with CrashOnly():
            try:
                return super()._next_part(source)
            except Damage as error:
                why = error
        raise why


# This module is imported by worker processes only.
fetcher.FetchResult = LaneResult
fetcher.PartitionRecords = RawBatches


class LaneThread(driver.AIOKafkaConsumerThread):
    """Makes the aiokafka consumer: committed records only, with our addresses and log-in."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:  # noqa: ARG002  Faust's signature
        conf = self.app.conf
        RawBatches.topics.add(self.app.lane.events)
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            **self.app.kafka,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=POLL_RECORDS_MAX,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=250,
            check_crcs=True,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            isolation_level="read_committed",
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )

    def generation(self) -> int:
        """The generation of our membership in the group; -1 without one."""
        return int(self._ensure_consumer()._coordinator.generation)  # noqa: SLF001  no public way

    def positions(self) -> dict[int, int]:
        """Where the consumer stands in every assigned partition that has a position."""
        consumer = self._ensure_consumer()
        subscription = consumer._subscription.subscription  # noqa: SLF001  no public way is synchronous
        if subscription is None or subscription.assignment is None:
            return {}
        assignment = subscription.assignment
        stands = {}
        for point in assignment.tps:
            state = assignment.state_value(point)
            if state is not None and state.has_valid_position:
                stands[point.partition] = state.position
        return stands


class _NothingRead(dict[TP, int | None]):
    """Faust's memory of what it handed over last, and so of what it may drop: nothing.

    While a batch waits for room in a stream a seek goes back, and then Faust notes that batch as
    read: it would drop what is fetched again, and the partition would stand still. The owner
    knows by itself which records it has applied.
    """

    def __getitem__(self, _: TP) -> None:
        return None


class LaneConsumer(driver.Consumer):
    """Hands over whole fetches, and starts where Redis says."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._read_offset = _NothingRead()

    @property
    def lane(self) -> Lane:
        lane: Lane = self.app.lane
        return lane

    def _new_consumer_thread(self) -> LaneThread:
        return LaneThread(self, loop=self.loop, beacon=self.beacon)

    def positions(self) -> Mapping[int, int]:
        """Where the consumer stands, by partition."""
        thread: LaneThread = self._thread
        return thread.positions()

    def generation(self) -> int:
        """The generation of our membership in the group; -1 without one."""
        thread: LaneThread = self._thread
        return thread.generation()

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109  Faust's signature
    ) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message for each partition of a fetch; its value is the records."""
        while self.flow_active and not self.should_stop and not self._get_active_partitions():
            await self.sleep(_LOOK_AGAIN_S)
        try:
            async with guard(",".join(self.app.kafka["bootstrap_servers"])):
                fetched, active = await self._wait_next_records(min(timeout, _WAIT_S_MAX))
        except Halt as error:  # a right was taken away; Faust would log it and stand still
            die(error)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        for tp, records in fetched.items():
            # A rebalance since: what was fetched is stale, seek_to_committed() starts afresh.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if records and (active is None or tp in active):
                if isinstance(records[0], BadBatch):
                    self.lane.close(tp.partition)
                self.lane.queued(tp.partition)
                yield tp, self._batch(tp, records)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  Faust's signature
        """Fetch of those partitions only that are not closed."""
        closed = self.lane.closed
        if not closed or active_partitions is None:
            return await super()._getmany(active_partitions, timeout)
        active = {tp for tp in active_partitions if tp.partition not in closed}
        if not active:  # aiokafka takes none for all
            await self.sleep(_LOOK_AGAIN_S)
            return {}
        return await super()._getmany(active, timeout)

    def _batch(self, tp: TP, records: Delivered) -> ConsumerMessage:
        first = records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            first.timestamp / 1000,
            first.timestamp_type,
            (),
            None,
            records,
            None,
            None,
            None,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Open every assigned partition and fetch from where Redis stands."""
        assigned = {tp.partition: tp for tp in self.assignment()}
        starts = await guarded(self.lane.open(sorted(assigned)))
        offsets = {assigned[number]: offset for number, offset in starts.items()}
        if offsets:
            await self.seek_wait(offsets)
        return offsets


class LaneProducer(driver.Producer):
    """Faust's producer, with our addresses and log-in. Nothing is sent with it."""

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        return aiokafka.AIOKafkaProducer(
            **self.app.kafka,
            client_id=self.app.conf.broker_client_id,
            transactional_id=transactional_id,
        )


class LaneTransport(driver.Transport):
    """Kafka through the lane. Topics would be made over the connections of these two."""

    Consumer: ClassVar[type[LaneConsumer]] = LaneConsumer
    Producer: ClassVar[type[LaneProducer]] = LaneProducer


class NoTables(TableManager):
    """There are no tables: do not wait a second for them."""

    async def sleep(self, n: Any, **kwargs: Any) -> None:
        """Do not sleep."""
