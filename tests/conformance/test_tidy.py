"""The house keeps its own rules: sizes, who imports what, names, documents."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import definitions
import pipeline
from pipeline.core.reasons import Reason
from pipeline.doors.page.showing import VIEWS
from pipeline.settings import describe, load_settings
from pipeline.telemetry.names import NAMES, SERVER_NAMES

from ..services import ROOT

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
METHODS_MAX = 25  # async ones are methods too
POSITIONAL_MAX = 6  # parameters besides self and cls
PARAMETERS_MAX = 9  # the same with those that are given by name
# library → the files that may import it
OWNERS = {
    "faust": {"pipeline/app/transport.py", "pipeline/app/worker.py"},
    "aiokafka": {
        "pipeline/edges/kafka_batches.py",
        "pipeline/edges/kafka_causes.py",
        "pipeline/edges/kafka.py",
        "pipeline/edges/kafka_client.py",
        "pipeline/edges/kafka_codecs.py",
        "pipeline/edges/kafka_metadata.py",
        "pipeline/edges/kafka_owners.py",
        "pipeline/control/clerk.py",
        "pipeline/control/log.py",
        "pipeline/app/transport.py",
        "pipeline/log/ingest.py",
    },
    "redis": {"pipeline/edges/redis_client.py", "pipeline/stack/probe.py"},
    "confluent_kafka": {
        "pipeline/edges/kafka_client.py",
        "pipeline/stack/probe.py",
    },
    "numpy": {
        "pipeline/core/id_index.py",
        "pipeline/core/verdicts.py",
        "pipeline/core/voids.py",
        "pipeline/recount/identity.py",
    },
    "pyarrow": {"pipeline/periods/parquet.py"},
    "structlog": {"pipeline/telemetry/logs.py"},
    "re2": {"definitions/conditions.py", "pipeline/recount/matching.py"},
    "xxhash": {"pipeline/core/dedup.py"},
    "subprocess": {
        "pipeline/stack/processes.py",
        "pipeline/stack/keeper.py",
        "pipeline/stack/local.py",
        "pipeline/cli/demo.py",
    },
}
# More than the rule, and why.
REASONS: dict[str, str] = {
    "pipeline/cli/operate.py: init_command": "a parameter is an option of the command",
    "pipeline/cli/usage.py: usage": "the same",
    "pipeline/cli/periods.py: close": "the same",
    "pipeline/cli/size.py: size": "the same",
    "pipeline/cli/trial.py: try_": "the same",
    "pipeline/cli/void.py: amend_command": "the same",
    "pipeline/doors/own.py: usage": "a parameter is a query parameter of the call",
    "pipeline/doors/own.py: try_": "the same",
    "pipeline/doors/own.py: together": "the same",
    "pipeline/doors/own.py: events": "the same",
    "pipeline/edges/memory.py: MemoryStore": "the twin of Redis' store, which is three classes",
    "pipeline/ports.py: RollupStore": "one method for each question and each write",
}


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def imports(tree: ast.Module) -> set[str]:
    """The absolute modules that a module imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return found


def test_headers_of_dead_letters_are_documented() -> None:
    """The table of docs/operations.md has the headers that are written and read, and no other."""
    table = (ROOT / "docs" / "operations.md").read_text().split("| header | text |")[1]
    told = re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], re.MULTILINE)
    source = (ROOT / "pipeline" / "edges" / "letter_headers.py").read_text()
    assert told == re.findall(r'^[A-Z_]+: Final = "(\w+)"', source, re.MULTILINE)


