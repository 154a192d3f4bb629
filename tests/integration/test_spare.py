"""The copy of the control log is read while Kafka is still waited for, and disturbs nobody."""

import asyncio

import pytest

from pipeline.deploy.checks import first_state, identity_of
from pipeline.deploy.place import Place
from pipeline.deploy.spare import Spare
from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_names import topic_names
from pipeline.edges.redis_keys import control_key
from pipeline.errors import LogUnavailable, StoreUnavailable

from ..services import Services, fresh
from ..stored import client_of, store_of
from ..world import copied_log

METRICS = 200


async def keep(redis: str, name: str) -> None:
    """Write a deployment and its copy of the control log, as `init` and a worker would."""
    state, elements = copied_log(METRICS)
    identity, store = identity_of(state), store_of(redis, name)
    for number, start in identity.starts.items():
        await store.register(number, first_state(identity, start))
    await store.write_identity(identity.text)
    at = 0
    for element in elements:
        at = await store.keep_control(identity.deployment.store_id, at, element)
    assert at == METRICS + 1
    await store.close()


async def test_what_it_holds_matters_to_whom_kafka_does_not_answer(stack: Services) -> None:
    """It is there before anybody asks; what is wrong with it is told to nobody else."""
    name = fresh("spare")
    place = Place(KafkaAddress(stack.kafka, {}), stack.redis, name)
    store, topic = store_of(stack.redis, name), topic_names(name)["control"]
    nothing = LogUnavailable("Kafka is away")
    async with Spare(place, topic, store) as spare:
        with pytest.raises(LogUnavailable, match=r"^Kafka is away$"):
            await spare.instead(nothing)  # there is no deployment
    await keep(stack.redis, name)
    async with Spare(place, topic, store) as spare:
        await asyncio.wait({spare._task}, timeout=20)
        assert spare._task.done(), "it waited to be asked"
        assert len((await spare.instead(nothing)).metrics) == METRICS
    async with Spare(place, topic, store):
        pass  # Kafka has answered before it began
    with client_of(stack.redis) as client:
        client.lpop(control_key(name))
    async with Spare(place, topic, store) as spare:
        await asyncio.wait({spare._task}, timeout=20)
        assert isinstance(spare._task.exception(), StoreUnavailable)  # and nobody hears of it
    async with Spare(place, topic, store) as spare:
        with pytest.raises(StoreUnavailable, match="not whole"):
            await spare.instead(nothing)
    with client_of(stack.redis) as client:
        client.delete(control_key(name))
    async with Spare(place, topic, store) as spare:
        with pytest.raises(LogUnavailable, match=r"^Kafka is away; and Redis holds no copy"):
            await spare.instead(nothing)
    await store.close()
