"""The file of an export: it comes back byte by byte, and what is not whole is refused."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.control.backup import HOLE_KEY, BackedUp, Backup, read_backup, written
from pipeline.control.records import ControlState
from pipeline.control.seal import Seals
from pipeline.errors import UsageError

from ..world import FIVE, definition_record, deployment, identity_record

TOPIC = "t.metrics.control"
SECRET = b"0123456789abcdef0123456789abcdef"
BYTES = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)
HEADERS = st.lists(st.tuples(st.text(max_size=8), BYTES), max_size=3).map(tuple)


@st.composite
def backups(draw: Any) -> Backup:
    """Any records at any ascending offsets."""
    offsets = sorted(draw(st.sets(st.integers(0, 60), max_size=8)))
    records = [
        BackedUp(
            at, draw(st.none() | st.integers(0, 2**40)), draw(BYTES), draw(BYTES), draw(HEADERS)
        )
        for at in offsets
    ]
    return Backup(TOPIC, records, (offsets[-1] + 1 if offsets else 0) + draw(st.integers(0, 3)))


def file_of(backup: Backup) -> bytes:
    """The bytes of the file."""
    return b"".join(written(backup))


def taken(file: bytes) -> Backup:
    """What is read of a file."""
    return read_backup(io.BytesIO(file), "f")


@given(backups())
def test_every_byte_comes_back(backup: Backup) -> None:
    """Any keys, values and headers, also none and no UTF-8, are read as they were written."""
    assert taken(file_of(backup)) == backup


@given(backups())
def test_offsets_stay(backup: Backup) -> None:
    """With its holes filled a backup has a record for every offset, its own where they were."""
    filled = [*backup.filled()]

    assert [record.offset for record in filled] == [*range(backup.next)]
    assert [each for each in filled if each in backup.records] == [*backup.records]
    holes = [each for each in filled if each not in backup.records]
    assert all((each.key, each.value) == (HOLE_KEY, b"") for each in holes)


@given(backups(), st.data())
def test_what_was_changed_is_refused(backup: Backup, data: Any) -> None:
    """A byte that was flipped, a line left out or twice there, an end: refused, with its place."""
    file = file_of(backup)
    lines = file.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(file) - 1))
    flipped = bytes(
        [*file[:place], file[place] ^ data.draw(st.integers(1, 255)), *file[place + 1 :]]
    )
    without = b"".join(lines[:at] + lines[at + 1 :])
    twice = b"".join(lines[: at + 1] + lines[at:])
    for changed in (flipped, without, twice, file[:place]):
        refused = None
        try:
            read = taken(changed)
        except UsageError as error:
            refused = str(error)
        # Blanks and escapes of the last line say the same.
        assert read == backup if refused is None else refused.startswith("f")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "f is no file of"),
        (b"[1]\n", "f is no file of"),
        (b"\xff\n", "f is no file of"),
        (b"[" * 100_000, "f is no file of"),
        (b'{"recount_control_export": 2, "topic": "t"}\n', "form 2"),
        (b'{"recount_control_export": 1, "topic": "t"}\n', "it was cut"),
        (b'{"recount_control_export": 1, "topic": "t"}\nx\n', "f:2: not a record"),
        (b'{"recount_control_export": 1, "topic": "t"}\n7\n', "f:2: not a record"),
        (b'{"recount_control_export": 1, "topic": "t"}\n{"sha256": "0"}\n', "f:2: what stands"),
    ],
)
def test_what_is_no_export_is_refused(file: bytes, says: str) -> None:
    """Files of something else, of another form, cut: one line that says what and where."""
    with pytest.raises(UsageError, match=says):
        taken(file)


def test_the_end_must_fit() -> None:
    """A last line whose sha256 is right and whose numbers are not."""
    record = BackedUp(3, 1, b"k", b"v", ())
    for ends in (3, 2, -1):
        with pytest.raises(UsageError, match="does not fit"):
            taken(file_of(Backup(TOPIC, [record], ends)))


def records_of(*bodies: dict[str, Any]) -> list[BackedUp]:
    """Sealed records."""
    seals, values = Seals(TOPIC, [SECRET]), [json.dumps(body).encode() for body in bodies]
    return [
        BackedUp(at, 0, b"", value, tuple(seals.headers(value))) for at, value in enumerate(values)
    ]


def test_a_backup_says_what_its_log_said() -> None:
    """Its state is that of a reader of the log; what a seal does not fit is passed over."""
    bodies = [identity_record(deployment()), definition_record("m", "n", FIVE["COUNT"])]
    forged = BackedUp(
        2, 0, b"", json.dumps(definition_record("x", "y", FIVE["COUNT"])).encode(), ()
    )
    backup = Backup(TOPIC, [*records_of(*bodies), forged], 3)
    plain = ControlState()
    for record in backup.records:
        plain.apply(record.offset, record.value)

    sealed = backup.state([SECRET])

    assert [*sealed.metrics] == ["m"]
    assert [each.offset for each in sealed.ignored] == [2]
    assert backup.state([b"x" * 32]).identity is None
    unsealed = backup.state([])
    assert (unsealed.metrics, unsealed.names) == (plain.metrics, plain.names)


def test_restore_moves_the_control_topic_alone() -> None:
    """After the record the deployment is on the other topic; everything else is as it was."""
    state = ControlState()
    state.apply(0, json.dumps(identity_record(deployment())).encode())
    before = state.identity
    assert before is not None
    store_id = before.deployment.store_id
    told = {"type": "restore", "schema_version": 1, "control_topic_id": "new"}
    wrongs: list[dict[str, Any]] = [
        {"store_id": "other"},
        {"store_id": store_id, "control_topic_id": 1},
    ]
    for at, wrong in enumerate(wrongs):
        state.apply(1 + at, json.dumps({**told, **wrong}).encode())
        assert state.identity == before
    state.apply(3, json.dumps({**told, "store_id": store_id}).encode())

    after = state.identity
    assert after is not None
    assert len(state.ignored) == 2
    assert {**after.topics, "control": before.topics["control"]} == before.topics
    assert after.topics["control"] == (before.topics["control"][0], "new")
    text, was = json.loads(after.text), json.loads(before.text)
    assert text["topics"]["control"]["id"] == "new"
    names = ("topics", "starts", "tags", "rules", "format_version", "allow_single_copy")
    assert text == {**was, **{name: text[name] for name in names}}
