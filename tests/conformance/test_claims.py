"""What the words say is so: figures, limits, keys, licence, and modules that docstrings name."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pipeline.app.owner import _SLICE_MAX
from pipeline.core.cells import CELLS, ELEMENTS
from pipeline.core.deployment import FORMAT_VERSION, RULES
from pipeline.core.fold.fold import CELLS_MAX

from ..services import ROOT
from .test_tidy import OWNERS, sources

# A number and a unit of performance: `584,000 events/s`, `0.26 s at p99`, `36 bytes an id`
FIGURE = re.compile(
    r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)(?: thousand)?\s+"
    r"(?:events/s|µs|CPU µs|m?s\s+at\s+p\d\d|bytes\s+an?\s+\w+)"
)
# What is quoted is a setting or an input, no result of a measurement.
GIVEN = {"20000"}  # events/s of the test at a steady rate
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
KEYS = "pipeline/edges/redis_keys.py"


def plain(number: str) -> str:
    """A number as text, without separators of thousands and without zeros at its end."""
    return f"{float(number.replace(',', '')):g}" if "." in number else number.replace(",", "")


def measured() -> set[str]:
    """Every number of the performance documents and of the saved results."""
    texts = [
        (ROOT / name).read_text() for name in ("docs/performance.md", "benchmarks/RESULTS.md")
    ]
    found = {plain(number) for text in texts for number in NUMBER.findall(text)}
    memory = json.loads((ROOT / "benchmarks/results/memory.json").read_text())
    return found | {f"{size:g}" for size in memory["cells"].values()}


def test_figures_are_measured() -> None:
    """A figure of performance in README or CHANGELOG is one of the documented measurements."""
    known = measured()
    unknown = []
    for name in ("README.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text()
        told = [figure[1] for figure in FIGURE.finditer(text)]
        # Where the measurements are named, every large number is one of them.
        lines = [line for line in text.splitlines() if "docs/performance.md" in line]
        told += re.findall(r"\b\d{1,3},\d{3}\b", " ".join(lines))
        unknown += [
            f"{name}: {number}"
            for number in map(plain, told)
            if not {number, f"{float(number) / 1000:g}"} & (known | GIVEN)
        ]

    assert unknown == []


def test_a_flush_is_as_large_as_the_documents_say() -> None:
    """Where a document names the largest flush, the numbers are those of the code."""
    told = {
        name: re.findall(
            r"(?:at most|up to|cut near) ([\d,]+)\s+(records|cells)", (ROOT / name).read_text()
        )
        for name in ("ARCHITECTURE.md", "CHANGELOG.md")
    }
    limits = {"records": f"{_SLICE_MAX:,}", "cells": f"{CELLS_MAX:,}"}

    assert told["ARCHITECTURE.md"]
    for name, found in told.items():
        assert [(name, *each) for each in found if limits[each[1]] != each[0]] == []


def test_the_changelog_is_for_who_upgrades() -> None:
    """Each release says what to do, then what is new, what changed and what was repaired."""
    wanted = ["To do at the upgrade", "Added", "Changed", "Fixed"]
    _, *releases = (ROOT / "CHANGELOG.md").read_text().split("\n## ")
    told = {release.splitlines()[0]: release for release in releases}

    assert releases
    for name, release in told.items():
        parts = re.findall(r"^### (.*)$", release, re.MULTILINE)
        assert parts == [part for part in wanted if part in parts], name
    # Who comes from an earlier number has to rebuild.
    assert f"`RULES` is {RULES}" in told["Unreleased"]
    assert f"state in Redis is {FORMAT_VERSION}" in "".join(releases)
    assert "recount rebuild" in told["Unreleased"].split("### Added")[0]


def test_one_licence() -> None:
    """One LICENSE, in the root; both packages name it; no source has a notice of its own."""
    folders = [ROOT, *(ROOT / name for name in ("definitions", "pipeline", "tests", "docs"))]
    held = {
        path.relative_to(ROOT)
        for folder in [*folders, ROOT / "native", ROOT / "benchmarks"]
        for path in (folder.iterdir() if folder in {ROOT, ROOT / "native"} else folder.rglob("*"))
        if re.fullmatch(r"(LICEN[CS]E|COPYING|NOTICE)(\.\w+)?", path.name)
    }
    named = [
        tomllib.loads((ROOT / name).read_text())["project"]["license"]
        for name in ("pyproject.toml", "native/pyproject.toml")
    ]
    cargo = tomllib.loads((ROOT / "native/Cargo.toml").read_text())["package"]["license"]

    assert held == {Path("LICENSE")}
    assert {*named, cargo} == {"Apache-2.0"}
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert [
        name
        for name, _ in sources("definitions", "pipeline", "tests", "benchmarks")
        if re.search(r"^# ?(Copyright|SPDX)", (ROOT / name).read_text(), re.MULTILINE)
    ] == []


def heads(tree: ast.Module) -> Iterator[tuple[ast.JoinedStr, str]]:
    """Every f-string, and its text with each part that is computed as `{}`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
            ]
            yield node, "".join(map(str, parts))


