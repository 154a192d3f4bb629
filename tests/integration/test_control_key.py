"""RECOUNT_CONTROL_KEY: whoever can write to the topic cannot make keys or metrics without it."""

import asyncio
import json
from dataclasses import dataclass

from pipeline.edges.kafka import producer
from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_names import topic_names

from ..services import Recount

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105  a test's


@dataclass(frozen=True)
class Sealed(Recount):
    """The command with a secret."""

    secret: str = SECRET

    @property
    def environment(self) -> dict[str, str]:
        """The usual, and the secret."""
        return {**super().environment, "RECOUNT_CONTROL_KEY": self.secret}


async def _forge(recount: Recount) -> None:
    key = {
        "type": "key",
        "schema_version": 1,
        "key_id": "forged",
        "name": "forged",
        "roles": ["manage"],
        "hashed": "0" * 64,
        "created_at": "2026-01-01T00:00:00Z",
    }
    topic = topic_names(recount.deployment)["control"]
    async with producer(KafkaAddress(recount.services.kafka, {})) as client:
        await client.send_and_wait(topic, json.dumps(key).encode())


def test_a_forged_record_is_worth_nothing(recount: Recount) -> None:
    """With the secret the usual life goes on and a stranger's key is no key; without it, it is."""
    sealed = Sealed(recount.services, recount.deployment)
    sealed.run("init", "--partitions", "1")
    sealed.create({"name": "m", "aggregation_type": "count"})
    sealed.run("keys", "create", "--name", "mine", "--role", "read")

    asyncio.run(_forge(recount))

    assert [key["name"] for key in sealed.run("keys", "list")] == ["mine"]
    assert [key["name"] for key in recount.run("keys", "list")] == ["mine", "forged"]
    assert [line["name"] for line in sealed.run("metrics", "list")] == ["m"]
    sealed.catch_up()
    replaced = Sealed(recount.services, recount.deployment, f"{SECRET[::-1]},{SECRET}")
    replaced.run("keys", "create", "--name", "next", "--role", "read")
    assert [key["name"] for key in replaced.run("keys", "list")] == ["mine", "next"]
    assert [key["name"] for key in sealed.run("keys", "list")] == ["mine"]
    short = Sealed(recount.services, recount.deployment, "short")
    done = short.ended("keys", "list")
    assert done.returncode == 2
    assert b"32 bytes" in done.stderr
    assert SECRET.encode() not in sealed.ended("settings").stdout
