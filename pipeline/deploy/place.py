"""Where a deployment is; settings are built on it, so it imports next to nothing."""

from dataclasses import dataclass

from ..edges.kafka_client import KafkaAddress


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployment is: Kafka, Redis (a URL), and its name on both.

    control_secrets: what seals the records of its control log (control/seal.py); none: nothing.
    """

    kafka: KafkaAddress
    redis: str
    name: str
    control_secrets: tuple[bytes, ...] = ()
