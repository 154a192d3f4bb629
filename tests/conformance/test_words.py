"""One word, one meaning: the glossary, the names of modules, and the names of classes."""

import ast
import re

from ..services import ROOT
from .test_tidy import sources

# Modules whose names are words of everyday programming, or of the systems that they speak with.
_ORDINARY = """
    event_filters listed_events sql_computed computing
    afterwards fresh_ids following ranks report_models reports statsig_criteria statsig_funnel
    statsig_source statsig_sql customers customer_models
    clauses costs fold_thread id_index trial trial_ledger spare trial_lines
    answer answers api_keys app asking bodies browsers checks clients clock cloudevents columns
    common compiled conditions configuration connections contact crash cursors decimal demo
    demo_data described entities errors event_models explain fields init kafka kafka_batches
    kafka_causes kafka_client kafka_codecs kafka_owners kafka_raw kafka_security kafka_sender keys
    klaviyo known letter_headers lib lines listening local log logs looking matching members memory
    metrics metronome said unknown versions wish
    metronome_sql model names note open operate output own pages parameters paths ports probe
    processes publish query raw read reasons records recounting redis redis_address redis_books
    redis_client redis_foreign redis_keys redis_listing redis_nodes redis_reads rejected renewed
    reporting requests resources results routes rows rust scan search serve service settings
    shapes shown sql_groups sql_words stack state statsig statsig_members statsig_neutral
    statsig_warehouse staying summary time times unpacking usage values worker writer
    backfill filling history progress replacing slices demo_live
    sessions showing trend visits definitions events letters periods system billing
    changes closed closing folder identities lacking parquet reading redis_owners revisions stream
    together verifying writing behind events
    ingest request_topics segment sql_values sql_where translating
    building memory_epochs redis_epochs rebuilding
    backup control restoring
    doctor size sizing drawing examining examining_redis notes redis_health status tables
    again clocked correct correcting correction corrections duplicates folding homes mending naming
    memory_held redis_corrections stale amend originals causes kafka_names subtract marking marked
    kafka_metadata pieces together_query
"""
ORDINARY = frozenset(_ORDINARY.split())
# Public classes of one name in two modules, and why that misleads nobody.
TWICE = {
    "Ends": "a Protocol of readers, and what implements it in a server",
    "Page": "a page of any list, and its form in Metronome's answers",
    "Part": "a part of a batch that is unpacked, and of a question that is answered",
    "Stands": "what an answer stands on, and its form in Metronome's answers",
}


def glossary() -> dict[str, str]:
    """Every word of the glossary, without quotes, and what is said of it."""
    found: dict[str, str] = {}
    for line in (ROOT / "docs/glossary.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells[0] in {"word", "---"}:
            continue
        assert len(cells) == 3, line
        assert all(cells), line
        for word in cells[0].replace("`", "").split(", "):
            assert word not in found, word
            found[word] = " ".join(cells[1:])
    return found


def bare(word: str) -> str:
    """A word without what tells it from another one: `owner (of a cell)` is `owner`."""
    return re.sub(r" \(.*\)", "", word)


def test_every_word_is_used() -> None:
    """Every word of the glossary is in the code, as a name or in a sentence."""
    paths = [*(ROOT / "definitions").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")]
    paths += [*(ROOT / "pipeline").rglob("*.lua"), *(ROOT / "native/src").glob("*.rs")]
    code = "\n".join(path.read_text() for path in paths)
    # `LogRecord` and `log_record` are read as "log record".
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", code).lower()
    patterns = {word: bare(word).lower().replace(" ", "[ -]") for word in glossary()}
    unused = [word for word, each in patterns.items() if not re.search(rf"\b{each}s?\b", text)]

    assert unused == []


def test_every_name_of_a_module_is_a_word() -> None:
    """The name of every module is in the glossary, or one of the stated ordinary words."""
    words = {bare(word).lower() for word in glossary()}
    paths = [*(ROOT / "definitions").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")]
    modules = {path.stem for path in [*paths, *(ROOT / "native/src").glob("*.rs")]}
    unknown = {
        module
        for module in modules
        if not module.startswith("__")
        and not {module, module.removesuffix("s"), module.replace("_", " ")} & (words | ORDINARY)
    }

    assert unknown == set()
    assert {word for word in ORDINARY if word not in modules} == set()


def test_no_two_classes_share_a_name() -> None:
    """A public class has a name of its own, except where it is said why not."""
    homes: dict[str, list[str]] = {}
    for name, tree in sources("definitions", "pipeline"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name)

    assert {name for name, places in homes.items() if len(places) > 1} == set(TWICE)


def words_of(text: str) -> set[str]:
    """The words of a name or a sentence that carry a meaning, without endings of the plural."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text).lower()
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+", spaced)} - _EMPTY


_EMPTY = {"return", "the", "a", "an", "of", "it", "in", "and", "to", "that", "for", "with", ""}


def test_no_docstring_repeats_a_name() -> None:
    """A docstring of one line says something that the names of its function do not."""
    repeated = []
    for name, tree in sources("pipeline/core", "pipeline/app"):
        for outer in ast.walk(tree):
            for node in ast.iter_child_nodes(outer):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                names = f"{getattr(outer, 'name', '')} {node.name} {ast.unparse(node.args)}"
                said = ast.get_docstring(node)
                if said and not words_of(said) - words_of(
                    f"{names} {ast.unparse(node.returns or node.args)}"
                ):
                    repeated.append(f"{name}: {node.name}: {said}")

    assert repeated == []


def test_ports_are_contracts() -> None:
    """Every method of a port says what returning means; an answer of None or no is explained."""
    (tree,) = [tree for name, tree in sources("pipeline") if name == "pipeline/ports.py"]
    silent = []
    for port in ast.walk(tree):
        if not isinstance(port, ast.ClassDef) or "Protocol" not in map(ast.unparse, port.bases):
            continue
        for node in port.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            said, answer = ast.get_docstring(node) or "", ast.unparse(node.returns or node)
            wanted = {"None": "| None", "False": "bool", "REFUSED": "Answer"}
            words = [word for word, mark in wanted.items() if mark in answer]
            if not said or any(
                word not in said and "what read() says" not in said for word in words
            ):
                silent.append(f"{port.name}.{node.name}")

    assert silent == []


def test_paths_of_the_glossary_exist() -> None:
    """Every module or folder that the glossary names as a home is there."""
    missing = [
        path
        for where in glossary().values()
        for path in re.findall(r"`((?:pipeline|definitions|native|docs)/[\w./]*)`", where)
        if not (ROOT / path).exists()
    ]

    assert missing == []
