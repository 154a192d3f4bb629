"""Hash tags of partitions: chosen at init so that the slots of a Redis Cluster are used evenly.

A cluster gives each of its shards a range of the 16,384 slots, and a key lies in the slot of its
hash tag. Tags as they come are uneven: of twelve partitions on six shards one shard would have
none. So each partition's tag carries a suffix that takes it to the slot it ought to have. Suffixes
stand in the identity record: a partition never moves to another tag, but by a rebuild.
"""

from collections.abc import Iterable, Mapping
from itertools import count, pairwise
from typing import Final

from ..edges.redis_keys import SLOTS, hash_tag, slot_of

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_NEAR: Final = 16  # a slot is near enough within so small a part of a partition's share


def spread(deployment: str, partitions: Iterable[int], taken: Mapping[int, str]) -> dict[int, str]:
    """Return the suffixes of new partitions. taken: those of the partitions that are there."""
    new = sorted(partitions)
    near = SLOTS // ((len(new) + len(taken)) * _NEAR)
    if not taken:
        share = SLOTS / max(len(new), 1)
        return {
            number: _suffix(deployment, number, int((place + 0.5) * share), near)
            for place, number in enumerate(new)
        }
    slots = [slot_of(hash_tag(deployment, number, suffix)) for number, suffix in taken.items()]
    found: dict[int, str] = {}
    for number in new:
        found[number] = _suffix(deployment, number, _widest(slots), near)
        slots.append(slot_of(hash_tag(deployment, number, found[number])))
    return found


def _widest(slots: Iterable[int]) -> int:
    """The middle of the widest gap between slots, which go round."""
    ordered = sorted(slots)
    gaps = [(right - left, left) for left, right in pairwise([*ordered, ordered[0] + SLOTS])]
    width, left = max(gaps)
    return (left + width // 2) % SLOTS


def _suffix(deployment: str, partition: int, wanted: int, near: int) -> str:
    """The first suffix whose tag lies in the slot that is wanted, or near it."""
    for number in count(1):
        suffix = _text(number)
        if abs(slot_of(hash_tag(deployment, partition, suffix)) - wanted) <= near:
            return suffix
    raise AssertionError("unreachable")


def _text(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
