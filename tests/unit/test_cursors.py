"""Cursors and parameters of the HTTP doors, without a server."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.doors.http import looking
from pipeline.doors.http.cursors import CURSOR_CHARS_MAX, Walk, bounded, text_key
from pipeline.doors.http.errors import Refused
from pipeline.doors.http.parameters import number_in, refuse_strange
from pipeline.doors.http.service import Service
from pipeline.reads.answers import AsOf

from ..world import NOW

QUESTION = {"path": "/v1/usage", "asked": {"window_size": "DAY"}}


def service(store_id: str = "0" * 32) -> Any:
    """As much of a server as a walk asks."""
    deployment = SimpleNamespace(store_id=store_id)
    control = SimpleNamespace(state=SimpleNamespace(next=3, won={}))
    return SimpleNamespace(identity=SimpleNamespace(deployment=deployment), control=control)


def walk(cursor: str | None = None, question: Any = QUESTION, store_id: str = "0" * 32) -> Walk:
    """A walk that begins or goes on."""
    return Walk(service(store_id), question, cursor, "next_page")


names = st.lists(
    st.one_of(st.none(), st.text(max_size=3), st.text("x\ud800", min_size=63, max_size=66)),
    unique=True,
    max_size=12,
)


@given(names, names, st.integers(1, 4))
def test_pages_are_disjoint_and_whole_whatever_comes_between(
    old: list[str | None], new: list[str | None], limit: int
) -> None:
    """Every row of the start is on exactly one page, though others come all along."""
    rows, coming = list(old), [name for name in new if name not in old]
    seen: list[str | None] = []
    page = walk().page([(text_key(name), name) for name in rows], limit)
    seen += page.rows
    while page.next is not None:
        rows = coming[:1] + rows
        coming = coming[1:]
        page = walk(page.next).page([(text_key(name), name) for name in rows], limit)
        assert len(page.rows) <= limit
        seen += page.rows

    assert len(seen) == len(set(seen))
    assert set(old) <= set(seen)


@given(st.lists(st.text(max_size=200), min_size=2, max_size=2, unique=True))
def test_bounded_keys_stay_apart(texts: list[str]) -> None:
    """Two texts never share a place, however long they are, and no place is long."""
    first, second = (bounded((text,)) for text in texts)
    assert first != second
    assert len(str(first[0])) <= 96


def test_a_cursor_is_of_one_question_and_deployment() -> None:
    """Every changed character, another question, another store, the old form: refused as 400."""
    cursor = walk().page([((number,), number) for number in range(5)], 2).next
    assert cursor is not None
    assert walk(cursor).page([((number,), number) for number in range(5)], 9).rows == [2, 3, 4]
    for at in range(len(cursor)):
        other = "A" if cursor[at] != "A" else "B"
        with pytest.raises(Refused) as refused:
            walk(cursor[:at] + other + cursor[at + 1 :])
        assert (refused.value.status, refused.value.parameter) == (400, "next_page")
    with pytest.raises(Refused, match="another question"):
        walk(cursor, {**QUESTION, "asked": {"window_size": "HOUR"}})
    with pytest.raises(Refused, match="not a cursor"):
        walk(cursor, store_id="1" * 32)
    strange = ("YXQ6Mg==", "x", "\u0663", "http://[", "A" * (CURSOR_CHARS_MAX + 1), "=", "[" * 9)
    for text in (*strange, base64.urlsafe_b64encode(b"[" * 4_000).decode()):
        with pytest.raises(Refused, match="not a cursor"):
            walk(text)


def test_pages_of_numbers_say_that_they_moved_on() -> None:
    """A page says where it stands, where the first one stood, and whether they differ."""
    rows = [((number,), number) for number in range(4)]

    def read(*offsets: int) -> AsOf:
        return AsOf("usage.events", dict(enumerate(offsets)), NOW, 0)

    first = walk()
    stands = first.stands([read(7, 3), read(7, 4)])
    assert stands["offsets"] == {"usage.events/0": 7, "usage.events/1": 3}
    assert stands["first_page_offsets"] == stands["offsets"]
    assert stands["moved_on"]  # its own reads stand apart
    cursor = first.page(rows, 2).next
    assert not walk(cursor).stands([read(7, 3)])["moved_on"]
    later = walk(cursor).stands([read(9, 3)])
    assert later["moved_on"]
    assert later["offsets"]["usage.events/0"] == 9
    assert later["first_page_offsets"] == {"usage.events/0": 7, "usage.events/1": 3}


@dataclass
class Params:
    """Query parameters of a request."""

    given: list[tuple[str, str]]
    declared: list[str] = field(default_factory=lambda: ["limit", "next_page", "tags"])

    @property
    def request(self) -> Any:
        """The request that carries them."""
        held = dict(self.given)
        query = SimpleNamespace(
            get=held.get,
            keys=held.keys,
            getlist=lambda name: [text for key, text in self.given if key == name],
        )
        extra = {"parameters": [{"name": name} for name in self.declared]}
        route = SimpleNamespace(openapi_extra=extra)
        return SimpleNamespace(query_params=query, scope={"route": route})


@pytest.mark.parametrize(
    "text",
    [
        *("0", "", "-1", "+1", " 1", "1 ", "1.0", "1e2", "0x1", "1_0", "101", "\u0663", "\u00b2"),
        *("000000001" + "9" * 5_000, "0000000019999999999", "9" * 5_000, "0" * 9_000, "1\0"),
    ],
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    """Whatever is not a number from 1 to the most is 400: no bypass, and no exception of int()."""
    with pytest.raises(Refused) as refused:
        number_in(Params([("limit", text)]).request, "limit", 10, 100)
    assert (refused.value.status, refused.value.parameter) == (400, "limit")


def test_limits() -> None:
    """The default, the bounds, and zeros before a number."""
    for text, number in (("1", 1), ("100", 100), ("000000007", 7)):
        assert number_in(Params([("limit", text)]).request, "limit", 10, 100) == number
    assert number_in(Params([]).request, "limit", 10, 100) == 10


@pytest.mark.parametrize(
    "name", ["filter", "filters", "sort", "page[size]", "page[number]", "page", "offset", "cursor"]
)
def test_what_a_list_does_not_know_it_refuses(name: str) -> None:
    """A parameter that would choose or order rows is obeyed or refused, never passed over."""
    with pytest.raises(Refused) as refused:
        refuse_strange(Params([(name, "x")]).request)
    assert (refused.value.status, refused.value.parameter) == (400, name)
    refuse_strange(Params([(name, "x")], [name]).request)
    refuse_strange(Params([("fields[metric]", "name"), ("anything", "x")]).request)


def test_a_parameter_is_given_once() -> None:
    """Two limits are refused; tags may be given again and again."""
    with pytest.raises(Refused):
        refuse_strange(Params([("limit", "1"), ("limit", "1")]).request)
    refuse_strange(Params([("tags", "a"), ("tags", "b")]).request)


KEYS = st.tuples(st.integers(0, 2), st.text(max_size=3), st.integers(0, 3))


@given(st.lists(KEYS, unique=True, max_size=30), st.integers(1, 4))
def test_what_a_page_need_not_read_changes_nothing(
    keys: list[tuple[int, str, int]], limit: int
) -> None:
    """Rows by metric: those that a walk is past, and those behind a full page, are not read."""
    cursor: str | None = None
    for _ in range(len(keys) // limit + 1):
        whole = walk(cursor).page([(key, key) for key in keys], limit)
        going, read = walk(cursor), list[tuple[int, str, int]]()
        for metric in sorted({key[:2] for key in keys}):
            if going.is_past(metric) or len(read) > limit:
                continue
            own = [key for key in keys if key[:2] == metric]
            read += [key for key in own if not going.is_past(key, whole=True)]

        assert going.page([(key, key) for key in read], limit) == whole
        cursor = whole.next
        if cursor is None:
            return


async def test_a_look_into_the_log_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is read for too long: 400 with what to do instead, and others may look again."""
    monkeypatch.setattr(looking, "LOOK_S_MAX", 0.05)
    monkeypatch.setattr(looking, "Explainer", _Endless)
    held: list[str] = []

    @asynccontextmanager
    async def large() -> AsyncIterator[None]:
        held.append("taken")
        try:
            yield
        finally:
            held.append("given back")

    async def fresh() -> None:
        return None

    there = SimpleNamespace(check=lambda: None)
    asked = SimpleNamespace(
        fresh=fresh, large=large, identity=None, store=None, log=None, contact=there
    )
    with pytest.raises(Refused, match="recount explain") as refused:
        await looking.looked_up(cast("Service", asked), frozenset({"t"}))

    assert refused.value.status == 400
    assert held == ["taken", "given back"]


class _Endless:
    """An Explainer of a log without end."""

    def __init__(self, *_: Any) -> None:
        pass

    async def find_all(self, *_: Any) -> AsyncIterator[dict[str, Any]]:
        """Read, and find nothing."""
        await asyncio.Event().wait()
        yield {}
