"""Attacks as objects: configured once, run on batches, rounded to 8 bits within the budget."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from ansm_fast.attacks.base import ConfiguredAttack
from ansm_fast.attacks.budget import NORMS, AttackResult, Norm, finish, radius
from ansm_fast.attacks.checks import LocalizerFunction, check_image, check_mask, widened
from ansm_fast.attacks.counted import CountedLocalizer
from ansm_fast.attacks.gradient import KEEP, Keep
from ansm_fast.attacks.objectives import OBJECTIVES, Objective
from ansm_fast.attacks.randomness import uniform_start
from ansm_fast.attacks.registry import attack_kind
from ansm_fast.attacks.universal import universal_noise
from ansm_fast.attacks.victim import leaves_victim_as_found


@dataclass(frozen=True)
class Attack(ConfiguredAttack):
    """One attack with its settings.

    A transfer attack is any of these run on another localizer than the one it is meant for; an
    adaptive one is run on ``lambda image: localizer(ansm.defend(image))``.

    Attributes:
        name: of ``ATTACKS``: "fgsm", "pgd", "mifgsm", "difgsm", "tifgsm", "segpgd", "cw", "square"
            (black-box), "universal" (one tile of noise for all images), or "noise" (uniform random
            noise, a control); see ``attacks.registry``.
        eps: budget in units of the image, >= 0; 4/255 is four grey levels. For norm "linf" it
            bounds every value of the noise, for "l2" the root mean square of a sample's noise
            (||noise||_2 <= eps * sqrt(3 H W)), so that it means the same at every size.
        steps: gradient steps of the iterative attacks; queries of "square".
        alpha: step size in the units of eps (of "cw": Adam's learning rate); by default eps/4, at
            least eps/steps.
        objective: "untargeted", "hide", "wrong-mask" or "own-prediction"; see ``attack_loss``.
        norm: "linf" or "l2"; "square" knows "linf" alone.
        seed: of all random choices, together with each sample's id.
        eot: evaluations whose gradient (or score) is averaged, for victims that answer at random.
        tile: of "universal", fitted before with ``universal_noise``; without it ``run`` fits one to
            the batch that it is given.
        restarts: of "pgd": ascents from as many random starts, of which every image gets the one
            that ends with the highest loss.
        keep: of "pgd": "last", the end of an ascent, or "best", its iterate of the highest loss.
    """

    name: str
    eps: float
    steps: int = 20
    alpha: float | None = None
    objective: Objective = "untargeted"
    norm: Norm = "linf"
    seed: int = 0
    eot: int = 1
    tile: Tensor | None = field(default=None, compare=False, repr=False)
    restarts: int = 1
    keep: Keep = "last"

    def __post_init__(self) -> None:
        kind = attack_kind(self.name)
        for key, value, known in (
            ("objective", self.objective, OBJECTIVES),
            ("norm", self.norm, NORMS),
            ("keep", self.keep, KEEP),
        ):
            if value not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, got {value!r}")
        for key, number in (("eps", self.eps), ("alpha", self.alpha)):
            if number is not None and not isinstance(number, numbers.Real):
                raise TypeError(
                    f"{key} must be a number such as 4/255, got {type(number).__name__} {number!r}"
                )
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps must be in [0, 1], got {self.eps}; four grey levels are 4/255")
        counts = {key: getattr(self, key) for key in ("steps", "eot", "seed", "restarts")}
        for key, count in counts.items():
            if not isinstance(count, numbers.Integral):
                raise TypeError(f"{key} must be a whole number, got {count!r}")
            if count < 1 and key != "seed":
                raise ValueError(f"{key} must be >= 1, got {count}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be > 0 and finite, got {self.alpha}")
        if self.norm not in kind.norms:
            raise ValueError(
                f"norm must be {' or '.join(map(repr, kind.norms))} for the attack {self.name!r}, "
                f"got {self.norm!r}"
            )
        if (self.restarts > 1 or self.keep != "last") and "keep" not in kind.options:
            raise ValueError(
                f"restarts must be 1 and keep 'last' for the attack {self.name!r}, got "
                f"{self.restarts} and {self.keep!r}; 'pgd' knows more"
            )
        if self.tile is not None and "tile" not in kind.options:
            raise ValueError(f"tile must be None for the attack {self.name!r}, which uses none")

    @property
    def step_size(self) -> float:
        return self.alpha if self.alpha is not None else max(self.eps / 4, self.eps / self.steps)

    @property
    def cost(self) -> float:
        """Of one image in gradient steps; see ``AttackKind.cost``."""
        chosen = self.restarts > 1 or self.keep != "last"
        return self.eot * self.restarts * (attack_kind(self.name).cost(self.steps) + chosen / 3)

    def settings(self) -> dict[str, Any]:
        """Return all attributes but the tile; ``alpha`` is the step size in use.

        ``restarts`` and ``keep`` are left out at their defaults, so that a set that was made before
        there were such can be completed.
        """
        named = {item.name: getattr(self, item.name) for item in fields(self)}
        del named["tile"]
        for key, default in (("restarts", 1), ("keep", "last")):
            if named[key] == default:
                del named[key]
        return named | {"alpha": self.step_size}

    @leaves_victim_as_found
    def run(
        self,
        localizer: LocalizerFunction,
        image: Tensor,
        mask: Tensor,
        wrong_mask: Tensor | None = None,
        sample_ids: Sequence[int] | None = None,
    ) -> AttackResult:
        started = time.perf_counter()
        image = check_image(image)
        mask = check_mask("mask", mask, image)
        ids = range(len(image)) if sample_ids is None else sample_ids
        if len(ids) != len(image):
            raise ValueError(
                f"sample_ids must hold a number for each of {len(image)} images, got {len(ids)}"
            )
        seeds = [(self.seed, int(i)) for i in ids]
        counted = CountedLocalizer(localizer, image.dtype)
        attacked = self._attack(counted, widened(image), mask, wrong_mask, seeds)
        return finish(attacked, image, self.eps, self.norm, counted, started)

    def _attack(
        self,
        localizer: LocalizerFunction,
        image: Tensor,
        mask: Tensor,
        wrong_mask: Tensor | None,
        seeds: list[tuple[int, int]],
    ) -> Tensor:
        kind = attack_kind(self.name)
        if "tile" in kind.options:
            tile = self.tile
            if tile is None:
                tile = self.fit(localizer, image, mask, wrong_mask)
            return kind.function(image, tile)
        values = image[0].numel() if len(image) else 0
        bound = float(radius(self.eps, self.norm, values))
        options: dict[str, Any] = {"eps": bound}
        if "norm" in kind.options:
            options["norm"] = self.norm
        if "objective" in kind.options:
            options |= {"objective": self.objective, "wrong_mask": wrong_mask, "eot": self.eot}
        if "steps" in kind.options:
            options["steps"] = self.steps
        if "alpha" in kind.options:
            options["alpha"] = float(radius(self.step_size, self.norm, values))
        if "learning_rate" in kind.options:
            options["alpha"] = self.step_size
        if "seeds" in kind.options:
            options["seeds"] = seeds
        if "start" in kind.options:
            options["start"] = uniform_start(image, bound, seeds, self.norm)
        if "keep" in kind.options:
            # The first start is that of an attack without restarts.
            more = [
                uniform_start(image, bound, [(*seed, turn) for seed in seeds], self.norm)
                for turn in range(1, self.restarts)
            ]
            options |= {"start": [options["start"], *more], "keep": self.keep}
        return kind.function(localizer, image, mask, **options)

    def fit(
        self,
        localizer: LocalizerFunction,
        images: Tensor | Sequence[Tensor],
        masks: Tensor | Sequence[Tensor],
        wrong_masks: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Fit the tile of "universal" to these images: ``universal_noise`` with these settings."""
        return universal_noise(
            localizer, images, masks, self.eps, steps=self.steps, alpha=self.step_size,
            objective=self.objective, wrong_masks=wrong_masks, norm=self.norm, seed=self.seed,
            eot=self.eot,
        )  # fmt: skip


def make_attack(name: str, **settings: Any) -> Attack:
    """Make an ``Attack`` by name; the keywords are its attributes.

    Raises:
        TypeError: an unknown keyword, none for ``eps``, or one of a wrong type. ValueError: one out
            of range.
    """
    known = [one.name for one in fields(Attack)[1:]]
    unknown = [key for key in settings if key not in known]
    if unknown or "eps" not in settings:
        wrong = f"got {', '.join(unknown)}" if unknown else "got no eps, such as eps=4/255"
        raise TypeError(f"make_attack takes eps and {', '.join(known[1:])}; {wrong}")
    return Attack(name, **settings)
