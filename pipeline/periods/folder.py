"""The folder of a revision: its parts, and the manifest that says what they are.

`period=2026-11/revision=0001/part-00003.parquet`, and manifest.json. Rule 1: the manifest is
written last, once the revision's record is on the control log: a folder with a manifest is a whole
revision, and one without is none. Rule 2: while a job works it keeps `.plan.json`, what the files
will be, and for each part that is done a note with its checksum; a later job with the same plan
keeps those parts. Rule 3: one job at a time works on a period's folders.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..control.entities import Revision
from ..errors import ConflictError, UnknownNameError, UsageError
from .writing import FileFacts, facts_of, write_whole

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
_PLAN: Final = ".plan.json"


@dataclass(frozen=True, slots=True)
class PartFacts:
    """A part that is done. offsets: partition → the least and the greatest offset of its rows."""

    name: str
    file: FileFacts
    offsets: Mapping[int, tuple[int, int]]

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        offsets = {str(at): list(self.offsets[at]) for at in sorted(self.offsets)}
        return {"name": self.name, **self.file._asdict(), "offsets": offsets}


def part_of(told: Mapping[str, Any]) -> PartFacts:
    """Read what told() made."""
    offsets = {int(at): (low, high) for at, (low, high) in told["offsets"].items()}
    facts = FileFacts(told["rows"], told["bytes"], told["sha256"])
    return PartFacts(told["name"], facts, offsets)


class Folder:
    """The folder of one revision."""

    def __init__(self, root: Path, period: str, timezone: str, number: int) -> None:
        zone = timezone.replace("/", "_")
        named = period if timezone == "UTC" else f"{period}@{zone}"
        self.path = root / f"period={named}" / f"revision={number:04d}"

    @property
    def manifest(self) -> Path:
        """Where the manifest is, if the revision is whole."""
        return self.path / MANIFEST

    @contextmanager
    def held(self) -> Iterator[None]:
        """Work in the folder, alone.

        Raises:
            ConflictError: another job does. UsageError: the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path.parent / ".lock").open("wb")
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}; give another --to") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConflictError(
                    f"another job is at work in {self.path}; wait for it"
                ) from error
            yield

    def begin(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Note what the files will be; return the plan that an earlier job made, if it is equal.

        `parts` is no part of the comparison: an earlier job's number of parts is kept. What was
        made by another plan is taken away.

        Raises:
            ConflictError: the folder holds a whole revision that nobody knows.
        """
        if self.manifest.exists():
            raise ConflictError(
                f"{self.manifest} is there, but the control log knows no such revision: it is "
                "another deployment's; give another --to"
            )
        with suppress(OSError, ValueError):
            held: dict[str, Any] = json.loads((self.path / _PLAN).read_bytes())
            if {**held, "parts": 0} == {**plan, "parts": 0}:
                return held
        self.clear()
        write_whole(self.path / _PLAN, _json(plan))
        return dict(plan)

    def clear(self) -> None:
        """Take away everything."""
        for path in self.path.iterdir():
            path.unlink()

    def done(self, name: str) -> PartFacts | None:
        """Return a part that an earlier job finished, if its file is what the job noted."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            part = part_of(json.loads(self._note(name).read_bytes()))
            if facts_of(self.path / name, part.file.rows) == part.file:
                return part
        return None

    def note(self, part: PartFacts) -> None:
        """Note that a part is done."""
        write_whole(self._note(part.name), _json(part.told()))

    def _note(self, name: str) -> Path:
        return self.path / f".{name}.done"

    def finish(self, manifest: bytes) -> None:
        """Write the manifest, and take away what only helped to make it."""
        write_whole(self.manifest, manifest)
        self._tidy()

    def _tidy(self) -> None:
        for path in self.path.iterdir():
            if path.name.startswith("."):
                path.unlink()

    def finish_if(self, digest: str) -> bool:
        """Finish what a job left behind that wrote its record and no manifest.

        Returns:
            Whether the folder is that of the manifest with this digest.
        """
        with suppress(OSError):
            if digest_of(self.manifest.read_bytes()) == digest:
                self._tidy()
                return True
        with suppress(OSError, ValueError, KeyError, TypeError):
            plan = json.loads((self.path / _PLAN).read_bytes())
            notes = sorted(self.path.glob(".part-*.done"))
            parts = [part for note in notes if (part := self.done(note.name[1:-5])) is not None]
            manifest = manifest_of(plan, parts)
            if len(parts) == len(notes) and digest_of(manifest) == digest:
                self.finish(manifest)
                return True
        return False

    def remove(self) -> None:
        """Take the folder away: there is nothing to be said."""
        self.clear()
        self.path.rmdir()

    def read(self, revision: Revision) -> dict[str, Any]:
        """Return the manifest of a revision.

        Raises:
            UnknownNameError: it is not here. ConflictError: it is not that of the revision.
        """
        try:
            content = self.manifest.read_bytes()
        except OSError as error:
            raise UnknownNameError(
                f"{self.manifest} is not here: give the folder that revision {revision.number} "
                "was written to (--to, or RECOUNT_PERIODS_DIR)"
            ) from error
        if digest_of(content) != revision.digest:
            raise ConflictError(
                f"{self.manifest} is not that of revision {revision.number} on the control log "
                f"(sha256 {revision.digest}): it was changed, or is another job's"
            )
        found: dict[str, Any] = json.loads(content)
        return found

    def part(self, told: Mapping[str, Any]) -> Path:
        """Return the path of a part, once its bytes are what the manifest says.

        Raises:
            ConflictError: they are not.
        """
        part = part_of(told)
        path = self.path / part.name
        try:
            found = facts_of(path, part.file.rows)
        except OSError as error:
            raise ConflictError(f"{path}: {error.strerror}; restore it from a copy") from error
        if found != part.file:
            raise ConflictError(f"{path} is not what the manifest says; restore it from a copy")
        return path


def digest_of(content: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(content).hexdigest()


def manifest_of(plan: Mapping[str, Any], parts: list[PartFacts]) -> bytes:
    """Return the manifest of a revision: what was planned, and what the files are."""
    offsets: dict[int, tuple[int, int]] = {}
    for part in parts:
        for at, (low, high) in part.offsets.items():
            held = offsets.get(at, (low, high))
            offsets[at] = min(low, held[0]), max(high, held[1])
    told = {
        "schema": SCHEMA,
        **plan,
        "final": True,
        "rows": sum(part.file.rows for part in parts),
        "offsets": {str(at): list(offsets[at]) for at in sorted(offsets)},
        "files": [part.told() for part in parts],
    }
    return _json(told)


def _json(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