def sizes(tree: ast.Module) -> Iterator[tuple[str, str, int, int]]:
    """What is counted of a module: whose it is, its unit, how many there are and may be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, "lines", (node.end_lineno or 0) - node.lineno + 1, FUNCTION_LINES_MAX
            given = node.args
            named = [each.arg for each in (*given.posonlyargs, *given.args)]
            positional = sum(name not in {"self", "cls"} for name in named)
            every = positional + len(given.kwonlyargs)
            yield node.name, "positional parameters", positional, POSITIONAL_MAX
            yield node.name, "parameters", every, PARAMETERS_MAX
        if isinstance(node, ast.ClassDef):
            methods = (ast.FunctionDef, ast.AsyncFunctionDef)
            count = sum(isinstance(item, methods) for item in node.body)
            yield node.name, "methods", count, METHODS_MAX


def test_sizes() -> None:
    """No module, function or class is larger than the house allows without a stated reason."""
    too_large, excused = [], set()
    for name, tree in sources("definitions", "pipeline", "benchmarks"):
        lines = len((ROOT / name).read_text().splitlines())
        if lines > MODULE_LINES_MAX:
            too_large.append(f"{name}: {lines} lines")
        for whose, unit, count, most in sizes(tree):
            if count > most and f"{name}: {whose}" in REASONS:
                excused.add(f"{name}: {whose}")
            elif count > most:
                too_large.append(f"{name}: {whose} {count} {unit}")

    assert too_large == []
    assert excused == set(REASONS)


def test_sizes_count_what_they_say() -> None:
    """Async functions and methods, and every kind of parameter, are counted."""
    text = "class A:\n async def f(self, a, /, b, *c, d, **e):\n  pass\n def g(self): pass"

    assert [each[:3] for each in sizes(ast.parse(text))] == [
        ("A", "methods", 2),
        ("f", "lines", 2),
        ("f", "positional parameters", 2),
        ("f", "parameters", 3),
        ("g", "lines", 1),
        ("g", "positional parameters", 0),
        ("g", "parameters", 0),
    ]


def test_the_imports_of_core_form_seven_levels() -> None:
    """Value types at the ground, the fold and backfill on top: no chain of imports is longer."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / "pipeline" / "core").rglob("*.py")
        if path.name != "__init__.py"
    }

    def imported(name: str) -> set[str]:
        found = set()
        for node in ast.walk(ast.parse(files[name].read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                home = ".".join([*name.split(".")[: -node.level], node.module or ""]).rstrip(".")
                found |= {home, *(f"{home}.{each.name}" for each in node.names)}
        return found & files.keys()

    def level(name: str) -> int:
        return 1 + max((level(each) for each in imported(name)), default=0)

    assert {level(name) for name in files} == {1, 2, 3, 4, 5, 6, 7}


def test_libraries_have_owners() -> None:
    """A library at the edge is imported by its own files only."""
    found: dict[str, set[str]] = {library: set() for library in OWNERS}
    for name, tree in sources("definitions", "pipeline"):
        for module in imports(tree):
            library = module.split(".")[0]
            if library in OWNERS:
                found[library].add(name)

    assert found == OWNERS


def test_the_oracle_is_independent() -> None:
    """tests/recount.py imports nothing of the pipeline, nor the compiled matcher."""
    (tree,) = [tree for name, tree in sources("tests") if name == "tests/recount.py"]

    assert {name for name in imports(tree) if name.startswith(("pipeline", "definitions"))} == {
        "definitions.metric"
    }


def test_one_broad_except() -> None:
    """Nothing is caught to continue: no handler names Exception; CrashOnly ends the process."""
    broad = [
        f"{name}:{node.lineno}"
        for name, tree in sources("definitions", "pipeline")
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    ]

    assert broad == []


def test_names() -> None:
    """`pipeline` and `definitions` are ours, not another distribution's of the same name."""
    assert Path(str(pipeline.__file__)).parent == ROOT / "pipeline"
    assert Path(str(definitions.__file__)).parent == ROOT / "definitions"
    assert importlib.util.find_spec("pipeline.core.fold.fold") is not None


def test_every_test_says_what_must_hold() -> None:
    """Every test has a docstring of one sentence, and none sleeps or skips."""
    for name, tree in sources("tests"):
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=test) | ast.AsyncFunctionDef(name=test):
                    said = ast.get_docstring(node)
                    assert said or not test.startswith("test_"), f"{name}: {test}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"time.sleep", "pytest.skip"}, name
                assert ast.unparse(node) == "asyncio.sleep(0)" or called != "asyncio.sleep", name


def test_reasons_are_documented() -> None:
    """The enum of reasons and the headings of docs/semantics.md are the same words."""
    text = (ROOT / "docs/semantics.md").read_text()

    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == [str(reason) for reason in Reason]


def test_telemetry_is_documented() -> None:
    """Every metric of the service is in docs/operations.md with its labels, and no other is."""
    text = (ROOT / "docs/operations.md").read_text()
    told = re.findall(r"^\| `(recount_\w+)`(?: \{([\w, ]+)\})? \|", text, re.MULTILINE)

    assert {name: tuple(labels.split(", ")) if labels else () for name, labels in told} == {
        name: kind.labels for name, kind in (*NAMES.items(), *SERVER_NAMES.items())
    }


def test_documents_name_what_exists() -> None:
    """Every path, test and module that the documents name in backticks is there."""
    everything = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for quoted in re.findall(r"`([^`\n]+)`", document.read_text()):
            if re.fullmatch(r"[\w/.]+\.(py|lua|md|toml|yaml)", quoted):
                name = Path(quoted).name
                found = (ROOT / quoted).exists() or list((ROOT / "pipeline").rglob(name))
                assert found or list((ROOT / "tests").rglob(name)), f"{document.name}: {quoted}"
            if re.fullmatch(r"test_\w+", quoted):
                assert f"def {quoted}(" in everything, f"{document.name}: {quoted}"


def anchors_of(document: Path) -> set[str]:
    """What links may name behind `#`: the headings, as GitHub writes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents leads to a file, and to a heading that it has."""
    wrong = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "", text)):
            path, _, anchor = link.partition("#")
            target = (document.parent / path) if path else document
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                wrong.append(f"{document.relative_to(ROOT)}: {link}")

    assert wrong == []


