"""Requests to Redis whose cells are in native/, which writes their bytes whole.

What is no cell is said here: the frame (native/src/requests.rs, Frame). The order of KEYS and ARGV
is that of lua/load.lua and lua/apply.lua, as in redis.py, which is the reference.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..core.commit import Commit
from ..core.state import PartitionState, fence_of
from .redis_client import NoScriptError
from .redis_keys import Keys

_PACK: Final = msgspec.msgpack.Encoder()


def load_frame(keys: Keys, state: PartitionState, sha: str) -> dict[str, Any]:
    """All but the cells of a load."""
    return _frame(sha, [keys.state], args_first=fence_of(state))


def commit_frame(keys: Keys, commit: Commit, sha: str) -> dict[str, Any]:
    """All but the cells of a commit."""
    after, kept = commit.after, commit.verdicts or commit.corrections
    dropped = [keys.ids(generation) for generation in commit.dropped]
    logs = []
    if commit.ids and commit.generation is not None:
        logs.append(keys.ids(commit.generation))
    if kept:
        logs.append(keys.duplicates if commit.verdicts else keys.voids)
    frame = _frame(
        sha,
        [keys.state],
        args_first=(*commit.fence, str(after.next), after.acts, after.hist_text),
        keys_last=(*dropped, *logs),
    )
    if commit.learned:
        items = [item.encode() for pair in commit.learned.items() for item in pair]
        frame["hashes"] = [(keys.names.encode(), items)]
    state = [item for pair in commit.writes.items() for item in pair]
    frame["body"] = _PACK.encode({"state": state, "dropped": len(dropped)})
    frame["args_last"] = [commit.ids, *kept]
    frame["are_known"] = commit.are_known
    return frame


def _frame(
    sha: str,
    keys_first: list[str],
    *,
    args_first: tuple[str, ...],
    keys_last: tuple[str, ...] = (),
) -> dict[str, Any]:
    return {
        "command": [b"EVALSHA", sha.encode()],
        "keys_first": [key.encode() for key in keys_first],
        "keys_last": [key.encode() for key in keys_last],
        "hashes": [],
        "args_first": [text.encode() for text in args_first],
        "args_last": [],
        "are_known": False,
        "body": b"",
    }


class Script:
    """A script of lua/, for any client: each Redis is asked by its digest, and told it once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(
        self, client: Any, *, keys: Sequence[str | bytes], args: Sequence[Any] = ()
    ) -> Any:
        """Run it."""
        asked = (self.sha, len(keys), *keys, *args)
        try:
            return await client.evalsha(*asked)
        except NoScriptError:
            await client.script_load(self.text)
            return await client.evalsha(*asked)

    async def send(self, client: Any, request: bytes) -> Any:
        """Send a request that runs it, and return the answer.

        As the client does it itself with a script: on a connection of its pool, which connects
        and logs in where it has to, and with its repetitions.
        """
        try:
            return await _exchange(client, request)
        except NoScriptError:
            await client.script_load(self.text)
            return await _exchange(client, request)


async def _exchange(client: Any, request: bytes) -> Any:
    connection = await client.connection_pool.get_connection()

    async def once() -> Any:
        await connection.send_packed_command(request)
        return await connection.read_response()

    async def failed(_error: Exception) -> None:
        await connection.disconnect()

    try:
        return await connection.retry.call_with_retry(once, failed)
    finally:
        await client.connection_pool.release(connection)
