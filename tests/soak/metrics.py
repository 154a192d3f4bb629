"""Traffic of metrics: created, updated, renamed, replaced and archived, in a random order.

Metrics come through the doors of all three systems and by the command line, with `effective_from`
and without, while events do. What a fault makes impossible is left out: it is drawn again.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from ..fault.harness import KINDS
from ..services import Recount

KEYS = 40  # values of the property `k` that metrics are told apart by
_ASKED_S = 30.0
_ROUND = 4  # operations between two looks at what there is
_PAUSE_S = 0.1
_SLOWLY = 30
_SILENT_S_MAX = 240.0
# What a door answers where a fault, another write or the past of a metric is in the way.
_NOT_NOW = {404, 409, 429, 503}
# The same of systems that know no 409.
_CONFLICTS = ("is archived", "has the name", "nothing was changed")
_REVISION = {"revision": "2025-04-15"}
Line = Mapping[str, Any]


@dataclass
class Metrics:
    """A thread that works on the metrics of a deployment until it is told to stop.

    most: how many are created; then the others are changed, more slowly. done: how often each
    operation was carried out. plain: metrics of Metronome that count the whole log and were never
    changed, which the oracle knows: id → native body.
    """

    recount: Recount
    url: str
    key: str
    seed: int
    most: int
    pause_s: float = _PAUSE_S
    done: Counter[str] = field(default_factory=Counter)
    plain: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        headers = {"Authorization": f"Bearer {self.key}", **_REVISION}
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=_ASKED_S)
        self._does: dict[Callable[[list[Line]], bool], int] = {
            self._create: 5,
            self._update: 3,
            self._replace: 4,
            self._rename: 1,
            self._archive: 2,
        }

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def creates(self) -> bool:
        """Whether it has not created all of its metrics yet."""
        return self.done["create"] < self.most and self._thread.is_alive()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()
        self._client.close()
        assert not self.failed, self.failed

    def _run(self) -> None:
        answered_s = time.monotonic()
        while not self._stop.is_set():
            lines = self._listed()
            if lines is not None:
                answered_s = time.monotonic()
            elif time.monotonic() - answered_s > _SILENT_S_MAX:
                self.failed.append(f"no server has answered for {_SILENT_S_MAX:.0f} s")
                return
            for _ in range(_ROUND if lines is not None else 0):
                weights = [count if self._may(does) else 0 for does, count in self._does.items()]
                does = self._draw.choices([*self._does], weights)[0]
                with suppress(httpx.HTTPError):  # a fault is at it; the next look tells
                    self.done[does.__name__.strip("_")] += does(lines or [])
                pause_s = self.pause_s if self.creates else _SLOWLY * self.pause_s
                self._stop.wait(self._draw.uniform(0, 2 * pause_s))
            self._stop.wait(self.pause_s if lines is None else 0)

    def _may(self, does: Callable[[list[Line]], bool]) -> bool:
        return self.creates or does != self._create

    def _listed(self) -> list[Line] | None:
        """What metrics there are; None while nobody can say."""
        try:
            answer = self._client.get("/recount/v1/metrics")
        except httpx.HTTPError:
            return None
        if not self._is_taken(answer, "list"):
            return None
        found: list[Line] = answer.json()["data"]
        names = [line["name"] for line in found if line["archived_at"] is None]
        if len(names) != len(set(names)):
            self.failed.append(f"two metrics have one name: {sorted(names)}")
        return found

    def _is_taken(self, answer: httpx.Response, what: str) -> bool:
        """Whether something was done; what is refused for another reason is a failure."""
        if answer.is_success:
            return True
        conflict = answer.status_code == 400 and any(each in answer.text for each in _CONFLICTS)
        if answer.status_code not in _NOT_NOW and not conflict:
            self.failed.append(f"{what}: {answer.status_code} {answer.text[:500]}")
        return False

    # -- what is done ----------------------------------------------------------------------------

    def _create(self, _lines: list[Line]) -> bool:
        self._number += 1
        name, how = f"metric {self.seed} {self._number}", self._draw.random()
        if how < 0.25:
            return self._by_command(name)
        if how < 0.6:
            body = self._metronome(name)
            answer = self._client.post("/v1/billable-metrics/create", json=body)
            if self._is_taken(answer, "create"):
                self.plain[answer.json()["data"]["id"]] = body
                return True
            return False
        if how < 0.8:
            body = {"data": {"type": "custom-metric", "attributes": self._klaviyo(name)}}
            return self._is_taken(self._client.post("/api/custom-metrics", json=body), "create")
        body = {
            "name": name,
            "type": "event_count_custom",
            "unitTypes": ["userID"],
            "metricEvents": [{"name": "use", "criteria": [self._criterion()]}],
        }
        return self._is_taken(self._client.post("/console/v1/metrics", json=body), "create")

    def _by_command(self, name: str) -> bool:
        """Create a metric that counts from a full hour on."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test
        starts = hour + timedelta(hours=self._draw.randrange(-3, 2))
        options = ("--effective-from", starts.isoformat())
        text = json.dumps(self._metronome(name)).encode()
        made = self.recount.ended(
            "metrics", "create", "--format", "metronome", "-", *options, stdin=text
        )
        return self._has_ended(made.returncode, made.stderr)

    def _has_ended(self, code: int, said: bytes) -> bool:
        if code not in {0, 3, 4}:
            self.failed.append(f"exit {code}: {said.decode()[-500:]}")
        return code == 0

    def _update(self, lines: list[Line]) -> bool:
        line = self._one(lines, lambda each: each["archived_at"] is None)
        if line is None:
            return False
        self.plain.pop(line["id"], None)
        if line["format"] == "metronome":
            # Its door renames alone: the command updates.
            text = json.dumps(self._metronome(line["name"])).encode()
            done = self.recount.ended("metrics", "update", line["id"], "-", stdin=text)
            return self._has_ended(done.returncode, done.stderr)
        if line["format"] == "klaviyo":
            data = {"type": "custom-metric", "id": line["id"]}
            attributes = self._klaviyo(line["name"])
            answer = self._client.patch(
                f"/api/custom-metrics/{line['id']}",
                json={"data": {**data, "attributes": attributes}},
            )
        else:
            body = {"description": f"changed {self._draw.random()}"}
            answer = self._client.post(self._console(line), json=body)
        return self._is_taken(answer, "update")

    def _replace(self, lines: list[Line]) -> bool:
        """A metric takes over from another one of its system, as soon as it holds all of it."""
        new = self._one(lines, lambda each: each["archived_at"] is None and each["ready"])
        others = [
            each for each in lines if new and each["format"] == new["format"] and each != new
        ]
        old = self._one(others, lambda _: True)
        if new is None or old is None:
            return False
        path = f"/recount/v1/metrics/{quote(old['id'], safe='')}/replace"
        answer = self._client.post(path, json={"new": new["id"], "allow_partial": True})
        if not self._is_taken(answer, "replace"):
            return False
        first, second = answer.json()["data"]
        if (first["id"], second["id"]) != (new["id"], old["id"]):
            self.failed.append(f"replace: {new}, {old}: {first}, {second}")
        return True

    def _rename(self, lines: list[Line]) -> bool:
        line = self._one(lines, lambda each: each["format"] == "metronome")
        if line is None or line["archived_at"] is not None:
            return False
        body = {"name": f"{line['name'].partition(',')[0]}, renamed {self._draw.randrange(10**9)}"}
        answer = self._client.put(f"/v1/billable-metrics/{line['id']}", json=body)
        return self._is_taken(answer, "rename")

    def _archive(self, lines: list[Line]) -> bool:
        line = self._one(lines, lambda each: each["archived_at"] is None)
        if line is None:
            return False
        if self._draw.random() < 0.3:
            drops = ["--drop-history"] if self._draw.random() < 0.7 else []
            self.plain.pop(line["id"], None)
            done = self.recount.ended("metrics", "archive", line["id"], *drops)
            return self._has_ended(done.returncode, done.stderr)
        self.plain.pop(line["id"], None)
        if line["format"] == "metronome":
            body = {"id": line["id"]}
            answer = self._client.post("/v1/billable-metrics/archive", json=body)
        elif line["format"] == "klaviyo":
            answer = self._client.delete(f"/api/custom-metrics/{line['id']}")
        else:
            answer = self._client.delete(self._console(line))
        return self._is_taken(answer, "archive")

    def _one(self, lines: list[Line], fits: Callable[[Line], bool]) -> Line | None:
        mine = [each for each in lines if each["name"].startswith("metric ") and fits(each)]
        return self._draw.choice(mine) if mine else None

    # -- bodies ----------------------------------------------------------------------------------

    def _keys(self) -> list[str]:
        return [str(each) for each in self._draw.sample(range(KEYS), self._draw.randrange(1, 6))]

    def _metronome(self, name: str) -> dict[str, Any]:
        kind = self._draw.choice(KINDS)
        filters = [
            {"name": "v"},
            {"name": "g", "exists": True},
            {"name": "k", "in_values": self._keys()},
        ]
        return {
            "name": name,
            "aggregation_type": kind,
            "event_type_filter": {"in_values": ["use"]},
            "property_filters": filters,
            "group_keys": [["g"]] if self._draw.random() < 0.5 else [],
            **({} if kind == "COUNT" else {"aggregation_key": "v"}),
        }

    def _klaviyo(self, name: str) -> dict[str, Any]:
        equals = {"type": "string", "operator": "equals", "value": self._keys()[0]}
        group = {"metric_id": "use", "metric_filters": [{"property": "k", "filter": equals}]}
        definition = {"aggregation_method": "count", "metric_groups": [group]}
        return {"name": name, "definition": definition}

    def _criterion(self) -> dict[str, Any]:
        return {"type": "metadata", "column": "k", "condition": "in", "values": self._keys()}

    def _console(self, line: Line) -> str:
        name = line["name"].removesuffix("::event_count_custom")
        return f"/console/v1/metrics/{quote(f'{name}::event_count_custom', safe='')}"
