"""The connection to Kafka: addresses, topics, and both clients' errors as ours.

Settings are librdkafka's names, for both clients.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from aiokafka import errors as kerr
from aiokafka.protocol.metadata import MetadataRequest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from ..errors import Damage, Halt, LogUnavailable, UsageError
from .kafka_causes import ANSWER_S_MAX, connected, places, reached
from .kafka_security import aiokafka_login

T = TypeVar("T")
_ADMIN_TIMEOUT_S: Final = 15.0
_CHANGE_TIMEOUT_S: Final = 5.0
_CHANGE_TRIES_MAX: Final = 5  # longer than Kafka takes to give up a broker that was lost
_REQUEST_TIMEOUT_MS: Final = 15_000
_SETTLE_S: Final = 0.1
_SETTLE_TRIES_MAX: Final = 150
_SETTLE_ASK_S_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Where Kafka is, and how to log in: librdkafka's names without the prefix `kafka.`."""

    bootstrap: str
    security: Mapping[str, str]

    @property
    def servers(self) -> list[str]:
        """The bootstrap servers, one `host:port` each."""
        return [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for host, port in places(self.bootstrap)
        ]

    def rdkafka(self) -> dict[str, Any]:
        """Settings of confluent-kafka."""
        return {"bootstrap.servers": ",".join(self.servers), "log_level": 0, **self.security}

    def aiokafka(self) -> dict[str, Any]:
        """Settings of aiokafka's clients."""
        return {
            "bootstrap_servers": self.servers,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            **aiokafka_login(self.security),
        }

    @property
    def first(self) -> "KafkaAddress":
        """The first server alone: aiokafka shuffles a list, and may begin with a silent one."""
        return replace(self, bootstrap=self.servers[0])

    async def nearest(self) -> "KafkaAddress":
        """Return the same servers, one that answers now before the others.

        aiokafka tries them in turn, and waits long for one that is silent: see first.

        Raises:
            Halt, LogUnavailable: none lets us in.
        """
        if len(self.servers) == 1:
            return self
        first = await reached(self.bootstrap, self.security)
        others = [each for each in self.servers if each != first]
        return replace(self, bootstrap=",".join([first, *others]))

    @property
    def user(self) -> str:
        """Who we are to Kafka, as an operator would say it."""
        if "sasl.username" in self.security:
            return f"user {self.security['sasl.username']!r}"
        if "ssl.certificate.location" in self.security:
            return "the user of our certificate"
        return "clients without a login"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker describes it now.

    copies: of the partition that has the fewest. allowed: what our user may do with it, as ACLs
    spell it; empty where the broker does not say.
    """

    id: str
    partitions: int
    copies: int
    allowed: frozenset[str] = frozenset()


class RecordRefused(UsageError):
    """The broker refuses a record for what it is: sending it again would only repeat."""


# What a broker says of a record, not of itself.
_REFUSALS: Final = (
    kerr.MessageSizeTooLargeError,
    kerr.RecordListTooLargeError,
    kerr.InvalidTimestampError,
)


# What Kafka's authorizer forbids: in aiokafka's words, and in librdkafka's.
_DENIALS: Final = (
    kerr.TopicAuthorizationFailedError,
    kerr.GroupAuthorizationFailedError,
    kerr.ClusterAuthorizationFailedError,
    kerr.TransactionalIdAuthorizationFailed,
)
_DENIAL_CODES: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_GIVE: Final = "give it the rights that docs/operations.md lists (Rights on Kafka)"


@asynccontextmanager
async def guard(place: str, topic: str = "") -> AsyncIterator[None]:
    """Translate both clients' errors into ours.

    place: the bootstrap servers. topic: what was read or written, where it is one; both are named.
    """
    at = f"Kafka at {place}"
    about = f" (topic {topic!r})" if topic else ""
    try:
        yield
    except _REFUSALS as error:
        raise RecordRefused(
            f"{at} refuses a record{about}: {error}; make it smaller, or raise max.message.bytes "
            "of the topic"
        ) from error
    except kerr.CorruptRecordException as error:
        raise Damage(
            f"{at}: a record batch is corrupt{about}: {error}; restore the partition"
        ) from error
    except kerr.OffsetOutOfRangeError as error:
        raise Damage(
            f"{at}: the log no longer holds an offset{about}: {error}; run `recount rebuild`"
        ) from error
    except _DENIALS as error:
        raise Halt(
            f"{at} does not allow our user what it needs{about}: {error}; {_GIVE}"
        ) from error
    except KafkaException as error:
        told = error.args[0]
        if told.code() in _DENIAL_CODES:
            raise Halt(
                f"{at} does not allow our user what it needs{about}: {told.str()}; {_GIVE}"
            ) from error
        raise LogUnavailable(
            f"{at} does not answer as it should{about}: {told.str()} ({told.name()}); try again"
        ) from error
    except (kerr.KafkaError, OSError) as error:
        raise LogUnavailable(
            f"{at} does not answer as it should{about}: {type(error).__name__} {error}; try again"
        ) from error


def _brokers(client: AdminClient) -> list[tuple[str, int]]:
    found = client.list_topics(timeout=_ADMIN_TIMEOUT_S).brokers.values()
    return [(broker.host, broker.port) for broker in found]


async def _partitions_at(host: str, port: int, login: Mapping[str, Any], topic: str) -> int | None:
    """Return how many partitions of a topic a broker shows; None: it does not answer."""
    try:
        async with asyncio.timeout(_SETTLE_ASK_S_MAX), connected(host, port, login) as connection:
            answer = await connection.send(
                MetadataRequest([topic], allow_auto_topic_creation=False)
            )
    except (kerr.KafkaError, OSError, TimeoutError, EOFError):
        return None
    (found,) = answer.topics
    return len(found[-1])


class KafkaAdmin:
    """Topics: made, described, grown. Calls block, so they run in a thread."""

    def __init__(self, address: KafkaAddress, within_s: float = ANSWER_S_MAX) -> None:
        self.address = address
        self._within_s = within_s  # how long all servers have for a first answer
        self._client: AdminClient | None = None

    async def call(self, work: Callable[[AdminClient], T]) -> T:
        if self._client is None:
            # librdkafka keeps silent about causes, and waits for the longest of its limits.
            await reached(self.address.bootstrap, self.address.security, self._within_s)
            async with guard(self.address.bootstrap):
                self._client = AdminClient(self.address.rdkafka())
        try:
            async with guard(self.address.bootstrap):
                return await asyncio.to_thread(work, self._client)
        except LogUnavailable:
            self._client = None  # the next call begins by looking for the cause
            raise

    async def _change(self, work: Callable[[AdminClient], T]) -> T:
        """Call what only the controller does, again by a new client where it does not answer.

        Some seconds after a broker was lost, others still name it as the controller, and a client
        that was told so waits for it in vain.
        """
        for _ in range(_CHANGE_TRIES_MAX - 1):
            with suppress(LogUnavailable):
                return await self.call(work)
        return await self.call(work)

    async def names(self) -> set[str]:
        """Return the names of all topics that the user may see."""

        def work(client: AdminClient) -> set[str]:
            return set(client.list_topics(timeout=_ADMIN_TIMEOUT_S).topics)

        return await self.call(work)

    async def describe(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        """Return the topics among names that exist.

        Raises:
            Halt: our user may not see one of them; Kafka does not say then whether it exists.
        """

        def work(client: AdminClient) -> dict[str, TopicInfo]:
            return self._described(client, names)

        return await self.call(work)

    def _described(self, client: AdminClient, names: Sequence[str]) -> dict[str, TopicInfo]:
        if not names:
            return {}
        found = client.describe_topics(
            TopicCollection(list(names)),
            include_authorized_operations=True,
            request_timeout=_ADMIN_TIMEOUT_S,
        )
        described = {}
        for name, future in found.items():
            try:
                topic = future.result()
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise Halt(self.denied("DESCRIBE", f"topic {name!r}")) from error
                if code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
            else:
                described[name] = TopicInfo(
                    str(topic.topic_id),
                    len(topic.partitions),
                    min(len(partition.replicas) for partition in topic.partitions),
                    _names(topic.authorized_operations),
                )
        return described

    def denied(self, right: str, thing: str) -> str:
        """Return what is said where our user lacks a right."""
        return (
            f"Kafka at {self.address.bootstrap} does not allow {self.address.user} to {right} "
            f"{thing}; {_GIVE}"
        )

    def check_right(self, right: str, thing: str, allowed: frozenset[str]) -> None:
        """Halt where a right is not among those that a broker has told; none is: it told none."""
        if allowed and right not in allowed:
            raise Halt(self.denied(right, thing))

    async def create(
        self, name: str, *, partitions: int, replication: int, config: Mapping[str, str]
    ) -> None:
        """Make a topic. One that exists already stays as it is."""

        def work(client: AdminClient) -> None:
            topic = NewTopic(name, partitions, replication, config=dict(config))
            future = client.create_topics([topic], request_timeout=_CHANGE_TIMEOUT_S)[name]
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise

        await self._change(work)
        await self._settled(name, 1)

    async def _settled(self, name: str, partitions: int) -> None:
        """Wait until every broker that answers shows what the controller has promised.

        Whoever asks next may ask any of them: one that is behind would say there is no such topic.
        """
        login = aiokafka_login(self.address.security)
        for _ in range(_SETTLE_TRIES_MAX):
            brokers = await self.call(_brokers)
            shown = await asyncio.gather(*(_partitions_at(*each, login, name) for each in brokers))
            known = [each for each in shown if each is not None]
            if known and min(known) >= partitions:
                return
            await asyncio.sleep(_SETTLE_S)
        raise LogUnavailable(f"not every broker shows topic {name!r} yet; try again")

    async def grow(self, name: str, partitions: int) -> None:
        """Add partitions to a topic."""

        def work(client: AdminClient) -> None:
            new = [NewPartitions(name, partitions)]
            client.create_partitions(new, request_timeout=_CHANGE_TIMEOUT_S)[name].result()

        await self._change(work)
        await self._settled(name, partitions)

    async def config(self, names: Sequence[str], setting: str) -> dict[str, str]:
        """Return one setting of each of these topics.

        Raises:
            Halt: our user may not see it.
        """

        def work(client: AdminClient) -> dict[str, str]:
            asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
            found = {}
            for resource, future in client.describe_configs(
                asked, request_timeout=_ADMIN_TIMEOUT_S
            ).items():
                try:
                    found[resource.name] = str(future.result()[setting].value)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        topic = f"topic {resource.name!r}"
                        raise Halt(self.denied("DESCRIBE_CONFIGS", topic)) from error
                    raise
            return found

        return await self.call(work)


def _names(operations: Sequence[Any] | None) -> frozenset[str]:
    return frozenset(operation.name for operation in operations or ())
