"""A deployment's keys in Redis, for tests that look at them or break them."""

import json
from collections.abc import Mapping

import redis

from pipeline.edges.redis import RedisStore
from pipeline.edges.redis_keys import Keys, identity_key

from .services import Recount


def tags_of(url: str, deployment: str) -> Mapping[int, str]:
    """The suffixes of the partitions' hash tags, as the copy of the identity says."""
    with redis.Redis.from_url(url) as client:
        held = client.get(identity_key(deployment))
    if held is None:
        return {}
    assert isinstance(held, bytes)
    tags = json.loads(held).get("tags", {})
    return {int(number): suffix for number, suffix in tags.items()}


def keys_of(recount: Recount, partition: int = 0) -> Keys:
    """The keys of a partition."""
    tags = tags_of(recount.services.redis, recount.deployment)
    return Keys(recount.deployment, partition, 3600, tags.get(partition, ""))


def store_of(url: str, deployment: str, base_bucket_s: int = 3600) -> RedisStore:
    """A store of a deployment that was made by `recount init`."""
    store = RedisStore(url, deployment, base_bucket_s)
    tags = tags_of(url, deployment)
    store.tags = lambda: tags
    return store
