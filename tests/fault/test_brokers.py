"""Three brokers: one away at start, one copy that would acknowledge alone, brokers killed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from pipeline.stack.probe import brokers_of

from ..integration.doors import serving
from ..integration.test_stack import gone, stack
from ..services import fresh
from ..waiting import eventually
from .brokers import OwnBrokers
from .sending import Sending
from .stage import PARTITIONS, Stage

pytestmark = pytest.mark.timeout(600)
_HASTY = 50  # events that one copy alone acknowledges
_PERIOD = ("--starting-on", "2020-01-01T00:00:00Z", "--ending-before", "2100-01-01T00:00:00Z")
_COPIES = ("--partitions", str(PARTITIONS), "--replication-factor", "3")


def _topics(stage: Stage) -> list[str]:
    roles = ("usage.events", "metrics.control", "usage.rejected")
    return [f"{stage.recount.deployment}.{role}" for role in roles]


def _in_sync(brokers: OwnBrokers, topic: str) -> str:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    found = brokers.admin.describe_configs([resource])[resource].result(20)
    return str(found["min.insync.replicas"].value)


def _demand(brokers: OwnBrokers, topic: str, copies: int) -> None:
    """Change how many copies acknowledge, as kafka-configs does."""
    entry = ConfigEntry(
        "min.insync.replicas", str(copies), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in brokers.admin.incremental_alter_configs([resource]).values():
        future.result(20)


def test_f15_the_first_broker_is_down_at_the_start_of_each_command(
    replicated: Stage, brokers: OwnBrokers, tmp_path: Path
) -> None:
    """Every command works while the first bootstrap server is down, from `init` to `rebuild`."""
    brokers.nodes[0].kill()
    others = ",".join(node.plain for node in brokers.others(brokers.nodes[0]))
    eventually(lambda: brokers_of(others) == 2, within_s=60, because="Kafka has given it up")
    stage = replicated
    recount = stage.recount
    recount = type(recount)(recount.services, fresh("down"))

    recount.run("init", *_COPIES)
    metric = recount.create({"name": "n", "aggregation_type": "COUNT"})
    sent = stage.events(200)
    recount.publish(sent)
    recount.catch_up()
    lines = recount.run("usage", metric, "--each-customer", *_PERIOD)
    assert sum(int(line["value"]) for line in lines if "value" in line) == 180
    told = recount.run("explain", sent[0]["transaction_id"])
    assert sent[0]["transaction_id"] in json.dumps(told)
    with serving(recount, tmp_path / "serve.log") as server:
        answer = httpx.post(
            f"{server.url}/v1/ingest",
            json=stage.events(20),
            headers={"Authorization": f"Bearer {server.keys['ingest']}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
    recount.run("rebuild", "--partition", "0")
    recount.catch_up()

    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["events"]) == (0, 220)


@pytest.mark.parametrize(
    "role",
    [
        pytest.param(0, id="events"),
        pytest.param(1, id="control", marks=pytest.mark.long),
        pytest.param(2, id="rejected", marks=pytest.mark.long),
    ],
)
def test_one_copy_that_would_acknowledge_alone(
    replicated: Stage, brokers: OwnBrokers, tmp_path: Path, role: int
) -> None:
    """A running worker halts on a topic that asks for one copy, as each command that sends."""
    stage = replicated
    topic = _topics(stage)[role]
    assert [_in_sync(brokers, each) for each in _topics(stage)] == ["2", "2", "2"]
    worker = stage.running()
    _demand(brokers, topic, 1)

    stage.halted(worker, f"min.insync.replicas is 1 on topic {topic!r}")
    for command in (("worker",), ("init",), ("publish", "-"), ("rejected", "redrive"), ("serve",)):
        done = stage.recount.ended(*command)
        assert (done.returncode, topic in done.stderr.decode()) == (5, True), command
    if role:
        return
    allowed = stage.recount.run("init", "--allow-single-copy")[0]
    assert allowed["settings"]["allow_single_copy"] is True
    stage.worker()
    stage.publish()
    stage.exact()
    done = stage.recount.ended("init", "--refuse-single-copy")
    assert (done.returncode, b"kafka-configs" in done.stderr) == (5, True)


@pytest.mark.long
def test_a_server_takes_no_event_for_one_copy(
    replicated: Stage, brokers: OwnBrokers, tmp_path: Path
) -> None:
    """A server that runs answers 503 to events while one copy would acknowledge, and reads on."""
    stage = replicated
    topic = _topics(stage)[0]
    with serving(stage.recount, tmp_path / "serve.log") as server:

        def status() -> int:
            return httpx.post(
                f"{server.url}/v1/ingest",
                json=stage.events(1),
                headers={"Authorization": f"Bearer {server.keys['ingest']}"},
                timeout=30,
            ).status_code

        assert status() == 200
        _demand(brokers, topic, 1)
        eventually(lambda: status() == 503, within_s=40, because="events are refused")
        _demand(brokers, topic, 2)
        eventually(lambda: status() == 200, within_s=40, because="events are taken again")
    assert "no_event_taken" in (tmp_path / "serve.log").read_text()


@pytest.mark.long
def test_topics_that_were_there_before(replicated: Stage, brokers: OwnBrokers) -> None:
    """`init` takes their number of copies for all topics, and refuses what is not safe."""
    made = type(replicated.recount)(replicated.recount.services, fresh("before"))
    topic = f"{made.deployment}.usage.events"
    new = NewTopic(topic, 2, 3, config={"message.timestamp.type": "LogAppendTime"})
    brokers.admin.create_topics([new])[topic].result(20)
    eventually(
        lambda: topic in brokers.admin.list_topics(timeout=10).topics,
        within_s=20,
        because="it is there",
    )

    other = made.ended("init", "--partitions", "2", "--replication-factor", "2")
    assert (other.returncode, b"exists with 3 copies, not with 2" in other.stderr) == (5, True)
    low = made.ended("init", "--partitions", "2")
    assert (low.returncode, b"min.insync.replicas is 1" in low.stderr) == (5, True)
    _demand(brokers, topic, 2)
    settings = made.run("init", "--partitions", "2")[0]["settings"]
    assert settings["replication_factor"] == 3


def test_what_fewer_copies_mean_is_said_once(stage: Stage) -> None:
    """`init` tells of one copy when it makes a deployment, and not again."""
    made = type(stage.recount)(stage.recount.services, fresh("single"))
    first, again = (made.ended("init", "--partitions", "1") for _ in range(2))

    assert (first.returncode, again.returncode) == (0, 0)
    assert b"Kafka keeps one copy of each record" in first.stderr
    assert b"copy" not in again.stderr
    done = made.ended("init", "--replication-factor", "3")
    assert (done.returncode, b"--replication-factor is 1, not 3" in done.stderr) == (5, True)


# -- brokers lost under traffic: afterwards each record is there once, and counted --------------


def test_f15_the_leader_is_killed(sending: Sending, brokers: OwnBrokers) -> None:
    """Kill -9 of the leader of a partition: another one leads, and the stream goes on."""
    brokers.leader(sending.topic).kill()

    sending.moves("leader killed")
    sending.exact(brokers)


@pytest.mark.long
def test_f15_the_controller_is_killed(sending: Sending, brokers: OwnBrokers) -> None:
    """Kill -9 of the broker that leads the quorum of controllers: another one does."""
    killed = brokers.controller()
    killed.kill()

    sending.moves("controller killed")
    eventually(
        lambda: brokers.controller() is not killed, within_s=30, because="another one leads"
    )
    sending.exact(brokers)


@pytest.mark.long
def test_f15_two_of_three_brokers_away(sending: Sending, brokers: OwnBrokers) -> None:
    """With one broker left nothing is acknowledged, so nothing is lost; then all goes on."""
    one, two = brokers.others(brokers.leader(sending.topic))
    one.kill()
    two.kill()
    refused: list[Any] = []
    producer = Producer(
        {**sending.stage.recount.services.address.rdkafka(), "message.timeout.ms": 5_000}
    )
    producer.produce(
        sending.topic, b"{}", partition=0, on_delivery=lambda error, _: refused.append(error)
    )
    producer.flush(30)
    event = json.dumps(sending.stage.events(1)[0]).encode()
    published = sending.stage.recount.ended("publish", "-", stdin=event + b"\n", within_s=200)
    (before,) = {tuple(sending.stage.watch.nexts())}
    one.begin()
    two.begin()

    sending.moves("two of three away")
    assert refused[0] is not None
    assert published.returncode == 4, published.stderr.decode()
    assert sum(sending.stage.watch.nexts()) > sum(before)
    # What was refused may be there all the same: refused is not the same as not taken.
    brokers.start()
    sending.ends()
    assert 0 <= len(sending.values()) - sending.traffic.sent <= 2


@pytest.mark.long
def test_f15_a_rolling_restart(sending: Sending, brokers: OwnBrokers) -> None:
    """Each broker in turn is ended cleanly and started, under traffic."""
    for node in brokers.nodes:
        node.terminate()
        node.start()
        brokers.whole()

    sending.moves("rolling restart")
    sending.exact(brokers)


@pytest.mark.long
def test_f15_the_leader_is_killed_with_its_followers_behind(
    sending: Sending, brokers: OwnBrokers
) -> None:
    """What the leader alone had is gone, and none of it was acknowledged or counted."""
    leader = brokers.leader(sending.topic)
    behind = brokers.others(leader)
    for node in behind:
        node.pause()
    # These ask for the leader's word alone, as no producer of ours does: the proof that it was
    # ahead of the others.
    hasty = Producer({"bootstrap.servers": leader.plain, "acks": 1, "log_level": 0})
    told: list[Any] = []
    for number in range(_HASTY):
        hasty.produce(
            sending.topic,
            json.dumps({"hasty": number}).encode(),
            partition=0,
            on_delivery=lambda error, _: told.append(error),
        )
    assert hasty.flush(20) == 0
    leader.kill()
    for node in behind:
        node.signal(signal.SIGCONT)

    sending.moves("leader killed, followers behind")
    assert told == [None] * _HASTY
    brokers.start()
    sending.ends()
    values = sending.values()
    kept = sum(b'"hasty"' in value for value in values)
    assert kept < _HASTY, "the followers were not behind"
    assert len(values) - kept == sending.traffic.sent


@pytest.mark.long
def test_a_stack_of_three_brokers(tmp_path: Path) -> None:
    """`stack up --brokers 3` gives three; two killed, status says so; `down` leaves nothing."""
    folder = ["--dir", str(tmp_path)]
    up = stack("up", "--brokers", "3", *folder)
    state = json.loads((tmp_path / "state.json").read_text())

    assert len(up["kafka"].split(",")) == brokers_of(up["kafka"]) == 3
    assert stack("up", *folder) == stack("up", "--brokers", "3", *folder) == up
    status = {**up, "answers": True, "brokers": 3, "brokers_up": 3}
    assert stack("status", *folder) == status
    stack("up", "--brokers", "2", *folder, exits=2)
    os.kill(state["pids"][0], signal.SIGKILL)
    eventually(
        lambda: stack("status", *folder) == {**status, "brokers_up": 2},
        within_s=40,
        because="it is known that one is gone",
    )
    assert stack("down", *folder) == {"stopped": True}
    assert gone(state["pids"])
    assert "3 brokers" in stack("up", "--native", *folder, exits=2)
    again = stack("up", "--brokers", "3", *folder)
    assert brokers_of(again["kafka"]) == 3
    stack("down", *folder)
