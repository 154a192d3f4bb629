"""Seals of control records: what has none, another's, or one that was used is passed over."""

import pytest

from pipeline.control.seal import HEADER, Seals

OLD, NEW, STRANGE = b"o" * 32, b"n" * 32, b"s" * 32
VALUE = b'{"type": "key"}'


def test_a_right_seal_opens_once() -> None:
    """A record is taken once under its secret, by its own topic, with its own bytes."""
    headers = Seals("a.metrics.control", [NEW]).headers(VALUE)

    reader = Seals("a.metrics.control", [NEW])
    assert reader.refusal(VALUE, headers) is None
    assert "before" in str(reader.refusal(VALUE, headers))
    assert Seals("a.metrics.control", [OLD, NEW]).refusal(VALUE, headers) is None


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (VALUE, []),
        (None, []),
        (VALUE, Seals("b.metrics.control", [NEW]).headers(VALUE)),
        (VALUE, Seals("a.metrics.control", [STRANGE]).headers(VALUE)),
        (VALUE + b" ", Seals("a.metrics.control", [NEW]).headers(VALUE)),
        (VALUE, Seals("a.metrics.control", [NEW]).headers(VALUE) * 2),
        (VALUE, [(HEADER, b"")]),
        (VALUE, [(HEADER, b"\xff" * 64)]),
        (VALUE, [("Recount-Seal", b"x")]),
    ],
)
def test_whatever_else_is_refused(value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    """No seal, another's, other bytes, two seals: always a reason, never an error."""
    assert Seals("a.metrics.control", [NEW, OLD]).refusal(value, headers)


def test_without_a_secret_nothing_is_sealed() -> None:
    """Off by default: no header, and every record is let through, as often as it stands there."""
    off = Seals("a.metrics.control")

    assert off.headers(VALUE) == []
    assert [off.refusal(VALUE, []) for _ in range(2)] == [None, None]
