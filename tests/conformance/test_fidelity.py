"""docs/fidelity.md says of every statement of three pages what becomes of it, and counts them."""

import re
from collections import Counter

from ..services import ROOT
from .fidelity import statements, verdict_of
from .openapi import MEANT

PAGE = (ROOT / "docs" / "fidelity.md").read_text()
VERDICTS = ("works", "partly", "not")


def rows() -> dict[str, dict[str, tuple[str, str]]]:
    """Title → statement → verdict, and which test or why."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        found[title] = {}
        for line in text.splitlines():
            cells = [each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) == 3 and cells[1] in VERDICTS:
                assert cells[0] not in found[title], cells[0]
                found[title][cells[0]] = (cells[1], cells[2])
            else:
                assert not line.startswith("|") or cells[0] in {"statement", "---"}, line
    return found


def test_the_counts_of_the_page() -> None:
    """The table at the top has the counts of the rows below, page by page and in all."""
    told = {
        title: tuple(map(int, numbers.split(" | ")))
        for title, numbers in re.findall(r"^\| ([^|]+) \| ([0-9 |]+) \|$", PAGE, re.MULTILINE)
    }
    counts = {
        title: Counter(verdict for verdict, _ in found.values()) for title, found in rows().items()
    }
    counts["all"] = sum(counts.values(), Counter())

    assert told == {
        title: (count.total(), *(count[verdict] for verdict in VERDICTS))
        for title, count in counts.items()
    }


def test_every_row_names_its_test_or_says_why_not() -> None:
    """What works or works partly names a test that there is; what does not says why."""
    everything = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for found in rows().values():
        for statement, (verdict, told) in found.items():
            named = re.findall(r"`(test_\w+)`", told)
            assert all(f"def {each}(" in everything for each in named), statement
            assert named or verdict == "not", statement
            assert verdict == "works" or len(re.sub(r"`test_\w+`", "", told)) > 5, statement


def test_the_schema_of_statsigs_page() -> None:
    """Each member of the schema, with each of its words, is tried: the row says the same."""
    page = rows()["Statsig, Read Metric Definition"]
    for path, word in statements():
        value = "" if word is None else f" is `{word}`" if word else " is empty"
        statement = f"`{path}`{value}"
        assert statement in page, statement
        tried = verdict_of(path, word)
        verdict, told = page[statement]
        assert (verdict, tried.why in told) == (tried.verdict, True), (statement, tried)


def test_every_difference_that_is_meant_is_told() -> None:
    """docs/http.md lists what differs from the vendors' OpenAPI documents, with the reason."""
    page = (ROOT / "docs/http.md").read_text()
    for reason in MEANT:
        assert re.search(
            rf"^\| {reason.vendor} \| .+ \| {re.escape(reason.why)} \|$", page, re.MULTILINE
        )
