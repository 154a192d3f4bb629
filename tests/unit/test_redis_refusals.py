"""What Redis refuses is the same cause alone, in a script and among commands sent together."""

import pytest
from redis import asyncio as aredis
from redis import exceptions as rex

from pipeline.edges.redis_address import redis_address
from pipeline.edges.redis_client import Node, guard
from pipeline.errors import Damage, Halt, PipelineError, StoreUnavailable

NODE = Node(aredis.Redis(), "127.0.0.1:1", redis_address("redis://127.0.0.1:1/0"))
AMONG_OTHERS = f"Command # 1 (HGET {'k' * 300} store_id) of pipeline caused error: ('{{}}',)"
IN_A_SCRIPT = "Error running script (call to f_1): @user_script:46: -{}"


@pytest.mark.parametrize("form", ["{}", AMONG_OTHERS])
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("BUSY Redis is busy running a script.", StoreUnavailable),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Damage),
        ("NOPERM this user has no permissions to run the 'hget' command", Halt),
        ("ERR something else", Halt),
    ],
)
async def test_a_refusal_has_one_cause(form: str, said: str, kind: type[PipelineError]) -> None:
    """The client puts the command before what Redis said, where several were sent together."""
    with pytest.raises(kind) as told:
        async with guard(NODE):
            raise rex.ResponseError(form.format(said))
    assert type(told.value) is kind
    assert said.split(maxsplit=1)[0] in str(told.value)


async def test_a_refusal_inside_a_script_waits() -> None:
    """6.2 wraps what a script's command was refused with."""
    with pytest.raises(StoreUnavailable):
        async with guard(NODE):
            raise rex.ResponseError(IN_A_SCRIPT.format("OOM command not allowed"))
