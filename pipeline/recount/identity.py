"""Identities that were counted, millions of them, in some 30 bytes each.

Those of late are in a dict. When they are many they are sealed: sorted into arrays, in a part for
each beginning of a key, so that only small arrays are ever copied. A bitmap tells at once of most
keys that they were never sealed.

Rule: nothing is forgotten and nothing is guessed: a key is found by all of its 16 bytes.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .events import Plain, Void

KEY_BYTES: Final = 16
SEALED_AT: Final = 250_000  # keys in the dict, some 165 bytes each
_PARTS: Final = 64
_BITS_A_KEY: Final = 16
_Words = NDArray[np.uint64]


class _Part:
    """Sealed keys in order: their first and last eight bytes, and what is known of each."""

    __slots__ = ("heads", "tails", "values")

    def __init__(self) -> None:
        self.heads: _Words = np.empty(0, np.uint64)
        self.tails: _Words = np.empty(0, np.uint64)
        self.values: _Words = np.empty(0, np.uint64)

    def find(self, head: int, tail: int) -> int | None:
        """Return what is known of a key; the newest, where it was sealed more than once."""
        wanted = np.uint64(head)
        low = int(self.heads.searchsorted(wanted))
        high = int(self.heads.searchsorted(wanted, side="right"))
        for at in range(high - 1, low - 1, -1):
            if int(self.tails[at]) == tail:
                return int(self.values[at])
        return None

    def take(self, heads: _Words, tails: _Words, values: _Words) -> None:
        """Take keys that are in order by their heads; after those that are here already."""
        places = np.searchsorted(self.heads, heads, side="right")
        self.heads = np.insert(self.heads, places, heads)
        self.tails = np.insert(self.tails, places, tails)
        self.values = np.insert(self.values, places, values)


class Identities:
    """A dict of keys of KEY_BYTES bytes, uniformly spread, to numbers below 2^64.

    expected: how many keys there will be at most. With more it is as right, but slower.
    """

    def __init__(self, expected: int = SEALED_AT) -> None:
        self._late: dict[bytes, int] = {}
        self._parts: list[_Part] = []
        self._bits_max = max(expected * _BITS_A_KEY, 8)
        self._bits = bytearray()

    def get(self, key: bytes) -> int | None:
        """Return what was put last for a key; None is nothing."""
        known = self._late.get(key)
        if known is not None or not self._parts:
            return known
        head = int.from_bytes(key[:8], "big")
        place = head % self._bits_max
        if not self._bits[place >> 3] >> (place & 7) & 1:
            return None
        return self._parts[head % _PARTS].find(head, int.from_bytes(key[8:], "big"))

    def put(self, key: bytes, value: int) -> None:
        """Know a value of a key from now on."""
        self._late[key] = value
        if len(self._late) >= SEALED_AT:
            self._seal()

    def _seal(self) -> None:
        if not self._parts:
            self._parts = [_Part() for _ in range(_PARTS)]
            self._bits = bytearray(self._bits_max // 8 + 1)
        words = np.frombuffer(b"".join(self._late), ">u8").astype(np.uint64).reshape(-1, 2)
        values = np.fromiter(self._late.values(), np.uint64, len(self._late))
        self._late.clear()
        order = np.argsort(words[:, 0])
        heads, tails, values = words[order, 0], words[order, 1], values[order]
        places = heads % np.uint64(self._bits_max)
        bits = np.frombuffer(self._bits, np.uint8)
        np.bitwise_or.at(bits, places >> np.uint64(3), _BIT[places & np.uint64(7)])
        homes = heads % np.uint64(_PARTS)
        for number, part in enumerate(self._parts):
            chosen = homes == number
            part.take(heads[chosen], tails[chosen], values[chosen])


_BIT: Final = np.array([1 << number for number in range(8)], np.uint8)


def key_of(event: Plain | Void) -> bytes:
    """The digest of an identity."""
    customer = event.customer_id
    pair = f"{len(customer)}:{customer}{event.transaction_id}".encode()
    return blake2b(pair, digest_size=KEY_BYTES).digest()
