"""Who reads the partitions of a topic now, as the consumer group says."""

from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from .kafka_client import RIGHTS_TIMEOUT_S, KafkaAdmin


async def owners(admin: KafkaAdmin, group: str, topic: str) -> dict[int, str] | None:
    """Return who of a group reads each partition of a topic: its host, and the end of its id.

    A partition that nobody reads is not in it. None: they are just being given out.

    Raises:
        Halt: our user may not describe the group.
    """

    def work(client: AdminClient) -> dict[int, str] | None:
        asked = client.describe_consumer_groups([group], request_timeout=RIGHTS_TIMEOUT_S)
        found = asked[group].result()
        if found.members and found.state != ConsumerGroupState.STABLE:
            return None
        return {
            part.partition: f"{member.host.lstrip('/')} {member.member_id[-12:]}"
            for member in found.members
            for part in (member.assignment.topic_partitions if member.assignment else ())
            if part.topic == topic
        }

    return await admin.call(work)
