"""Requests to Redis that take something out: of kept lists, and of cells that are mended."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ..core.cells import ELEMENTS
from ..core.mending import Mending
from ..core.state import PartitionState, encode_state, fence_of
from .redis_keys import Keys, member
from .requests import Script

_LUA: Final = Path(__file__).parent / "lua"
_TRIM: Final = Script((_LUA / "trim.lua").read_text())
_MEND: Final = Script((_LUA / "mend.lua").read_text())
_PACK: Final = msgspec.msgpack.Encoder()


async def trim(
    redis: Any,
    keys: Keys,
    state: PartitionState,
    elements: Sequence[bytes],
    *,
    key: str,
    field: str,
    after: str,
) -> bool:
    """Take elements out of a kept list; False where the partition stands elsewhere.

    field, after: of the state, what says how much was let go, and its text then.
    """
    done = await _TRIM(
        redis,
        keys=[keys.state, key],
        args=[*fence_of(state), field, encode_state(state)[field], after, *elements],
    )
    return done is not None


async def mend(redis: Any, keys: Keys, mending: Mending) -> tuple[bytes, bytes]:
    """Return the answer of the script to cells that were counted again."""
    after, numbers = mending.after, mending.after.worked_out.numbers
    texts: dict[str, list[str]] = defaultdict(list)
    gone: dict[str, list[str]] = defaultdict(list)
    for (key, name), text in zip(
        keys.located(mending.texts, numbers), mending.texts.values(), strict=True
    ):
        texts[key] += (name, text)
    for key, name in keys.located(mending.gone, numbers):
        gone[key].append(name)
    lost: dict[str, list[str]] = defaultdict(list)
    places = keys.located(mending.lost, numbers, ELEMENTS)
    for (key, name), elements in zip(places, mending.lost.values(), strict=True):
        lost[key] += (member(name, element) for element in sorted(elements))
    hashes = [*texts, *(key for key in gone if key not in texts)]
    body = {
        "state": [item for pair in mending.writes.items() for item in pair],
        "texts": [texts.get(key, []) for key in hashes],
        "gone": [gone.get(key, []) for key in hashes],
        "lost": list(lost.values()),
    }
    word, detail = await _MEND(
        redis,
        keys=[keys.state, *hashes, *lost],
        args=[
            *mending.fence,
            str(after.next),
            after.acts,
            after.hist_text,
            _PACK.encode(body),
        ],
    )
    return word, detail
