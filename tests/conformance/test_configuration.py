"""docs/configuration.md is the settings: none is missing, none is described otherwise."""

import ast
import re

from pipeline.cli import loaded
from pipeline.cli.configuration import GROUPS, markdown
from pipeline.control.terms import _MEMBERS
from pipeline.settings import Settings

from ..services import ROOT

PAGE = (ROOT / "docs/configuration.md").read_text()


def part(heading: str) -> str:
    """The text below a heading of the second level."""
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def names(text: str) -> list[str]:
    """What stands in backticks in the first column of tables."""
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_the_page_is_what_the_command_prints() -> None:
    """Between its marks the page has the lines of `recount settings --markdown`, and no other."""
    made = PAGE.split("<!-- settings -->\n")[1].split("<!-- end of settings -->")[0]

    assert made == "".join(f"{line}\n" for line in markdown()), (
        "put the output of `recount settings --markdown` between the marks of the page"
    )


def test_every_setting_has_one_place_and_a_sentence() -> None:
    """Each field of Settings is in one group, and its meaning is a sentence that ends."""
    grouped = [name for group in GROUPS.values() for name in group]

    assert sorted(grouped) == sorted(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert re.fullmatch(r"[A-Z].+\.", field.description or ""), name


def test_variables_that_are_no_settings() -> None:
    """Every variable that code and compose.yaml read beside Settings is on the page."""
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(args=[ast.Constant(value=str(name)), *_]) if ast.unparse(
                    node.func
                ) in {"os.environ.get", "os.getenv"}:
                    read.add(name)
                case ast.Subscript(slice=ast.Constant(value=str(name))) if (
                    ast.unparse(node.value) == "os.environ"
                ):
                    read.add(name)
                case ast.keyword(arg="envvar", value=ast.Constant(value=str(name))):
                    read.add(name)

    assert set(names(part("Variables that are no settings"))) == read


def test_options_of_init_and_names_of_the_formats() -> None:
    """The page has each option of `recount init` and each member of its --config file."""
    options = [option.opts[0] for option in loaded("init").params if option.name != "help"]

    told = re.findall(r"^\| `(--[\w-]+)` \|", part("Settings of a deployment"), re.MULTILINE)
    assert told == options
    assert set(names(part("Names of the formats"))) == {
        f"{system}.{member}" for system, members in _MEMBERS.items() for member in members
    }
