"""`make fuzz SECONDS=n`: atheris drives definitions and events of every system.

The first byte chooses a system, the rest is a definition and an event, parted by a NUL. Whatever
is accepted must compile, come back, and fold the event as the recount reads it.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["definitions", "pipeline"]):
    from definitions.errors import DefinitionError
    from definitions.events import translate
    from definitions.events.common import Arrival
    from definitions.formats import FORMATS, native_body, parse
    from definitions.formats.bodies import parse_json
    from pipeline.log.publish import line_of

    from ..conformance.payloads import MAPPED
    from ..property.test_formats import audited
    from ..world import NOW

SYSTEMS = sorted(FORMATS)
PAYLOADS = Path(__file__).parents[1] / "data" / "formats" / "payloads"


def one(data: bytes) -> None:
    """Take one input; anything but a refusal or an agreement is a bug."""
    if len(data) < 2:
        return
    system = SYSTEMS[data[0] % len(SYSTEMS)]
    definition_text, _, event_text = data[1:].decode("utf-8", "replace").partition("\0")
    try:
        name, definition = parse(system, definition_text, MAPPED)
    except DefinitionError:
        return
    native_body(definition.origin, name)
    lines = [event_text.encode()]
    try:
        arrival = Arrival(NOW, new_id=lambda: "1")
        lines += map(line_of, translate(system, parse_json(event_text), arrival))
    except DefinitionError:
        pass
    assert audited(definition, lines) == []


def seeds(folder: Path) -> None:
    """Begin with every payload that is at hand, each definition with an event of its system."""
    index = json.loads((PAYLOADS / "index.json").read_text())
    texts = {name: (PAYLOADS / f"{name}.json").read_bytes() for name in index}
    for name, entry in index.items():
        if entry["kind"] != "create_definition":
            continue
        system = entry["system"]
        events = (
            other for other, e in index.items() if (e["system"], e["kind"]) == (system, "event")
        )
        seed = bytes([SYSTEMS.index(system)]) + texts[name] + b"\0" + texts[next(events)]
        (folder / name).write_bytes(seed)


def main() -> None:
    """Entry of the command; arguments are libFuzzer's."""
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