def test_only_one_module_builds_keys() -> None:
    """No other module writes a text that begins as a key does, or uses a partition's prefix."""
    built = []
    for name, tree in sources("definitions", "pipeline"):
        if name == KEYS:
            continue
        texts = [text for _, text in heads(tree)]
        texts += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        built += [f"{name}: {text}" for text in texts if re.match(r"recount:[^\s]", text)]
        built += [
            f"{name}:{node.lineno}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "prefix"
        ]
    for script in (ROOT / "pipeline").rglob("*.lua"):
        code = [line.split("--")[0] for line in script.read_text().splitlines()]
        built += [f"{script.name}: {line}" for line in code if "recount:" in line]

    assert built == []


HOMES = ("self.prefix", "self.home")  # of an epoch, and of the partition


def test_every_key_is_documented() -> None:
    """The table of keys in ARCHITECTURE has every kind of key that is built, and no other."""
    ((_, tree),) = [found for found in sources("pipeline") if found[0] == KEYS]
    built = {CELLS, ELEMENTS}
    for node, text in heads(tree):
        first = node.values[0]
        if isinstance(first, ast.FormattedValue) and ast.unparse(first.value) in HOMES:
            built |= set(re.findall(r"^\{\}(\w+)", text))
        built |= set(re.findall(r"^recount:\{\}:(\w+)", text))
    section = (ROOT / "ARCHITECTURE.md").read_text().split("## Keys in Redis")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    told = re.findall(
        r"`(?:P |recount:deployment:)(\w+)", " ".join(row.split("|")[1] for row in rows)
    )

    assert sorted(told) == sorted(built)


def test_packages_name_their_own_modules() -> None:
    """The docstring of a package names only modules that are in it."""
    wrong = [
        f"{name}: {module}"
        for name, tree in sources("definitions", "pipeline")
        if name.endswith("__init__.py")
        for module in re.findall(r"([\w/]+\.py)\b", ast.get_docstring(tree) or "")
        # The test that holds a rule may be named as well.
        if not ((ROOT / name).parent / module).exists() and not module.startswith("test_")
    ]

    assert wrong == []


def test_modules_that_code_names_exist() -> None:
    """Every module that a docstring or a comment names is there."""
    folders = ("definitions", "pipeline", "tests", "benchmarks")
    here = [name for name, _ in sources(*folders)]
    missing = [
        f"{name}: {module}"
        for name, _ in sources("definitions", "pipeline")
        for module in re.findall(r"(?<![\w/.])([\w/]+\.py)\b", (ROOT / name).read_text())
        if not any(path == module or path.endswith(f"/{module}") for path in here)
    ]

    assert missing == []


def test_who_imports_faust_is_said_right() -> None:
    """The package of the worker names just the modules that may import faust."""
    text = (ROOT / "pipeline/app/__init__.py").read_text()

    assert {f"pipeline/app/{name}" for name in re.findall(r"`(\w+\.py)`", text)} == OWNERS["faust"]


def test_messages_of_the_runbook_are_said() -> None:
    """Every message by which a runbook is looked up is in the code, or in what it is made of."""
    text = (ROOT / "docs/operations/runbooks.md").read_text()
    section = text.split("## Exit 5, by message")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    told = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    code = "\n".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    plain = re.sub(r'"\n\s*f?"', "", code)  # texts that go on in the next line
    # What differs is in braces there: a topic's name, a number.
    varying = {"metrics.control' is gone": "is gone; {what}", "usage.events' is gone": "is gone"}
    spelled = [varying.get(message, re.sub(r"\b[NP]\b|\b1\b", "{", message)) for message in told]

    assert len(told) > 15
    assert [each for each in spelled if not all(part in plain for part in each.split("{"))] == []
