"""A deployment's keys in Redis, for tests that look at them or break them."""

import json
from collections.abc import Mapping
from typing import Any

import redis
from redis.cluster import ClusterNode

from pipeline.edges.redis import RedisStore
from pipeline.edges.redis_address import RedisAddress, redis_address
from pipeline.edges.redis_keys import Keys, control_key, identity_key

from .services import Recount


def client_of(url: str) -> Any:
    """A plain client of a Redis, or redis-py's own of a cluster."""
    address = redis_address(url)
    if not address.is_cluster:
        return redis.Redis.from_url(url)
    node: Any = ClusterNode
    nodes = [node(*host) for host in address.hosts]
    return redis.RedisCluster(
        startup_nodes=nodes, socket_timeout=1, socket_connect_timeout=1, **_login(address)
    )


def _login(address: RedisAddress) -> dict[str, Any]:
    """What a client needs beside a host."""
    return {"ssl": address.is_tls, **address.options}


def client_at(url: str, key: str) -> Any:
    """A plain client of the Redis that holds a key."""
    client = client_of(url)
    if isinstance(client, redis.Redis):
        return client
    node = client.get_node_from_key(key)
    client.close()
    return redis.Redis(host=node.host, port=node.port, **_login(redis_address(url)))


def tags_of(url: str, deployment: str) -> Mapping[int, str]:
    """The suffixes of the partitions' hash tags, as the copy of the identity says."""
    with client_of(url) as client:
        held = client.get(identity_key(deployment))
    if held is None:
        return {}
    assert isinstance(held, bytes)
    tags = json.loads(held).get("tags", {})
    return {int(number): suffix for number, suffix in tags.items()}


def keys_of(recount: Recount, partition: int = 0) -> Keys:
    """The keys of a partition, of the epoch that readers see."""
    suffix = tags_of(recount.services.redis, recount.deployment).get(partition, "")
    keys = Keys(recount.deployment, partition, 3600, suffix)
    with client_of(recount.services.redis) as client:
        held: bytes = client.hget(keys.state, "store_id") or b""
    epoch = int(held.partition(b".")[2] or 0)
    return Keys(recount.deployment, partition, 3600, suffix, epoch=epoch)


def store_of(url: str, deployment: str, base_bucket_s: int = 3600) -> RedisStore:
    """A store of a deployment that was made by `recount init`."""
    store = RedisStore(url, deployment, base_bucket_s)
    tags = tags_of(url, deployment)
    store.tags = lambda: tags
    return store


def store_id_of(recount: Recount) -> str:
    """The deployment's, as the copy of its identity says."""
    with client_of(recount.services.redis) as client:
        return str(json.loads(client.get(identity_key(recount.deployment)))["store_id"])


def kept(recount: Recount) -> int:
    """Where the copy of the control log ends."""
    with client_of(recount.services.redis) as client:
        last = client.lrange(control_key(recount.deployment), -1, -1)
    return int(last[0].split(b":", 3)[2]) if last else 0
