"""Where the partitions stand, straight from Redis and Kafka."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.edges.redis_keys import Keys

from ..services import Recount
from ..stored import client_of, tags_of
from ..waiting import eventually

RECOVERY_S_MAX = 30.0


class Watch:
    """Reads `next` and the ends of the log of one deployment."""

    def __init__(self, recount: Recount, partitions: int) -> None:
        self.partitions = partitions
        self._redis = client_of(recount.services.redis)
        self._recount = recount
        self._tags: Mapping[int, str] = {}  # known once `init` has made the deployment
        self._topic = f"{recount.deployment}.usage.events"
        self._consumer = Consumer(
            {
                **recount.services.address.rdkafka(),
                "group.id": "watch",
                "isolation.level": "read_committed",
            }
        )

    def nexts(self, numbers: Iterable[int] | None = None) -> list[int]:
        """Redis' offsets, of these partitions or of all.

        -1: a partition is being rebuilt or lost, or its part of a cluster is away.
        """
        if len(self._tags) < self.partitions:
            self._tags = tags_of(self._recount.services.redis, self._recount.deployment)
        found = []
        for number in range(self.partitions) if numbers is None else numbers:
            suffix = self._tags.get(number, "")
            key = Keys(self._recount.deployment, number, 3600, suffix).state
            found.append(int(self._held(key) or -1))
        return found

    def _held(self, key: str) -> Any:
        try:
            return self._redis.hget(key, "next")
        except redis.RedisError:
            if isinstance(self._redis, redis.RedisCluster):
                return None
            raise

    def ends(self) -> list[int]:
        """The committed ends of the log."""
        return [self._end(number) for number in range(self.partitions)]

    def _end(self, number: int) -> int:
        point = TopicPartition(self._topic, number)

        def asked() -> Any:
            try:
                return self._consumer.get_watermark_offsets(point, timeout=10)
            except KafkaException:
                # A new partition, or a broker that has just come back.
                self._consumer.list_topics(self._topic, timeout=10)
                return None

        found = eventually(asked, within_s=30, because=f"partition {number} has an end")
        return int(found[1])

    def at_the_end(self) -> bool:
        """Whether nothing is left to apply."""
        return all(at >= end for at, end in zip(self.nexts(), self.ends(), strict=True))

    def passed(self, numbers: Sequence[int], within_s: float = RECOVERY_S_MAX) -> None:
        """Wait until these partitions have passed what is on the log by now."""
        ends = [self._end(number) for number in numbers]
        eventually(
            lambda: all(at >= end for at, end in zip(self.nexts(numbers), ends, strict=True)),
            within_s=within_s,
            because=f"partitions {numbers} reach {ends}",
        )

    def moved(self, within_s: float = RECOVERY_S_MAX, *, live: bool = False) -> float:
        """Wait until every partition passed where it stands, or the end; return the seconds.

        live: traffic goes on, so wait for what comes from now on: until the end is passed.
        """
        began = time.monotonic()
        stood, ends = self.nexts(), self.ends()

        def moves() -> bool:
            passed = zip(self.nexts(), stood, ends, strict=True)
            if live:
                return all(at > end for at, _, end in passed)
            return all(at > before or at >= end for at, before, end in passed)

        eventually(moves, within_s=within_s, because=f"the stream moves again from {stood}")
        return time.monotonic() - began

    def close(self) -> None:
        """Give the connections back."""
        self._consumer.close()
        self._redis.close()
