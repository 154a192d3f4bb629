"""Redis as it is hosted: TLS alone, users with few rights, no CONFIG, a socket; every refusal."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from pipeline.edges.redis import RedisStore
from pipeline.errors import Halt, PipelineError, StoreUnavailable, UsageError
from pipeline.stack.processes import free_port

from ..fault.own import OwnRedis, own_redis
from ..hosted import Hosted
from ..roles import AUTHENTICATED, every_role
from ..services import Recount, Services
from .contracts.test_store import CELL, FIRST, commit, plan

DEPLOYMENT = "hosted"
RENAMED = ("--rename-command", "EVALSHA_RO", "")


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """One for all tests of this file."""
    made = Hosted(tmp_path_factory.mktemp("hosted"), DEPLOYMENT)
    with own_redis(made.folder, *made.options(), url=made.url()):
        yield made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    """One without TLS and without users."""
    with own_redis(tmp_path_factory.mktemp("plain")) as made:
        yield made


def log_of(hosted: Hosted) -> list[Any]:
    """What users were refused."""
    with redis_client.Redis.from_url(hosted.url()) as client:
        found: list[Any] = client.acl_log()
        return found


def test_every_role_has_just_the_rights_that_are_documented(
    stack: Services, hosted: Hosted, tmp_path: Path
) -> None:
    """init, worker, readers, server, audit and rebuild by users of their own, exact, over TLS."""

    def by(role: str) -> Recount:
        return Recount(Services(stack.kafka, hosted.url(role)), DEPLOYMENT)

    with redis_client.Redis.from_url(hosted.url()) as client:
        client.acl_log_reset()

    every_role(by, tmp_path / "serve.log")

    assert log_of(hosted) == []


@pytest.mark.parametrize("user", ["reader", "plain"])
async def test_a_reader_who_may_not_write_reads_the_same(hosted: Hosted, user: str) -> None:
    """By EVALSHA_RO, and by plain commands where no script may run at all."""
    with redis_client.Redis.from_url(hosted.url()) as client:
        client.script_flush()
    stores = RedisStore(hosted.url(), DEPLOYMENT), RedisStore(hosted.url(user), DEPLOYMENT)
    for store in stores:
        store.tags = lambda: {0: f"for{user}"}
    writer, reader = stores
    try:
        await writer.register(0, FIRST)
        await writer.apply(await commit(writer, FIRST, plan(0, 3)))
        day = CELL.bucket // 24
        wanted = await writer.read_each([0], [CELL.measure, "u#1.0"], [CELL.customer], [day])
        found = await reader.read_each([0], [CELL.measure, "u#1.0"], [CELL.customer], [day])

        assert wanted[0] is not None
        assert wanted[0].cells[CELL] == "1"
        assert wanted[0].elements
        assert found == wanted
        measures, days = [CELL.measure, "u#1.0"], range(day - 1, day + 2)
        for each in (writer, reader):
            listed = [names async for names in each.owners(0, measures)]
            owned = await each.read_owners(0, measures, ["u#1.0"], [CELL.customer], days)
            assert owned is not None
            assert {name for names in listed for name in names} == {CELL.customer}
            assert owned.book == wanted[0]
        with pytest.raises(Halt, match="lacks a right"):
            await reader.register(1, FIRST)
    finally:
        await writer.close()
        await reader.close()


async def policy(url: str) -> tuple[str, float]:
    """What a Redis says of its policy, or why it does not; and how long that takes."""
    began = time.monotonic()
    store = RedisStore(url, "any")
    try:
        (policy,) = (await store.eviction_policies()).values()
        return policy, time.monotonic() - began
    except PipelineError as error:
        return f"{type(error).__name__}: {error}", time.monotonic() - began
    finally:
        await store.close()


async def test_the_policy_without_config_and_over_a_socket(hosted: Hosted, tmp_path: Path) -> None:
    """INFO says it to users who may not use CONFIG; a socket and a file of a password do."""
    (tmp_path / "password").write_text(f"{AUTHENTICATED}\n")
    over_socket = f"unix://admin:{AUTHENTICATED}@{hosted.folder}/socket?db=0"
    by_file = hosted.url("admin", password="", password_file=f"{tmp_path}/password")
    for url in (hosted.url(), over_socket, by_file):
        assert (await policy(url))[0] == "noeviction"


async def test_the_policy_where_info_is_refused(plain: OwnRedis) -> None:
    """CONFIG says it then, as it did before."""
    plain.client.execute_command("ACL", "SETUSER", "default", "-info")
    try:
        assert (await policy(plain.url))[0] == "noeviction"
    finally:
        plain.client.execute_command("ACL", "SETUSER", "default", "+info")


async def test_a_redis_without_config_and_without_scripts_that_only_read(tmp_path: Path) -> None:
    """As one before 7.0 has it, and one whose owner renamed CONFIG: the policy, and the cells."""
    with own_redis(tmp_path, "--rename-command", "CONFIG", "", *RENAMED) as old:
        store = RedisStore(old.url, "old")
        try:
            assert [*(await store.eviction_policies()).values()] == ["noeviction"]
            await store.register(0, FIRST)
            await store.apply(await commit(store, FIRST, plan(0, 3)))
            for _ in range(2):
                (book,) = (
                    await store.read_each(
                        [0], [CELL.measure], [CELL.customer], [CELL.bucket // 24]
                    )
                ).values()
                assert book is not None
                assert book.cells[CELL] == "1"
        finally:
            await store.close()


async def test_every_cause_has_its_own_sentence(
    hosted: Hosted, plain: OwnRedis, tmp_path: Path
) -> None:
    """Each within five seconds, with the address and what to do, and no two alike."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    port = free_port()
    tls, bare = f"127.0.0.1:{hosted.port}", f"127.0.0.1:{plain.port}"
    silent = f"127.0.0.1:{full.getsockname()[1]}"
    cases = [
        (f"redis://127.0.0.1:{port}", f"127.0.0.1:{port}", "nobody listens there"),
        ("redis://nobody.invalid", "nobody.invalid:6379", "a name that is not known"),
        (f"redis://{silent}", silent, "a firewall, a route"),
        (f"unix://{tmp_path}/none", f"{tmp_path}/none", "no such socket"),
        (hosted.url(password=AUTHENTICATED[1:]), tls, "refused the login"),
        (hosted.url(ssl_ca_certs=f"{hosted.folder}/other.pem"), tls, "is not accepted"),
        (hosted.url(ssl_certfile="", ssl_keyfile=""), tls, "client's certificate|our certificate"),
        (
            hosted.url(
                ssl_certfile=f"{hosted.folder}/stranger.pem",
                ssl_keyfile=f"{hosted.folder}/stranger.key",
            ),
            tls,
            "client's certificate|our certificate",
        ),
        (f"redis://{tls}", tls, "write rediss://"),
        (f"rediss://{bare}", bare, "redis://"),
    ]
    try:
        for url, place, words in cases:
            text, seconds = await policy(url)
            assert place in text, text
            assert re.search(words, text), text
            assert AUTHENTICATED[1:] not in text
            assert "RECOUNT_REDIS" in text or "socket" in text, text
            assert seconds < 5, (text, seconds)
    finally:
        for each in (full, *waiting):
            each.close()


