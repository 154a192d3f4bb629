"""What versions fold with, made once and kept while the same ones are folded."""

from types import ModuleType
from typing import NamedTuple

from definitions.matcher import Matcher

from ..core.fold.rust import RustFold
from ..core.state import PartitionState
from .catalogue import Definitions


class Folding(NamedTuple):
    """A matcher, and what takes plain events under it; native: None without native/."""

    matcher: Matcher
    native: RustFold | None


class Foldings:
    """Makes them for one partition, and keeps the last."""

    def __init__(self, partition: int, definitions: Definitions) -> None:
        self._partition = partition
        self._definitions = definitions
        self._held: tuple[object, object, object, Folding] | None = None

    async def of_state(self, state: PartitionState, module: ModuleType | None) -> Folding:
        """Return what the versions fold with that a state folds next."""
        held = self._held
        # States share both and never change them: to compare objects is enough, and quick.
        if held is None or held[0] is not state.active or held[1] is not state.ended:
            made = await self._made(frozenset(state.folded), module)
            held = self._held = state.active, state.ended, module, made
        return held[3]

    async def of_versions(self, versions: frozenset[str], module: ModuleType | None) -> Folding:
        """Return what these versions fold with."""
        held = self._held
        if held is None or held[0] != versions or held[2] is not module:
            held = self._held = versions, None, module, await self._made(versions, module)
        return held[3]

    def clear(self) -> None:
        """Forget it: native/ has failed."""
        self._held = None

    async def _made(self, versions: frozenset[str], module: ModuleType | None) -> Folding:
        matcher, native = await self._definitions.matcher(versions), None
        if module is not None:
            deployment = self._definitions.identity.deployment
            native = RustFold(module, self._partition, deployment, matcher)
        return Folding(matcher, native)
