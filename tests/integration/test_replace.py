"""A corrected metric takes over a name with its past: one record, and no answer of two metrics."""

import json
import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ..services import Recount
from ..waiting import eventually
from .doors import Server, serving
from .test_history import BODY, event, hour, worker

EVENTS = 700
WRONG = {**BODY, "name": "calls", "aggregation_type": "MAX"}
RIGHT = {**BODY, "name": "calls, corrected"}
PERIOD = {"starting_on": hour(-96).isoformat(), "ending_before": hour(-2).isoformat()}
PLAYS: dict[str, Any] = {
    "type": "event_count_custom",
    "unitTypes": ["userID"],
    "metricEvents": [{"name": "use", "criteria": []}],
}


def prepared(recount: Recount) -> str:
    """A deployment in which the metric `calls` counts the wrong thing; its id."""
    recount.run("init", "--partitions", "2")
    old = recount.create(WRONG)
    recount.publish([event(number) for number in range(EVENTS)])
    recount.catch_up()
    return old


def usage(recount: Recount, metric: str) -> list[Any]:
    """Every value of every customer."""
    options = [f"--{name.replace('_', '-')}={text}" for name, text in PERIOD.items()]
    lines = recount.run("usage", metric, "--each-customer", "--window-size", "hour", *options)
    return [(line["customer_id"], line["starting_on"], line["value"]) for line in lines[:-1]]


def refused(recount: Recount, *arguments: str) -> str:
    """Why a replacement is refused."""
    done = recount.ended("metrics", "replace", *arguments)
    assert (done.returncode, done.stdout) == (3, b""), done.stderr.decode()
    return " ".join(done.stderr.decode().split())


def names(recount: Recount) -> dict[str, str]:
    """Name → id."""
    return {line["name"]: line["id"] for line in recount.run("metrics", "list", "--all")}


def test_a_corrected_metric_takes_over_with_its_past(recount: Recount) -> None:
    """Refused until its past is counted; then the name reads the new numbers, ids stay."""
    old = prepared(recount)
    new = recount.create(RIGHT)
    wrong = usage(recount, "calls")
    said = refused(recount, "calls", "calls, corrected")
    assert "is not counted yet (0 %)" in said
    assert "--wait" in said
    assert names(recount) == {"calls": old, "calls, corrected": new}

    with worker(recount):
        first, second = recount.run("metrics", "replace", "calls", "calls, corrected", "--wait")
    assert (first["id"], first["name"], first["history"]) == (new, "calls", "complete")
    assert (second["id"], second["name"]) == (old, "calls, corrected")
    right = usage(recount, "calls")
    assert right != wrong
    assert (usage(recount, new), usage(recount, "calls, corrected")) == (right, wrong)
    first_of = recount.create({**RIGHT, "name": "another"})
    recount.catch_up()
    assert usage(recount, first_of) == right

    # Once more by names would take it back; by ids it is what has been done.
    assert f"replace {new} {old}" in refused(recount, "calls", "calls, corrected")
    again = recount.run("metrics", "replace", old, new)
    assert [line["name"] for line in again] == ["calls", "calls, corrected"]
    back = recount.run("metrics", "replace", new, old)
    assert [(line["id"], line["name"]) for line in back] == [
        (old, "calls"),
        (new, "calls, corrected"),
    ]
    assert usage(recount, "calls") == wrong
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_what_cannot_take_over_is_refused(recount: Recount) -> None:
    """Less of the past, an end, another system, nobody: exit 3, and nothing changes."""
    old = prepared(recount)
    since = recount.create({**RIGHT, "name": "since"}, "--effective-from", hour(-20).isoformat())
    ended = recount.create({**RIGHT, "name": "ended"})
    recount.run("metrics", "archive", ended)
    plays = json.dumps({**PLAYS, "name": "plays"}).encode()
    recount.run("metrics", "create", "--format", "statsig", "-", stdin=plays)
    recount.catch_up()
    before = names(recount)

    assert "counts only from" in refused(recount, "calls", "since")
    assert "is archived" in refused(recount, "calls", "ended")
    assert "statsig" in refused(recount, "calls", "plays")
    assert "cannot replace itself" in refused(recount, "calls", old)
    assert "no metric has the id or name" in refused(recount, "calls", "nobody")
    assert names(recount) == before

    update = recount.ended(
        *("metrics", "update", "calls", "-", "--effective-from", hour(-20).isoformat()),
        stdin=json.dumps(RIGHT).encode(),
    )
    assert update.returncode == 2
    assert f"recount metrics replace {old} NEW --wait" in " ".join(update.stderr.decode().split())

    assert recount.run("metrics", "replace", "calls", "since", "--allow-partial")[0]["id"] == since
    # What was archived keeps its name, and another one may take it over: bills are read by it.
    assert recount.run("metrics", "replace", "ended", since, "--allow-partial")[0]["id"] == since
    assert names(recount)["ended"] == since
    assert recount.run("metrics", "show", ended)[0]["name"] == "calls"