async def test_a_right_that_is_missing_is_named_before_anything_is_written(hosted: Hosted) -> None:
    """With the command, and where to read what a user needs."""
    store = RedisStore(hosted.url("nobody"), "any")
    try:
        with pytest.raises(Halt, match=r"lacks a right.*Rights on Redis"):
            await store.check_rights([0])
    finally:
        await store.close()


async def test_what_is_no_redis_says_so() -> None:
    """A web server at the address is told from a Redis that is away."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = RedisStore(f"redis://127.0.0.1:{port}", "any")
        with pytest.raises(StoreUnavailable, match="is no Redis"):
            await store.state(0)
        await store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://x", "begins with one of"),
        ("127.0.0.1:6379", "begins with one of"),
        ("redis://h/x", "invalid literal"),
        ("redis://h:99999", "no port"),
        ("redis://h?sslca=1", "'sslca' is not known"),
        ("redis://h?ssl_ca_certs=/dev/null", "needs rediss://"),
        ("rediss://h?ssl_ca_certs=/none/there", "/none/there"),
        ("rediss://h?ssl_cert_reqs=maybe", "required or none"),
        ("rediss://h?ssl_check_hostname=maybe", "cannot have"),
        ("redis://h?password_file=/none/there", "/none/there"),
        ("unix://socket", "whole path"),
        ("redis://h:1,g:2", r"one host and port.*redis\+cluster://"),
        ("redis+cluster://h/1", "database 0 only"),
        ("redis+cluster://h:1,g:99999", "no port"),
        ("redis+cluster://h?ssl_ca_certs=/dev/null", "needs rediss://"),
    ],
)
def test_a_url_that_is_wrong_is_refused_before_anything_connects(url: str, words: str) -> None:
    """Exit 2, with the variable and what is wrong."""
    with pytest.raises(UsageError, match=f"RECOUNT_REDIS: .*{words}"):
        RedisStore(url, "any")
