"""The attacks of the evaluation by name: what is made, on what, and what its noise gives away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ansm_fast.attacks import Attack, attack_kind
from ansm_fast.attacks.gradient import Keep
from ansm_fast.attacks.registry import REMOVED
from ansm_fast.errors import InputError

MadeOn = Literal["victim", "surrogate", "defence", "stand-in"]


# How a title says what is unusual of an attack.
_OBJECTIVES = {
    "untargeted": "",
    "hide": ", hide",
    "wrong-mask": ", wrong mask",
    "own-prediction": ", own mask",
}


@dataclass(frozen=True)
class Entry:
    """One attack of the evaluation.

    Attributes:
        attack, objective, norm: of ``ansm_fast.attacks.Attack``; attack None: the image as it is.
        made_on: "victim", the localizer alone, whose attacker knows of no defence; "surrogate",
            another localizer; "defence", the localizer behind the very defence that is scored
            (adaptive); "stand-in", the localizer behind another defence.
        effort: times the protocol's steps; a query tells an attacker far less than a gradient.
        undefended: for "defence", the attack that the undefended localizer gets in its place.
        named: title in tables; by default that of the attack, with its norm and objective.
        worst_of: no attack of its own: of every image the worst that these have done to it.
    """

    attack: str | None
    objective: str = "untargeted"
    norm: str = "linf"
    made_on: MadeOn = "victim"
    effort: int = 1
    undefended: str = ""
    named: str = ""
    worst_of: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """In tables."""
        if self.named or self.attack is None:
            return self.named
        norm = " (L2)" if self.norm == "l2" else ""
        return attack_kind(self.attack).title + norm + _OBJECTIVES[self.objective]

    @property
    def mask_free(self) -> bool:
        """Made without this image's true mask and without the localizer's guess at it, or the same
        for every image. Any other attack writes the mask into its noise, where a defence may read
        it; what is restored then is no proof of a defence."""
        return self.attack is None or attack_kind(self.attack).mask_free(self.objective)

    @property
    def adaptive(self) -> bool:
        return self.made_on in ("defence", "stand-in")

    def make(
        self, eps: float, steps: int, seed: int, restarts: int = 1, keep: Keep = "last"
    ) -> Attack | None:
        """Make the configured attack; None for the unattacked image.

        Raises:
            InputError: a budget or number of steps out of range.
        """
        if self.attack is None:
            return None
        try:
            return Attack(
                self.attack,
                eps,
                steps * self.effort,
                objective=self.objective,  # type: ignore[arg-type]
                norm=self.norm,  # type: ignore[arg-type]
                seed=seed,
                restarts=restarts,
                keep=keep,
            )
        except ValueError as error:
            raise InputError(str(error)) from error


# A transferred attack on the true mask carries it as any other does; the mask-free transfer hides.
CATALOGUE: dict[str, Entry] = {
    "none": Entry(None, named="no attack"),
    "pgd": Entry("pgd"),
    "fgsm": Entry("fgsm"),
    "mifgsm": Entry("mifgsm"),
    "difgsm": Entry("difgsm"),
    "tifgsm": Entry("tifgsm"),
    "segpgd": Entry("segpgd"),
    "cw": Entry("cw", norm="l2"),
    "pgd-l2": Entry("pgd", norm="l2"),
    "square": Entry("square", effort=10),
    "hide": Entry("pgd", "hide"),
    "wrong-mask": Entry("pgd", "wrong-mask"),
    "own-prediction": Entry("pgd", "own-prediction"),
    "universal": Entry("universal"),
    "transfer": Entry("pgd", made_on="surrogate", named="transferred"),
    "transfer-hide": Entry("pgd", "hide", made_on="surrogate", named="transferred hide"),
    "noise": Entry("noise"),
    "adaptive": Entry("pgd", made_on="defence", undefended="pgd", named="adaptive"),
    "adaptive-hide": Entry(
        "pgd", "hide", made_on="defence", undefended="hide", named="adaptive, hide"
    ),
    "adaptive-wrong-mask": Entry(
        "pgd",
        "wrong-mask",
        made_on="defence",
        undefended="wrong-mask",
        named="adaptive, wrong mask",
    ),
    "adaptive-worst": Entry(
        "pgd",
        made_on="defence",
        named="adaptive, worst of three",
        worst_of=("adaptive", "adaptive-hide", "adaptive-wrong-mask"),
    ),
    "adaptive-transfer": Entry("pgd", made_on="stand-in", named="adaptive, transferred"),
}
ATTACKS = tuple(CATALOGUE)
QUICK_ATTACKS = ("none", "pgd", "hide", "wrong-mask", "adaptive-worst")


def catalogue_entry(name: str, where: str = "attacks") -> Entry:
    """Look up an attack of the evaluation by its name.

    Raises:
        InputError: there is none; ``where`` is what the error calls the list of names.
    """
    if name in REMOVED:
        raise InputError(f"{where}: {name!r} was removed; use {REMOVED[name]!r}")
    if name not in CATALOGUE:
        raise InputError(f"{where} must be of {', '.join(ATTACKS)}, got {name!r}")
    return CATALOGUE[name]