def test_of_two_at_once_the_first_wins(recount: Recount, tmp_path: Path) -> None:
    """Several clients at a time over HTTP: one is done, others are told, and names are whole."""
    old = prepared(recount)
    others = [recount.create({**RIGHT, "name": f"candidate {number}"}) for number in range(4)]
    recount.catch_up()
    with serving(recount, tmp_path / "serve.log") as server:

        def ask(new: str) -> httpx.Response:
            return posted(server, "calls", {"new": new})

        asked = [f"candidate {number}" for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, asked))
        codes = [answer.status_code for answer in answers]
        # One that asks late replaces the winner: by its name that is what was asked.
        assert codes.count(200) >= 1
        assert set(codes) <= {200, 409}
        held = names(recount)
        assert set(held) == {"calls", *asked}
        assert set(held.values()) == {old, *others}
        done = [name for name, code in zip(asked, codes, strict=True) if code == 200]
        assert held["calls"] in {others[asked.index(name)] for name in done}

        # By ids each of them says which metric it means: of many equal ones, all are done.
        last = next(each for each in others if each != held["calls"])
        with ThreadPoolExecutor(4) as pool:
            again = list(
                pool.map(lambda _: posted(server, held["calls"], {"new": last}), range(4))
            )
        assert {answer.status_code for answer in again} == {200}
        assert again[0].json()["data"][0]["name"] == "calls"
        assert names(recount)["calls"] == last


def posted(server: Server, metric: str, body: Any, role: str = "manage") -> httpx.Response:
    """The answer to a replacement that is asked for over HTTP."""
    return httpx.post(
        f"{server.url}/recount/v1/metrics/{metric}/replace",
        headers={"Authorization": f"Bearer {server.keys[role]}"},
        json=body,
        timeout=60,
    )


def test_the_door_refuses_as_the_command_does(recount: Recount, tmp_path: Path) -> None:
    """409 while the past is counted, 403 without the role, 404 for nobody, 400 for the body."""
    prepared(recount)
    recount.create(RIGHT)
    with serving(recount, tmp_path / "serve.log") as server:
        early = posted(server, "calls", {"new": "calls, corrected"})
        assert early.status_code == 409
        assert "is not counted yet" in early.json()["message"]
        assert posted(server, "calls", {"new": "calls, corrected"}, "read").status_code == 403
        assert posted(server, "nobody", {"new": "calls"}).status_code == 404
        assert posted(server, "calls", {"new": "nobody"}).status_code == 404
        wrong = posted(server, "calls", {"mew": "calls", "allow_partial": "yes"})
        assert wrong.status_code == 400
        assert "new is required" in wrong.json()["message"]


