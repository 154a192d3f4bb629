"""Whether a service answers: a metadata request and a PING, not an open port."""

from typing import Any, Final

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ..edges.kafka_client import KafkaAddress
from ..edges.redis_address import redis_address

_TIMEOUT_S: Final = 2.0


def kafka_answers(kafka: str | KafkaAddress) -> bool:
    """Whether a broker answers a metadata request; a bootstrap list alone is one without login."""
    return brokers_of(kafka) > 0


def brokers_of(kafka: str | KafkaAddress) -> int:
    """Return how many brokers the cluster has now, as the first that answers says; else 0."""
    address = KafkaAddress(kafka, {}) if isinstance(kafka, str) else kafka
    client = AdminClient(address.rdkafka())
    try:
        return len(client.list_topics(timeout=_TIMEOUT_S).brokers)
    except KafkaException:
        return 0


def redis_answers(url: str) -> bool:
    """Whether a Redis answers a PING; of several, any."""
    address = redis_address(url)
    places: list[dict[str, Any]] = [{"unix_socket_path": address.path}]
    if not address.path:
        places = [{"host": at, "port": port, "ssl": address.is_tls} for at, port in address.hosts]
    return any(_answers({**place, **address.options}) for place in places)


def _answers(options: dict[str, Any]) -> bool:
    client = redis.Redis(
        **{"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, **options}
    )
    try:
        return bool(client.ping())
    except redis.exceptions.NoPermissionError:
        return True  # it knows this user, whose rights do not include PING
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()
