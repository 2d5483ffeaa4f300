"""The attacks by name: everything that commands, evaluation and training know of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ansm_fast.attacks.budget import NORMS
from ansm_fast.attacks.carlini_wagner import cw
from ansm_fast.attacks.diverse import difgsm, tifgsm
from ansm_fast.attacks.gradient import fgsm, mifgsm, pgd
from ansm_fast.attacks.randomness import uniform_start
from ansm_fast.attacks.segmentation import segpgd
from ansm_fast.attacks.square import square
from ansm_fast.attacks.universal import apply_universal

# An attack on the true mask writes that mask into its noise, and one on the localizer's own mask
# nearly so (experiments/README.md has the figures). These two don't see either.
MASK_FREE_OBJECTIVES = ("hide", "wrong-mask")


def random_noise(
    localizer: object,
    image: Tensor,
    mask: Tensor,
    *,
    eps: float,
    norm: str,
    seeds: Sequence[tuple[int, int]],
) -> Tensor:
    """Uniform noise within the budget: a control that asks the localizer nothing."""
    return uniform_start(image, eps, seeds, norm)


@dataclass(frozen=True)
class AttackKind:
    """One attack.

    Attributes:
        title: in tables.
        function: takes localizer, image, mask and its ``options`` as keywords; gives the attacked
            image, unrounded.
        options: of "steps", "alpha" (a distance, which the norm scales), "learning_rate" (passed as
            ``alpha``), "norm", "objective" (with ``wrong_mask`` and ``eot``), "seeds", "start" (a
            random one; several with "keep", which says what iterate is kept). With "tile" it takes
            image and tile alone, and the others are what the tile is fitted with.
        forwards, backwards: passes through the localizer for a number of steps; the objective
            "own-prediction" takes one forward more.
        norms: that it knows.
        needs_mask: with the objective "untargeted" its noise depends on the true mask of the very
            image that it is added to.
    """

    title: str
    function: Callable[..., Tensor]
    options: frozenset[str]
    forwards: Callable[[int], int]
    backwards: Callable[[int], int]
    norms: tuple[str, ...] = NORMS
    needs_mask: bool = True

    def cost(self, steps: int) -> float:
        """In gradient steps, one forward and one backward; a forward alone is a third of one."""
        forwards, backwards = self.forwards(steps), self.backwards(steps)
        return backwards + (forwards - backwards) / 3

    def mask_free(self, objective: str) -> bool:
        """Tell whether its noise says nothing of the true mask, so that no defence can read it
        there."""
        return not self.needs_mask or objective in MASK_FREE_OBJECTIVES


def _each(steps: int) -> int:
    return steps


def _never(steps: int) -> int:
    return 0


def _once(steps: int) -> int:
    return 1


_STEPS = frozenset({"steps", "alpha", "norm", "objective"})

KINDS: dict[str, AttackKind] = {
    "fgsm": AttackKind("FGSM", fgsm, frozenset({"norm", "objective"}), _once, _once),
    "pgd": AttackKind("PGD", pgd, _STEPS | {"start", "keep"}, _each, _each),
    "mifgsm": AttackKind("MI-FGSM", mifgsm, _STEPS, _each, _each),
    "difgsm": AttackKind("DI-FGSM", difgsm, _STEPS | {"seeds"}, _each, _each),
    "tifgsm": AttackKind("TI-FGSM", tifgsm, _STEPS, _each, _each),
    "segpgd": AttackKind("SegPGD", segpgd, _STEPS | {"start"}, _each, _each),
    "cw": AttackKind(
        "C&W", cw, _STEPS - {"alpha"} | {"learning_rate"}, lambda steps: steps + 1, _each
    ),
    "square": AttackKind(
        "Square", square, frozenset({"steps", "objective", "seeds"}), _each, _never, ("linf",)
    ),
    "universal": AttackKind(
        "universal", apply_universal, _STEPS | {"tile"}, _each, _each, needs_mask=False
    ),
    "noise": AttackKind(
        "random noise", random_noise, frozenset({"norm", "seeds"}), _never, _never,
        needs_mask=False,
    ),
}  # fmt: skip
ATTACKS: tuple[str, ...] = tuple(KINDS)

# Names of earlier versions, and what does the same or better.
REMOVED = {"bim": "pgd"}


def attack_kind(name: str, where: str = "name") -> AttackKind:
    """Look up an attack by its name.

    Raises:
        ValueError: there is none; ``where`` is what the error calls the name.
    """
    if name in REMOVED:
        raise ValueError(f"{where} {name!r} was removed; use {REMOVED[name]!r}")
    if name not in KINDS:
        raise ValueError(f"{where} must be one of {', '.join(ATTACKS)}, got {name!r}")
    return KINDS[name]
