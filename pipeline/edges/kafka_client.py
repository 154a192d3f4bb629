"""The connection to Kafka: addresses, topics, and both clients' errors as ours.

Settings are librdkafka's names, for both clients.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiokafka import errors as kerr
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from ..errors import Halt, LogUnavailable, UsageError
from .kafka_security import aiokafka_login

T = TypeVar("T")
_ADMIN_TIMEOUT_S: Final = 15.0
_REQUEST_TIMEOUT_MS: Final = 15_000
_SETTLE_S: Final = 0.1
_SETTLE_TRIES_MAX: Final = 150


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Where Kafka is, and how to log in: librdkafka's names without the prefix `kafka.`."""

    bootstrap: str
    security: Mapping[str, str]

    @property
    def servers(self) -> list[str]:
        """The bootstrap servers, one `host:port` each."""
        return [server.strip() for server in self.bootstrap.split(",") if server.strip()]

    def rdkafka(self) -> dict[str, Any]:
        """Settings of confluent-kafka."""
        return {"bootstrap.servers": self.bootstrap, "log_level": 0, **self.security}

    def aiokafka(self) -> dict[str, Any]:
        """Settings of aiokafka's clients."""
        return {
            "bootstrap_servers": self.bootstrap,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            **aiokafka_login(self.security),
        }


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker describes it now."""

    id: str
    partitions: int


class RecordRefused(UsageError):
    """The broker refuses a record for what it is: sending it again would only repeat."""


# What a broker says of a record, not of itself.
_REFUSALS: Final = (
    kerr.MessageSizeTooLargeError,
    kerr.RecordListTooLargeError,
    kerr.InvalidTimestampError,
)


@asynccontextmanager
async def guard() -> AsyncIterator[None]:
    """Translate both clients' errors into ours."""
    try:
        yield
    except _REFUSALS as error:
        raise RecordRefused(
            f"the broker refuses a record: {error}; make it smaller, or raise max.message.bytes "
            "of the topic"
        ) from error
    except kerr.CorruptRecordException as error:
        raise Halt(f"a record batch is corrupt: {error}; restore the partition") from error
    except kerr.OffsetOutOfRangeError as error:
        raise Halt(f"the log no longer holds an offset: {error}; run `recount rebuild`") from error
    except (kerr.KafkaError, KafkaException, OSError) as error:
        raise LogUnavailable(f"Kafka does not answer as it should: {error!r}") from error


class KafkaAdmin:
    """Topics: made, described, grown. Calls block, so they run in a thread."""

    def __init__(self, address: KafkaAddress) -> None:
        self._address = address
        self._client: AdminClient | None = None

    async def _call(self, work: Callable[[AdminClient], T]) -> T:
        if self._client is None:
            self._client = AdminClient(self._address.rdkafka())
        async with guard():
            return await asyncio.to_thread(work, self._client)

    async def names(self) -> set[str]:
        """Return the names of all topics that the user may see."""

        def work(client: AdminClient) -> set[str]:
            return set(client.list_topics(timeout=_ADMIN_TIMEOUT_S).topics)

        return await self._call(work)

    async def describe(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        """Return the topics among names that exist."""

        def work(client: AdminClient) -> dict[str, TopicInfo]:
            known = client.list_topics(timeout=_ADMIN_TIMEOUT_S).topics
            present = [name for name in names if name in known]
            if not present:
                return {}
            found = client.describe_topics(
                TopicCollection(present), request_timeout=_ADMIN_TIMEOUT_S
            )
            described = {name: future.result() for name, future in found.items()}
            return {
                name: TopicInfo(str(topic.topic_id), len(topic.partitions))
                for name, topic in described.items()
            }

        return await self._call(work)

    async def create(
        self, name: str, *, partitions: int, replication: int, config: Mapping[str, str]
    ) -> None:
        """Make a topic. One that exists already stays as it is."""

        def work(client: AdminClient) -> None:
            topic = NewTopic(name, partitions, replication, config=dict(config))
            future = client.create_topics([topic], request_timeout=_ADMIN_TIMEOUT_S)[name]
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise

        await self._call(work)
        await self._settled(name, 1)

    async def _settled(self, name: str, partitions: int) -> None:
        """Wait until the broker's metadata shows what it has promised."""
        for _ in range(_SETTLE_TRIES_MAX):
            found = (await self.describe([name])).get(name)
            if found is not None and found.partitions >= partitions:
                return
            await asyncio.sleep(_SETTLE_S)
        raise LogUnavailable(f"the broker does not show topic {name!r} yet; try again")

    async def grow(self, name: str, partitions: int) -> None:
        """Add partitions to a topic."""

        def work(client: AdminClient) -> None:
            new = [NewPartitions(name, partitions)]
            client.create_partitions(new, request_timeout=_ADMIN_TIMEOUT_S)[name].result()

        await self._call(work)
        await self._settled(name, partitions)

    async def config(self, name: str, setting: str) -> str:
        """Return one setting of a topic."""

        def work(client: AdminClient) -> str:
            resource = ConfigResource(ConfigResource.Type.TOPIC, name)
            future = client.describe_configs([resource], request_timeout=_ADMIN_TIMEOUT_S)
            return str(future[resource].result()[setting].value)

        return await self._call(work)
