"""A consumer group: who reads each partition, and what our user may do with it.

Asked over connections of aiokafka. librdkafka's own question about a group ends the whole process
(an assertion, SIGABRT) where the group's coordinator goes away while it is asked: issue 4605 of
confluentinc/librdkafka, not mended in 2.16.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors as kerr
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request
from aiokafka.protocol.coordination import FindCoordinatorRequest

from ..errors import Halt, LogUnavailable
from .kafka_causes import connected, places
from .kafka_client import KafkaAddress, KafkaAdmin, TopicInfo, guard
from .kafka_security import aiokafka_login

_WITHIN_S: Final = 4.0
_GROUP: Final = 0  # the kind of coordinator
_OPERATIONS: Final = {3: "READ", 6: "DELETE", 8: "DESCRIBE"}  # Kafka's numbers, of a group
_UNTOLD: Final = -(1 << 31)
_STABLE: Final = "Stable"  # every member knows what it reads


class _Asked(DescribeGroupsRequest_v3):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka reads the answer as one of version 2, without what is allowed."""

    RESPONSE_TYPE = DescribeGroupsResponse_v3


class _Question(Request[_Asked]):  # type: ignore[misc]
    """A question about one group."""

    API_KEY = _Asked.API_KEY

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_Asked]) -> _Asked:
        return request_struct_class([self._group], True)


@dataclass(frozen=True, slots=True)
class Group:
    """A group. allowed: to our user, empty where the broker does not say. members: as it told."""

    state: str
    allowed: frozenset[str]
    members: tuple[tuple[str, str, bytes], ...]  # id, host, assignment

    def readers(self, topic: str) -> Iterator[tuple[int, str]]:
        """Yield each partition of a topic that is read: its number, and who reads it."""
        for member_id, host, assignment in self.members:
            if assignment:
                told = ConsumerProtocolMemberAssignment.decode(assignment)
                for name, numbers in told.assignment:
                    for number in numbers if name == topic else ():
                        yield number, f"{host.lstrip('/')} {member_id[-12:]}"


async def owners(admin: KafkaAdmin, group: str, topic: str) -> dict[int, str] | None:
    """Return who of a group reads each partition of a topic: its host, and the end of its id.

    A partition that nobody reads is not in it. None: they are just being given out.

    Raises:
        Halt: our user may not describe the group.
    """
    found = await group_of(admin.address, group, "DESCRIBE")
    if found.members and found.state != _STABLE:
        return None
    return dict(found.readers(topic))


async def rightful(
    admin: KafkaAdmin, topics: Mapping[str, str], group: str
) -> dict[str, TopicInfo]:
    """Return the topics that exist, having seen that our user may do what a worker does.

    A broker that does not say is believed for now: ask again. A group has no coordinator for
    some seconds after its cluster got its first one, or while the broker is busy.

    Args:
        topics: Name → the right that is needed, as ACLs spell it.
        group: Of consumers, which it joins.

    Raises:
        Halt: a right is missing. aiokafka tells it late, in part only after an assignment.
    """
    described = await admin.describe(list(topics))
    for name, topic in described.items():
        admin.check_right(topics[name], f"topic {name!r}", topic.allowed)
    with suppress(LogUnavailable):
        found = await group_of(admin.address, group, "READ")
        admin.check_right("READ", f"group {group!r}", found.allowed)
    return described


async def group_of(address: KafkaAddress, group: str, right: str) -> Group:
    """Return a group as its coordinator tells of it.

    Raises:
        Halt: our user may not; right: what it lacks, to be told. LogUnavailable: not now.
    """
    login = aiokafka_login(address.security)
    try:
        async with guard(address.bootstrap), asyncio.timeout(_WITHIN_S):
            ((host, port), *_) = places((await address.nearest()).bootstrap)
            async with connected(host, port, login) as connection:
                found = await connection.send(FindCoordinatorRequest(group, _GROUP))
                _check(found.error_code)
            async with connected(found.host, found.port, login) as connection:
                ((code, _, state, _, _, members, bits),) = (
                    await connection.send(_Question(group))
                ).groups
                _check(code)
    except Halt as error:
        if isinstance(error.__cause__, kerr.GroupAuthorizationFailedError):
            raise Halt(KafkaAdmin(address).denied(right, f"group {group!r}")) from error
        raise
    told = () if bits == _UNTOLD else _OPERATIONS
    allowed = frozenset(_OPERATIONS[number] for number in told if bits >> number & 1)
    return Group(state, allowed, tuple(_member(each) for each in members))


def _check(code: int) -> None:
    kind = kerr.for_code(code)
    if kind is not kerr.NoError:
        raise kind()


def _member(told: Any) -> tuple[str, str, bytes]:
    member_id, _, host, _, assignment = told
    return member_id, host, assignment
