"""Attacks of torchattacks and adv_lib on localizers, rounded and measured like our own.

Both libraries attack classifiers. A localizer is shown to them as a segmentation model of two
classes with the logits (-z/2, z/2): its cross-entropy against the mask is the BCE of z, and both
classes answer to the image, as attacks that look at one of them expect.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ansm_fast.attacks.base import ConfiguredAttack
from ansm_fast.attacks.budget import NORMS, AttackResult, finish, radius
from ansm_fast.attacks.checks import LocalizerFunction, check_image, widened
from ansm_fast.attacks.counted import CountedLocalizer
from ansm_fast.attacks.objectives import OBJECTIVES
from ansm_fast.attacks.query import Victim, find_goal
from ansm_fast.attacks.victim import leaves_victim_as_found
from ansm_fast.errors import LocalizerError
from ansm_fast.ops.checks import check_number

LibraryCall = Callable[[Tensor, Tensor], Tensor]


class TwoClassModel(nn.Module):
    """Image (B, 3, H, W) to the logits (B, 2, H, W) of "pristine" and "forged": -z/2, z/2.

    The gradients that a library takes through it are watched as those of our own attacks are. The
    localizer is no submodule: a library that switches modes or collects parameters does not
    reach it.
    """

    def __init__(self, localizer: LocalizerFunction, device: torch.device) -> None:
        super().__init__()
        self._victim = (Victim(localizer),)
        # Libraries ask the first parameter where the model is.
        self.place = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        half = self._victim[0].observed(image) / 2
        return torch.cat([-half, half], dim=1)

    def finish(self) -> None:
        """See the watched gradients to their end; as ``Victim.finish``."""
        self._victim[0].finish()


def _load(module: str, name: str) -> Any:
    library = module.partition(".")[0]
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{library} cannot be imported ({error}); pip install 'ansm-fast[attacks]'"
        ) from error
    if not hasattr(loaded, name):
        raise ValueError(f"name must be an attack of {module}, got {name!r}")
    return getattr(loaded, name)


class _LibraryAttack(ConfiguredAttack):
    """What both adapters share; a subclass makes the library's call.

    Args:
        name: of the library's attack.
        eps: budget as of ``Attack``: for norm "l2" the root mean square of the noise.
        objective: as of ``Attack``; "hide" is the library's targeted mode with the empty mask.
        norm: in which the budget holds; it does not choose the attack.
        seed: of the library's random numbers, which it draws for a batch as a whole: with them
            the result depends on the batch.
        options: of the library's attack, as they are. Its eps and norm are set from ours, where it
            has them.
    """

    library = ""

    def __init__(
        self,
        name: str,
        eps: float,
        *,
        objective: str = "untargeted",
        norm: str = "linf",
        seed: int = 0,
        **options: Any,
    ) -> None:
        check_number("eps", eps)
        if not 0 <= eps <= 1:
            raise ValueError(f"eps must be in [0, 1], got {eps}; four grey levels are 4/255")
        for key, value, known in (("objective", objective, OBJECTIVES), ("norm", norm, NORMS)):
            if value not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, got {value!r}")
        self.name, self.eps, self.objective, self.norm = name, eps, objective, norm
        self.seed, self.options = seed, options

    def settings(self) -> dict[str, Any]:
        options = {key: _plain(value) for key, value in self.options.items()}
        return {
            "name": f"{self.library}.{self.name}", "eps": self.eps, "objective": self.objective,
            "norm": self.norm, "seed": self.seed, "options": options,
        }  # fmt: skip

    @leaves_victim_as_found
    def run(
        self,
        localizer: LocalizerFunction,
        image: Tensor,
        mask: Tensor,
        wrong_mask: Tensor | None = None,
        sample_ids: Sequence[int] | None = None,
    ) -> AttackResult:
        """As every attack's; what lies outside the budget is projected onto it.

        Raises:
            ImportError: the library is missing. ValueError: it has no such attack, the attack
                fails on a segmentation-shaped model or knows no targeted mode (for "hide"), or as
                every attack.
        """
        started = time.perf_counter()
        given = check_image(image)
        counted, image = CountedLocalizer(localizer, given.dtype), widened(given)
        goal = find_goal(Victim(counted), image, mask, self.objective, wrong_mask)  # type: ignore[arg-type]
        labels = (goal.target[:, 0] > 0.5).long()
        bound = float(radius(self.eps, self.norm, image[0].numel()))
        first = int(sample_ids[0]) if sample_ids else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self.seed, first)) & 0x7FFF_FFFF_FFFF_FFFF)
            model = TwoClassModel(counted, image.device)
            call = self._prepare(model, bound, goal.sign < 0)
            try:
                attacked = call(image.contiguous(), labels)
            except LocalizerError:
                raise
            except (IndexError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{self.name} of {self.library} failed on a model with logits (B, 2, H, W) "
                    f"({error}); use an attack that is not made for classifiers alone"
                ) from error
            model.finish()
        attacked = attacked.detach().to(image).clamp(0, 1)
        return finish(attacked, given, self.eps, self.norm, counted, started)

    @abstractmethod
    def _prepare(self, model: nn.Module, bound: float, targeted: bool) -> LibraryCall:
        """The library's attack, ready for an image and its labels."""


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


def _accepts(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


class TorchattacksAttack(_LibraryAttack):
    """An attack of torchattacks, by its class name there: ``TorchattacksAttack("PGD", 4 / 255)``.

    Any that needs of the model nothing but the cross-entropy of its logits fits: FGSM, BIM, PGD,
    PGDL2, MIFGSM, NIFGSM, VMIFGSM, EOTPGD and the like.
    """

    library = "torchattacks"

    def _prepare(self, model: nn.Module, bound: float, targeted: bool) -> LibraryCall:
        make = _load("torchattacks", self.name)
        options = dict(self.options)
        if _accepts(make, "eps"):
            options.setdefault("eps", bound)
        attack = make(model, **options)
        if targeted:
            if "targeted" not in attack.supported_mode:
                raise ValueError(
                    f"objective 'hide' needs a targeted mode, which {self.name} of torchattacks "
                    "has not; use another attack"
                )
            attack.set_mode_targeted_by_label(quiet=True)
        return attack


class AdvLibAttack(_LibraryAttack):
    """An attack of adv_lib, by its function name: ``AdvLibAttack("pdpgd", 4 / 255)``.

    The segmentation attacks asma, dag, pdgd and pdpgd look for the smallest noise that fools the
    share ``adv_threshold`` of all pixels; what they find beyond the budget is projected onto it.
    asma drives pixels towards labels and wants "hide"; alma_prox compares three classes and does
    not fit a mask's two.
    """

    library = "adv_lib"

    def _prepare(self, model: nn.Module, bound: float, targeted: bool) -> LibraryCall:
        attack = _load("adv_lib.attacks.segmentation", self.name)
        options = dict(self.options)
        if _accepts(attack, "norm"):
            options["norm"] = math.inf if self.norm == "linf" else 2
        return functools.partial(attack, model, targeted=targeted, **options)