@contextmanager
def reading(server: Server, metric: str, sees: list[Any]) -> Iterator[threading.Event]:
    """A client that asks for a metric by its name all the while: metric id, and all values."""
    ended = threading.Event()
    headers = {"Authorization": f"Bearer {server.keys['read']}"}

    def ask() -> None:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            while not ended.is_set():
                params = {**PERIOD, "window_size": "hour"}
                answer = client.get(f"/recount/v1/usage/{metric}", params=params).json()
                values = [(line["starting_on"], line["value"]) for line in answer["data"]]
                sees.append((answer["metric_id"], values))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield ended
    finally:
        ended.set()
        thread.join()


def test_no_answer_is_made_of_two_metrics(recount: Recount, tmp_path: Path) -> None:
    """Readers by name see one whole table or the other, sums of metrics too; then the new one."""
    recount.run("init", "--partitions", "2")
    bodies = [
        {**PLAYS, "name": "plays", "metricEvents": [{"name": "other", "criteria": []}]},
        {**PLAYS, "name": "plays right"},
        *(
            {
                **PLAYS,
                "name": name,
                "type": "composite_sum",
                "metricEvents": [],
                "metricComponentMetrics": [{"name": part, "type": kind} for part, kind in parts],
            }
            for name, parts in (
                ("twice", [("plays", "event_count_custom")] * 2),
                ("both ways", [("twice", "composite_sum"), ("plays", "event_count_custom")]),
            )
        ),
    ]
    for body in bodies:
        text = json.dumps(body).encode()
        recount.run("metrics", "create", "--format", "statsig", "-", stdin=text)
    use = [event(number) for number in range(400) if number % 7 != 6]
    recount.publish([*use, *(event(number, event_type="other") for number in range(1000, 1005))])
    recount.catch_up()
    ids = names(recount)
    # A sum that took over from its own part would add up itself.
    assert "adds up itself" in refused(recount, "twice", "both ways")
    seen: dict[str, list[Any]] = {name: [] for name in ("plays", "both ways")}

    with serving(recount, tmp_path / "serve.log") as server:
        pair = [ids["plays"], ids["plays right"]]
        with (
            reading(server, "plays", seen["plays"]),
            reading(server, "both ways", seen["both ways"]),
        ):
            for _ in range(4):
                length = [len(each) for each in seen.values()]
                eventually(
                    lambda length=length: all(  # type: ignore[misc]
                        len(each) > before + 1
                        for each, before in zip(seen.values(), length, strict=True)
                    ),
                    within_s=60,
                    because="both are read",
                )
                answer = posted(server, pair[0], {"new": pair[1]})
                assert answer.status_code == 200, answer.text
                pair.reverse()
                lines = httpx.get(
                    f"{server.url}/recount/v1/usage/plays",
                    headers={"Authorization": f"Bearer {server.keys['read']}"},
                    params=PERIOD,
                ).json()
                assert lines["metric_id"] == pair[0]  # a read after the answer sees it

    tables = dict(seen["plays"])
    assert set(tables) == {ids["plays"], ids["plays right"]}
    assert all(tables[metric] == values for metric, values in seen["plays"])
    thrice = [[(at, str(3 * int(value))) for at, value in table] for table in tables.values()]
    assert thrice[0] != thrice[1]
    assert {json.dumps(values) for _, values in seen["both ways"]} == {
        json.dumps([list(each) for each in table]) for table in thrice
    }


def test_a_command_that_is_killed_did_it_or_did_not(recount: Recount) -> None:
    """Kill -9 at any moment: both names have changed, or none; then it is asked for again."""
    old = prepared(recount)
    new = recount.create(RIGHT)
    draw = random.Random(25)
    for caught_up in (False, True, True):
        pair = names(recount)
        process = recount.start(
            *("metrics", "replace", pair["calls"], pair["calls, corrected"], "--wait"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(draw.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        held = names(recount)
        assert set(held) == {"calls", "calls, corrected"}
        assert set(held.values()) == {old, new}
        if not caught_up:
            assert held == pair, "no worker has counted its past"
            recount.catch_up()
    pair = names(recount)
    recount.run("metrics", "replace", pair["calls"], pair["calls, corrected"], "--wait")
    assert names(recount) == {"calls": pair["calls, corrected"], "calls, corrected": pair["calls"]}
