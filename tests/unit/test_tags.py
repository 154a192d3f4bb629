"""Hash tags of partitions: any cluster's shards have their share of the slots."""

import redis.crc
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deploy.tags import spread
from pipeline.edges.redis_keys import SLOTS, Keys, hash_tag, slot_of

NAMES = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)


def slots(deployment: str, tags: dict[int, str]) -> dict[int, int]:
    """The slot of each partition's keys, as Redis' own client works it out."""
    found = {}
    for number, suffix in tags.items():
        keys = Keys(deployment, number, 3600, suffix)
        (found[number],) = {
            redis.crc.key_slot(name.encode())
            for name in (keys.state, keys.names, keys.duplicates, keys.ids(7), keys.days("m#1.0"))
        }
        assert found[number] == slot_of(hash_tag(deployment, number, suffix))
    return found


@given(NAMES, st.integers(1, 64))
def test_shards_have_equal_shares(deployment: str, partitions: int) -> None:
    """Where partitions can be shared out equally they are; else shares differ by two at most."""
    found = slots(deployment, spread(deployment, range(partitions), {}))

    assert sorted(found) == list(range(partitions))
    for shards in range(1, partitions + 1):
        shares = [0] * shards
        for slot in found.values():
            shares[slot * shards // SLOTS] += 1
        assert max(shares) - min(shares) <= 2 * (partitions % shards != 0)


@given(NAMES, st.integers(1, 12), st.integers(1, 24))
def test_later_partitions_lie_between(deployment: str, partitions: int, more: int) -> None:
    """What is there stays; new ones halve the widest gaps, so no gap is twice another's."""
    first = spread(deployment, range(partitions), {})
    new = spread(deployment, range(partitions, partitions + more), first)
    found = sorted(slots(deployment, {**first, **new}).values())

    assert len(set(found)) == partitions + more
    gaps = [
        right - left for left, right in zip(found, [*found[1:], found[0] + SLOTS], strict=True)
    ]
    assert max(gaps) <= 2.6 * min(gaps) + 2
