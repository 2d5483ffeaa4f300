"""The attacks of the evaluation by name: what is made, on what, and what its noise gives away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ansm_fast.attacks import Attack
from ansm_fast.errors import InputError

MadeOn = Literal["victim", "surrogate", "defence", "stand-in"]


@dataclass(frozen=True)
class Entry:
    """One attack of the evaluation.

    Attributes:
        title: in tables.
        attack, objective, norm: of ``ansm_fast.attacks.Attack``; attack None: the image as it is.
        made_on: "victim", the localizer alone, whose attacker knows of no defence; "surrogate",
            another localizer; "defence", the localizer behind the very defence that is judged
            (adaptive); "stand-in", the localizer behind another defence.
        leak_free: made without this image's true mask and without the localizer's guess at it, or
            the same for every image. An attack on the true mask writes that mask into its noise,
            where a defence may read it; what is restored then is no proof of a defence. One on the
            localizer's own mask does nearly the same (experiments/README.md has the figures).
        effort: times the protocol's steps; a query tells an attacker far less than a gradient.
        undefended: for "defence", the attack that the undefended localizer gets in its place.
    """

    title: str
    attack: str | None
    objective: str = "untargeted"
    norm: str = "linf"
    made_on: MadeOn = "victim"
    leak_free: bool = False
    effort: int = 1
    undefended: str = ""

    @property
    def adaptive(self) -> bool:
        return self.made_on in ("defence", "stand-in")

    def make(self, eps: float, steps: int, seed: int) -> Attack | None:
        """The configured attack; None for the unattacked image.

        Raises:
            InputError: a budget or number of steps out of range.
        """
        if self.attack is None:
            return None
        settings: dict[str, Any] = {"objective": self.objective, "seed": seed}
        if self.norm != "linf":
            settings["norm"] = self.norm
        try:
            return Attack(self.attack, eps, steps * self.effort, **settings)  # type: ignore[arg-type]
        except ValueError as error:
            raise InputError(str(error)) from error


# A transferred attack on the true mask carries it as any other does; the leak-free transfer hides.
CATALOGUE: dict[str, Entry] = {
    "none": Entry("no attack", None, leak_free=True),
    "pgd": Entry("PGD", "pgd"),
    "fgsm": Entry("FGSM", "fgsm"),
    "bim": Entry("BIM", "bim"),
    "mifgsm": Entry("MI-FGSM", "mifgsm"),
    "difgsm": Entry("DI-FGSM", "difgsm"),
    "tifgsm": Entry("TI-FGSM", "tifgsm"),
    "segpgd": Entry("SegPGD", "segpgd"),
    "cw": Entry("C&W (L2)", "cw", norm="l2"),
    "pgd-l2": Entry("PGD (L2)", "pgd", norm="l2"),
    "square": Entry("Square", "square", effort=10),
    "hide": Entry("PGD, hide", "pgd", "hide", leak_free=True),
    "wrong-mask": Entry("PGD, wrong mask", "pgd", "wrong-mask", leak_free=True),
    "own-prediction": Entry("PGD, own mask", "pgd", "own-prediction"),
    "universal": Entry("universal", "universal", leak_free=True),
    "transfer": Entry("transferred", "pgd", made_on="surrogate"),
    "transfer-hide": Entry("transferred hide", "pgd", "hide", made_on="surrogate", leak_free=True),
    "noise": Entry("random noise", "noise", leak_free=True),
    "adaptive": Entry("adaptive", "pgd", made_on="defence", undefended="pgd"),
    "adaptive-hide": Entry(
        "adaptive, hide", "pgd", "hide", made_on="defence", leak_free=True, undefended="hide"
    ),
    "adaptive-transfer": Entry("adaptive, transferred", "pgd", made_on="stand-in"),
}
ATTACKS = tuple(CATALOGUE)
DEFAULT_ATTACKS = tuple(name for name in CATALOGUE if name != "bim")
QUICK_ATTACKS = ("none", "pgd", "hide", "wrong-mask", "adaptive")
