"""The answer of a trial, as the command line and our own door print it; decimals are text."""

from decimal import Decimal
from typing import Any

from definitions.times import rfc3339
from definitions.values import canonical

from .answers import Number
from .clauses import Excluding
from .lines import as_of_line, named_offsets
from .trial import TrialAnswer, TrialRow


def row_lines(answer: TrialAnswer) -> list[dict[str, Any]]:
    """Return the line of each row."""
    compares = answer.asked.against is not None
    return [_row_line(row, compares=compares) for row in answer.rows]


def _row_line(row: TrialRow, *, compares: bool) -> dict[str, Any]:
    line: dict[str, Any] = {} if row.customer is None else {"customer_id": row.customer}
    line |= {
        "starting_on": rfc3339(row.window.starting_on),
        "ending_before": rfc3339(row.window.ending_before),
        "value": _text(row.value),
        "unreadable": row.unreadable,
    }
    if compares:
        line |= {"against": _text(row.against), "difference": _text(row.difference)}
    return {**line, "exact": row.exact}


def clause_lines(answer: TrialAnswer) -> list[dict[str, Any]]:
    """Return the line of each clause that keeps events out, those that keep out more first."""
    return [_clause_line(clause) for clause in answer.clauses]


def _clause_line(clause: Excluding) -> dict[str, Any]:
    wanted = [canonical(each) if isinstance(each, Decimal) else each for each in clause.wanted]
    return {
        "measure": clause.measure,
        "field": clause.field,
        "operator": clause.operator,
        "wanted": wanted,
        "excluded": clause.excluded,
        "alone": clause.alone,
        "missing": clause.missing,
        "seen": clause.seen,
    }


def end_lines(answer: TrialAnswer) -> dict[str, dict[str, Any]]:
    """Return what comes behind the rows: totals, events, backfill and as_of, by these names."""
    totals: dict[str, Any] = {
        "rows": len(answer.rows),
        "customers": len({row.customer for row in answer.rows}),
        "value": _text(answer.total(lambda row: row.value)),
    }
    if answer.asked.against is not None:
        totals |= {
            "against": _text(answer.total(lambda row: row.against)),
            "difference": _text(answer.total(lambda row: row.difference)),
            "differing_rows": sum(row.value != row.against for row in answer.rows),
        }
    if answer.reasons:
        totals["reasons"] = list(answer.reasons)
    fates, customer, of = answer.fates, answer.asked.query.customer, answer.asked.share
    events = {
        "read": fates["consumed"],
        "duplicate": fates["duplicate"],
        "rejected": fates["rejected"],
        "accepted": fates["counted"] + fates["unmatched"],
        "in_period": answer.in_period,
        "matched": answer.matched,
    }
    backfill = {
        **answer.cost._asdict(),
        "customers": "all" if customer is None else customer,
    }
    since = answer.exact_from
    where = {
        **as_of_line(answer.as_of),
        "log_begins": named_offsets(answer.as_of.topic, answer.begins),
        "exact_from": None if since is None else rfc3339(since),
    }
    if of.of > 1:
        where["sample"] = f"{of.number + 1}/{of.of}"
    return {"totals": totals, "events": events, "backfill": backfill, "as_of": where}


def _text(number: Number) -> str | None:
    return None if number is None else canonical(number)
