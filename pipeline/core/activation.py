"""Where metric versions start and stop counting in a partition, and the digest over it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Activation:
    """Where a version starts counting in a partition: first offset, log clock, body digest.

    first, measures: the numbers of its measures in the partition are first, first + 1, …, as many
    as it has measures. Keys of cells say the number instead of the measure's name.
    """

    offset: int
    clock_ms: int
    digest: str
    first: int
    measures: int

    @property
    def text(self) -> str:
        """What is stored of it."""
        return f"{self.offset}:{self.clock_ms}:{self.digest}:{self.first}:{self.measures}"


def activation_of(text: str) -> Activation:
    """Read a stored text. Raises ValueError: it is not ours."""
    offset, clock, digest, first, measures = text.split(":")
    found = Activation(int(offset), int(clock), digest, int(first), int(measures))
    if found.text != text or found.first < 0 or found.measures < 0:
        raise ValueError(f"not an activation of ours: {text[:80]!r}")
    return found


def next_number(active: Mapping[str, Activation]) -> int:
    """Return the first number that no measure has yet. Numbers are given without a gap."""
    return sum(each.measures for each in active.values())


def check_numbers(active: Mapping[str, Activation]) -> None:
    """Raise ValueError where two measures have one number, or a number is nobody's."""
    expected = 0
    for first, measures in sorted((each.first, each.measures) for each in active.values()):
        if first != expected:
            raise ValueError(f"measure number {expected} is given twice, or not at all")
        expected += measures


class Acts(NamedTuple):
    """What follows from a state's activations and ends.

    Their digest, their fields in the partition's hash, and the numbers of measures, both ways.
    """

    active: Mapping[str, Activation]
    ended: Mapping[str, int]
    digest: str
    fields: Mapping[str, str]
    numbers: Mapping[str, int]
    measures: Mapping[int, str]


def acts_of(active: Mapping[str, Activation], ended: Mapping[str, int]) -> Acts:
    """Work out a state's acts, once for the same two objects: states share and never change them.

    A flush would cost as much as there are definitions otherwise, whether they match or not.
    """
    key = (id(active), id(ended))
    found = _remembered.get(key)  # it holds both objects, so no other ones can have their ids
    if found is None:
        if len(_remembered) >= _REMEMBERED_MAX:
            _remembered.clear()
        found = _remembered[key] = _work_out(active, ended)
    return found


_REMEMBERED_MAX: Final = 64


_remembered: dict[tuple[int, int], Acts] = {}


def _work_out(active: Mapping[str, Activation], ended: Mapping[str, int]) -> Acts:
    digest, fields = hashlib.blake2b(digest_size=16), {}
    numbers: dict[str, int] = {}
    for version, activation in sorted(active.items()):
        end = ended.get(version, "")
        line = f"{version}\n{activation.digest}\n{activation.offset}\n{activation.first}\n{end}\n"
        digest.update(line.encode())
        fields[f"act:{version}"] = activation.text
        for place in range(activation.measures):
            numbers[f"{version}.{place}"] = activation.first + place
    fields |= {f"end:{version}": str(offset) for version, offset in ended.items()}
    measures = {number: measure for measure, number in numbers.items()}
    return Acts(active, ended, digest.hexdigest(), fields, numbers, measures)
