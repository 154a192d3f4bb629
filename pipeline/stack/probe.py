"""Whether a service answers: a metadata request and a PING, not an open port."""

from typing import Final

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ..edges.kafka_client import KafkaAddress

_TIMEOUT_S: Final = 2.0


def kafka_answers(kafka: str | KafkaAddress) -> bool:
    """Whether a broker answers a metadata request; a bootstrap list alone is one without login."""
    address = KafkaAddress(kafka, {}) if isinstance(kafka, str) else kafka
    client = AdminClient(address.rdkafka())
    try:
        return bool(client.list_topics(timeout=_TIMEOUT_S).brokers)
    except KafkaException:
        return False


def redis_answers(url: str) -> bool:
    """Whether a Redis answers a PING."""
    client = redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
    )
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()
