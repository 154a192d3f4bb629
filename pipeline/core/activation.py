"""Where metric versions start and stop counting in a partition, and the digest over it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Activation:
    """Where a version starts counting in a partition: first offset, log clock, body digest."""

    offset: int
    clock_ms: int
    digest: str


class Acts(NamedTuple):
    """What follows from a state's activations and ends: their digest, and their fields."""

    active: Mapping[str, Activation]
    ended: Mapping[str, int]
    digest: str
    fields: Mapping[str, str]


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
    for version, activation in sorted(active.items()):
        end = ended.get(version, "")
        line = f"{version}\n{activation.digest}\n{activation.offset}\n{end}\n"
        digest.update(line.encode())
        fields[f"act:{version}"] = f"{activation.offset}:{activation.clock_ms}:{activation.digest}"
    fields |= {f"end:{version}": str(offset) for version, offset in ended.items()}
    return Acts(active, ended, digest.hexdigest(), fields)
