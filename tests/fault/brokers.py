"""Three brokers of one test: each can be killed, frozen and started again by itself."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.stack.probe import brokers_of
from pipeline.stack.processes import Quorum, free_port, new_cluster

from ..secure import PASSWORD, USER, certify, make_user
from ..waiting import eventually
from .own import OwnKafka
from .proxy import Proxy

COUNT = 3
_QUORUM_STATE = "kafka/__cluster_metadata-0/quorum-state"


class Proxies:
    """What can be done to the proxies of all brokers at once; see Proxy."""

    def __init__(self, proxies: Sequence[Proxy]) -> None:
        self._proxies = proxies

    def refuse(self) -> None:
        """Take no new connection, and reset those there are."""
        for each in self._proxies:
            each.refuse()

    def release(self) -> None:
        """Let everything through again."""
        for each in self._proxies:
            each.release()

    def reset(self) -> None:
        """Reset every connection."""
        for each in self._proxies:
            each.reset()

    @contextmanager
    def delaying(self, seconds: float) -> Iterator[None]:
        """Delay every piece of traffic, both ways."""
        with ExitStack() as stack:
            for each in self._proxies:
                stack.enter_context(each.delaying(seconds))
            yield


@dataclass
class OwnBrokers:
    """A cluster of three. login: how its clients connect, in librdkafka's names."""

    nodes: list[OwnKafka]
    login: dict[str, str]

    @property
    def address(self) -> str:
        """Where they answer."""
        return ",".join(node.address for node in self.nodes)

    @property
    def proxied(self) -> str:
        """Where they answer behind the proxies."""
        return ",".join(node.proxied for node in self.nodes)

    @property
    def proxy(self) -> Proxies:
        """All proxies."""
        return Proxies([node.proxy for node in self.nodes])

    @cached_property
    def admin(self) -> AdminClient:
        """A client that may do all, and asks whoever answers."""
        plain = ",".join(node.plain for node in self.nodes)
        return AdminClient({"bootstrap.servers": plain, "log_level": 0})

    def start(self) -> None:
        """Thaw or start those that do not run, and wait until each is a member again."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.resume()
        begun = [
            (node, node.begin())
            for node in self.nodes
            if node.process is None or node.process.poll() is not None
        ]
        for node, command in begun:
            node.wait(command)
        self.whole()

    def whole(self) -> None:
        """Wait until there are three brokers, and no partition lacks a copy."""
        plain = ",".join(node.plain for node in self.nodes)
        eventually(
            lambda: brokers_of(plain) == COUNT, within_s=60, because="all brokers are members"
        )
        eventually(lambda: not self.behind(), within_s=120, because="every copy is in sync again")

    def behind(self) -> list[str]:
        """The partitions that lack a copy in sync; a word where nobody answers."""
        try:
            topics = self.admin.list_topics(timeout=10).topics
        except KafkaException as error:
            return [str(error)]
        return [
            f"{name}/{number}"
            for name, topic in topics.items()
            for number, partition in topic.partitions.items()
            if len(partition.isrs) < len(partition.replicas)
        ]

    def leader(self, topic: str, partition: int = 0) -> OwnKafka:
        """The broker that leads a partition."""
        found = self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition]
        return self.nodes[int(found.leader) - 1]

    def controller(self) -> OwnKafka:
        """The broker that leads the quorum of controllers, as the latest vote was written down."""
        told = [json.loads((node.folder / _QUORUM_STATE).read_text()) for node in self.nodes]
        latest = max(told, key=lambda each: int(each["leaderEpoch"]))
        return self.nodes[int(latest["leaderId"]) - 1]

    def others(self, node: OwnKafka) -> list[OwnKafka]:
        """The two beside one."""
        return [each for each in self.nodes if each is not node]


@contextmanager
def own_brokers(folder: Path, *, secure: bool = False) -> Iterator[OwnBrokers]:
    """Three brokers that end with the block. secure: clients log in by SCRAM over TLS."""
    cluster, controllers = new_cluster(), tuple(free_port() for _ in range(COUNT))
    login: dict[str, str] = {}
    if secure:
        certify(folder)
        login = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
            "ssl.ca.location": str(folder / "ca.pem"),
        }
    nodes = []
    for number, controller in enumerate(controllers, 1):
        (folder / f"broker-{number}").mkdir()
        quorum = Quorum(cluster, number, controllers)
        nodes.append(
            OwnKafka(
                folder / f"broker-{number}",
                controller=controller,
                quorum=quorum,
                certificates=folder if secure else None,
            )
        )
    made = OwnBrokers(nodes, login)
    try:
        made.start()
        if secure:
            make_user(made.admin)
        yield made
    finally:
        for node in nodes:
            if node.process is not None:
                node.kill()
            node.proxy.close()
