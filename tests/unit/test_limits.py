"""When rejected events stop a worker, and when a worker counts as stuck."""

from dataclasses import dataclass

from pipeline.app.watchdog import STUCK_S_MAX, Doctor, Signs
from pipeline.core.limits import RECENT_EVENTS, Limits, Rejections
from pipeline.core.reasons import Reason, Rejected
from pipeline.core.records import DeadLetter


@dataclass
class Lies:
    """A record that is only somewhere."""

    offset: int
    timestamp: int = 0
    timestamp_type: int = 1
    key: bytes | None = None
    value: bytes | None = b""


def letters(offsets: list[int], reason: Reason = Reason.NOT_JSON) -> list[DeadLetter]:
    """Dead letters of these offsets."""
    return [DeadLetter(Lies(offset), Rejected(reason, "bad")) for offset in offsets]


def test_a_run_of_rejected_events_is_found_over_plans() -> None:
    """The run goes on from plan to plan, one good event ends it, and it is said where it broke."""
    rejections = Rejections(Limits(consecutive_max=5, ratio_max=0))

    assert rejections.add(range(10), letters([5, 6, 7, 8, 9])) is None
    said = rejections.add(range(10, 13), letters([10, 11]))
    assert said is not None
    assert "7 events in a row" in said
    assert "not_json (offset 10: bad)" in said

    broken = Rejections(Limits(consecutive_max=5, ratio_max=0))
    assert broken.add(range(5), letters([0, 1, 2, 3, 4])) is None
    assert broken.add(range(5, 7), []) is None
    assert broken.add(range(7, 12), letters([7, 8, 9, 10, 11])) is None


def test_a_share_of_the_recent_events_is_found() -> None:
    """The ratio is taken over the last RECENT_EVENTS, never over fewer."""
    rejections = Rejections(Limits(consecutive_max=0, ratio_max=0.5))
    half = RECENT_EVENTS // 2

    assert rejections.add(range(half - 1), letters(list(range(half - 1)))) is None
    assert rejections.add(range(half - 1, half + 1), letters([half])) is None
    assert rejections.add(range(half + 1, RECENT_EVENTS + 1), []) is None
    said = rejections.add(range(half), letters(list(range(1, half))))
    assert said is None  # the first plan has left the window
    assert rejections.add(range(half), letters(list(range(1, half)))) is not None


def test_what_redrive_repairs_is_not_held_against_it() -> None:
    """Misplaced events of a strict deployment never stop a worker; 0 is no limit at all."""
    strict = Rejections(Limits(consecutive_max=5, ratio_max=0.1))
    open_ = Rejections(Limits(consecutive_max=0, ratio_max=0))
    many = list(range(RECENT_EVENTS + 1))

    assert strict.add(many, letters(many, Reason.MISPLACED)) is None
    assert open_.add(many, letters(many)) is None


def test_a_doctor_finds_a_partition_that_stands_still() -> None:
    """No progress while records wait and both services answer; every progress begins anew."""
    doctor = Doctor(session_s=2.0)
    waiting = {0: 10}

    def look(at: int | None, now: float, *, store: bool = True, broker: bool = True) -> str | None:
        return doctor.look(Signs({0: at}, 1, store), waiting if broker else None, now)

    assert look(5, 0) is None
    assert look(5, STUCK_S_MAX - 1) is None
    assert look(6, STUCK_S_MAX) is None
    assert look(6, 2 * STUCK_S_MAX - 1) is None
    assert look(6, 2 * STUCK_S_MAX, store=False) is None
    assert look(6, 3 * STUCK_S_MAX, broker=False) is None
    assert look(6, 4 * STUCK_S_MAX) is None
    assert "partition 0 stands at 6" in (look(6, 5 * STUCK_S_MAX + 1) or "")
    assert Doctor(2.0).look(Signs({0: 10}, 1, store_answers=True), waiting, 1e9) is None


def test_a_doctor_finds_a_lost_membership() -> None:
    """A member that the group forgot, with a broker that answers, is stuck after a while."""
    doctor = Doctor(session_s=6.0)

    assert doctor.look(Signs({}, -1, store_answers=True), {}, 0) is None
    assert doctor.look(Signs({}, -1, store_answers=True), None, 11) is None
    assert doctor.look(Signs({}, -1, store_answers=True), {}, 12) is None
    assert doctor.look(Signs({}, 3, store_answers=True), {}, 20) is None
    assert doctor.look(Signs({}, -1, store_answers=True), {}, 21) is None
    assert "no member" in (doctor.look(Signs({}, -1, store_answers=True), {}, 34) or "")


def test_what_grew_too_old_on_its_way_is_not_held_against_it() -> None:
    """A door's clients cannot stop a stream: too old by less than an hour never counts."""
    rejections = Rejections(Limits(consecutive_max=5, ratio_max=0.1))
    many = list(range(RECENT_EVENTS + 1))
    nearly = [DeadLetter(Lies(n), Rejected(Reason.TOO_OLD, "a bit", nearly=True)) for n in many]

    assert rejections.add(many, nearly) is None
    assert rejections.add(many, letters(many, Reason.TOO_OLD)) is not None


def test_what_is_too_much_names_the_key_it_comes_from() -> None:
    """Where most of the rejected events have one key, the operator is told which."""
    mine = [DeadLetter(Lies(n, key=b"c-17"), Rejected(Reason.NOT_JSON, "bad")) for n in range(8)]
    others = [DeadLetter(Lies(n, key=None), Rejected(Reason.NOT_JSON, "bad")) for n in (8, 9)]

    said = Rejections(Limits(consecutive_max=5, ratio_max=0)).add(range(10), mine + others)

    assert said is not None
    assert "8 of 10 have the key b'c-17'" in said
