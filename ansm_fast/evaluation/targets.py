"""What an attack is made on: the localizer, another one, or the localizer behind a defence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.defences import Defence, is_ansm, make_defence, weights_identity
from ansm_fast.evaluation.differentiable import TensorFunction, through

AdaptiveThrough = Literal["all", "ansm"]


@dataclass(frozen=True)
class Target:
    """One attacked set: what is attacked, and the defences that are scored on it.

    Attributes:
        label: name of the attack that is really made, for folders and progress.
        function: image to logits, differentiable.
        fingerprint: of the attacked system, for the record.
        identity: tells its weights and defence from all others.
        defences: scored on these images.
        behind: the defence that the attack goes through, in words.
        randomized: two calls of ``function`` differ.
    """

    label: str
    function: TensorFunction
    fingerprint: str
    identity: str
    defences: tuple[Defence, ...]
    behind: str = ""
    randomized: bool = False


@dataclass(frozen=True)
class Systems:
    """The localizer that is scored and all that stands around it.

    Attributes:
        localizer: image (B, 3, H, W) to logits (B, 1, H, W), differentiable.
        defences: the columns.
        surrogate: another localizer, for transferred attacks.
        stand_in: the defence that "adaptive-transfer" goes through; a Gaussian blur by default.
        adaptive_through: the defences that get adaptive attacks of their own: "all", or ANSMs
            alone, which is cheaper; the others then have no figure under those attacks.
        device: where the localizers are, and the ANSMs of the defences.
    """

    localizer: Any
    defences: Sequence[Defence]
    surrogate: Any = None
    stand_in: Defence | None = None
    adaptive_through: AdaptiveThrough = "all"
    device: torch.device | str = "cpu"

    def _behind(self, defence: Defence, label: str, scored: tuple[Defence, ...]) -> Target:
        return Target(
            label,
            through(self.localizer, defence.differentiable),
            f"{fingerprint(self.localizer)} through {defence.identity}",
            f"{weights_identity(self.localizer)} through {defence.identity}",
            scored,
            f"through {defence.title}",
            defence.randomized,
        )

    def targets(self, name: str) -> list[Target]:
        """Return what the attack ``name`` is made on; nothing if it needs a surrogate and none is
        there.

        Together the targets score every defence once, with two exceptions: what was made through a
        stand-in is not scored on that same defence, where it would be no transfer, and
        ``adaptive_through`` may leave defences out.
        """
        entry, every = CATALOGUE[name], tuple(self.defences)
        if entry.made_on == "surrogate":
            if self.surrogate is None:
                return []
            other = self.surrogate
            mark = weights_identity(other)
            return [Target(name, other, fingerprint(other), mark, every)]
        if entry.made_on == "stand-in":
            stand_in = self.stand_in or make_defence("gaussian")
            scored = tuple(one for one in every if one.identity != stand_in.identity)
            return [self._behind(stand_in, name, scored)]
        if entry.made_on == "defence":
            return [
                self._undefended(entry.undefended, (one,))
                if one.name == "none"
                else self._behind(one, name, (one,))
                for one in every
                if self.adaptive_through == "all" or one.name == "none" or is_ansm(one.name)
            ]
        return [self._undefended(name, every)]

    def _undefended(self, label: str, scored: tuple[Defence, ...]) -> Target:
        victim = self.localizer
        return Target(label, victim, fingerprint(victim), weights_identity(victim), scored)


def fingerprint(localizer: object) -> str:
    """Return the localizer's own fingerprint, or its class where it has none."""
    return getattr(localizer, "fingerprint", "") or type(localizer).__name__