def test_settings_are_the_interface() -> None:
    """`recount settings` has every variable of the interface with its default and unit."""
    rows = {row["variable"]: row for row in describe(load_settings())}

    assert rows["RECOUNT_KAFKA"]["default"] == "127.0.0.1:9092"
    assert rows["RECOUNT_REDIS"]["default"] == "redis://127.0.0.1:6379/0"
    assert rows["RECOUNT_DEPLOYMENT"]["default"] == "default"
    assert (rows["RECOUNT_FLUSH_MS"]["default"], rows["RECOUNT_FLUSH_MS"]["unit"]) == (250, "ms")
    assert rows["RECOUNT_LATENESS"]["default"] == 3600
    assert rows["RECOUNT_TELEMETRY_PORT"]["default"] is None


def test_every_fault_has_a_test_or_a_reason() -> None:
    """Each of the 44 entries of the catalogue stands in docs/reliability.md, with its test."""
    text = (ROOT / "docs/reliability.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and "`test_" in line]
    tested = {
        int(number) for row in rows for number in re.findall(r"\b([0-9]{1,2}) [a-zA-Z`]", row)
    }
    reasons = text.split("## Not tested, and why")[1].split("##")[0]
    explained = {int(number) for number in re.findall(r"^\* ([0-9]+)", reasons, re.MULTILINE)}

    assert set(range(1, 45)) - tested - explained == set()


def test_every_view_has_its_pictures() -> None:
    """Each view of the page stands in docs/page in both themes, small, and page.md shows it."""
    folder, told = ROOT / "docs/page", (ROOT / "docs/page.md").read_text()
    names = {view.lower() for view, _ in VIEWS} | {"metric", "draft", "explained"}
    wanted = {f"{name}-{scheme}.png" for name in names for scheme in ("light", "dark")}

    assert {path.name for path in folder.iterdir()} == wanted
    assert [path.name for path in folder.iterdir() if path.stat().st_size > 150_000] == []
    assert [name for name in sorted(wanted) if f"page/{name}" not in told] == []


def test_references_have_targets() -> None:
    """Every document and section that code names is there, and none that the repository lacks."""
    missing = []
    for path in sorted(ROOT.rglob("*")):
        kept = path.relative_to(ROOT).parts[0] in {"definitions", "pipeline", "native", "tests"}
        if not kept or path.suffix not in {".py", ".rs", ".lua"} or "target" in path.parts:
            continue
        text = path.read_text()
        if path != Path(__file__):
            lacks = re.findall(r"\b(?:DESIGN|FAULTS|STYLE|FORMATS|INTERFACES) [0-9C]\S*", text)
            missing += [f"{path.name}: {each}" for each in lacks]
        for name, section in re.findall(r"docs/([\w-]+)\.md(?: ([0-9]+))?", text):
            document = ROOT / "docs" / f"{name}.md"
            told = document.read_text() if document.exists() else ""
            heading = rf"^(?:#+ {section}[. ]|- \*\*{section} )" if section else ""
            if not re.search(heading, told, re.MULTILINE) or not told:
                missing.append(f"{path.name}: docs/{name}.md {section}")

    assert missing == []
