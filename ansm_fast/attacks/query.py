"""What an attack asks of its victim: scores, gradients, and how many of both it took."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ansm_fast.attacks.checks import (
    INFINITE,
    NO_GRADIENT,
    Budget,
    LocalizerFunction,
    check_counts,
    check_image,
    check_localizer,
    check_logits,
    check_mask,
    largest_of_each,
)
from ansm_fast.attacks.counted import counters
from ansm_fast.attacks.objectives import Goal, Objective, make_goal
from ansm_fast.errors import LocalizerError

Losses = Callable[[Tensor], Tensor]


class ZeroGradientWarning(UserWarning):
    """Images on which a gradient attack could do nothing: their gradient was zero at every step."""


class Victim:
    """A localizer as one attack sees it: its first answer is checked, its gradients are watched.

    On a CPU every gradient is looked at when it comes; elsewhere the first one, and all others
    together at the end (``finish``), so that nobody waits for the device in between.

    Args:
        localizer: image to logits.
        eot: evaluations that are averaged.
        batches: different batches that are asked about in turn, always in the same order.
    """

    def __init__(self, localizer: LocalizerFunction, eot: int = 1, batches: int = 1) -> None:
        self.localizer, self.eot, self._batches = localizer, eot, batches
        self._records = counters(localizer)
        check_localizer(self._records[-1].localizer if self._records else localizer)
        self._uncounted = self._records[-1].uncounted if self._records else localizer
        self._is_checked = False
        self._like: Tensor | None = None
        self._sweep: list[Tensor] = []
        self._wanted: list[Tensor] = []
        self._moved: Tensor | None = None
        self._asked: Tensor | None = None
        self._broken: Tensor | None = None
        self._blind: Tensor | None = None

    def __call__(self, image: Tensor) -> Tensor:
        logits = self.localizer(image)
        if not self._is_checked:
            sure = any(record.gives_logits for record in self._records)
            self._is_checked = True
            check_logits(logits, image, self._uncounted, sure)
            for record in self._records:
                record.gives_logits = True
        return logits

    def scores(self, image: Tensor, losses: Losses) -> Tensor:
        """Return (B,), the losses of the logits, averaged over ``eot`` evaluations; without
        gradient."""
        if not image.numel():
            return image.new_zeros(len(image))
        with torch.no_grad():
            found = torch.stack([losses(self(image)) for _ in range(self.eot)]).mean(0)
        broken = ~found.isfinite()
        self._blind = broken if self._blind is None else self._blind | broken
        return found

    def gradient(
        self, image: Tensor, losses: Losses, through: LocalizerFunction | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradient of the summed losses at ``image`` and the losses (B,), both averaged over
        ``eot`` evaluations.

        Expectation over transformation (Athalye et al. 2018): a randomized victim answers
        differently each time, and one answer's gradient says little about the next one's.

        Args:
            losses: of logits (B, 1, H, W), one a sample, to be summed over the batch.
            through: a function of the image that asks this victim; by default the victim itself.

        Raises:
            LocalizerError: the victim gives no gradient, or one that is not finite.
        """
        if not image.numel():
            return torch.zeros_like(image), image.new_zeros(len(image))
        self._like = image[:1].detach()
        total, value = torch.zeros(()), torch.zeros(())
        for turn in range(self.eot):
            with torch.enable_grad():
                leaf = image.detach().requires_grad_(True)
                logits = (self if through is None else through)(leaf)
                if not logits.requires_grad:
                    raise LocalizerError(NO_GRADIENT.format(fact="have no gradient"))
                once = losses(logits)
                inputs = (leaf, logits) if self._moved is None else (leaf,)
                found, *at_logits = torch.autograd.grad(once.sum(), inputs, allow_unused=True)
            if found is None:
                raise LocalizerError(
                    NO_GRADIENT.format(fact="do not depend on the image by any differentiable path")
                )
            if at_logits and turn == 0:
                self._wanted.append(largest_of_each(at_logits[0]) > 0)
            total = found if turn == 0 else total + found
            value = once.detach() if turn == 0 else value + once.detach()
        if self.eot > 1:
            total, value = total / self.eot, value / self.eot
        self._watch(total)
        return total, value

    def observed(self, image: Tensor) -> Tensor:
        """Logits of an image by which others differentiate; their gradient is watched too."""
        if not (torch.is_grad_enabled() and image.requires_grad):
            return self(image)
        self._like = image[:1].detach()
        seen = image.view_as(image)
        logits = self(seen)
        if not logits.requires_grad:
            raise LocalizerError(NO_GRADIENT.format(fact="have no gradient"))
        if self._moved is None:
            logits.register_hook(lambda found: self._wanted.append(largest_of_each(found) > 0))
        seen.register_hook(self._watch)
        return logits

    def _watch(self, gradient: Tensor) -> None:
        self._sweep.append(largest_of_each(gradient))
        if len(self._sweep) < self._batches:
            return
        largest, self._sweep = torch.cat(self._sweep), []
        moved, broken = largest > 0, ~largest.isfinite()
        if self._moved is None or self._broken is None:
            self._asked, self._moved, self._broken = (
                torch.cat(self._wanted)[-len(moved) :],
                moved,
                broken,
            )
            self._complain_of_broken()
            self._complain_of_nothing()
        elif len(moved) == len(self._moved):  # a library may go on with a part of the batch
            self._moved, self._broken = self._moved | moved, self._broken | broken
            if gradient.device.type == "cpu":
                self._complain_of_broken()

    def _complain_of_nothing(self) -> None:
        assert self._moved is not None and self._asked is not None
        if bool(self._moved.any()):
            for record in self._records:
                record.gives_gradients = True
        elif (
            bool(self._asked.any())
            and not any(one.gives_gradients for one in self._records)
            and not self._moves_noise()
        ):
            raise LocalizerError(NO_GRADIENT.format(fact="have a gradient of 0 everywhere"))

    def _moves_noise(self) -> bool:
        """Whether the logits of an image of noise have a gradient: then it is the images, a wholly
        white one behind a clamp for instance, that have none, and not the localizer."""
        assert self._like is not None
        noise = torch.rand(self._like.shape, generator=torch.Generator().manual_seed(0))
        with torch.enable_grad():
            leaf = noise.to(self._like).requires_grad_(True)
            logits = self._uncounted(leaf)
            (found,) = torch.autograd.grad(logits.sum(), leaf, allow_unused=True)
        return found is not None and bool(largest_of_each(found) > 0)

    def _complain_of_broken(self) -> None:
        if self._broken is not None and bool(self._broken.any()):
            where = [index for index, broken in enumerate(self._broken.tolist()) if broken]
            raise LocalizerError(
                f"the localizer's gradient is not finite for {len(where)} of {len(self._broken)} "
                f"images (the first is number {where[0]} of the batch); {INFINITE}"
            )

    def finish(self) -> None:
        """Say what the gradients were, at the end of an attack.

        Raises:
            LocalizerError: one was not finite, or a score was not.

        Warns:
            ZeroGradientWarning: that of an image was zero at every step, although its loss was not
            flat.
        """
        if self._blind is not None and bool(self._blind.any()):
            raise LocalizerError(
                f"the localizer's logits became NaN or infinite for {int(self._blind.sum())} of "
                f"{len(self._blind)} images; {INFINITE}"
            )
        if self._moved is None or self._asked is None:
            return
        self._complain_of_broken()
        stuck = self._asked & ~self._moved
        for record in self._records:
            record.stuck = stuck
        count = int(stuck.sum())
        if count:
            warnings.warn(
                f"the gradient of {count} of {len(stuck)} images was 0 at every step: what the "
                "attack gives there is its start",
                ZeroGradientWarning,
                stacklevel=4,
            )


def prepare(
    localizer: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    *,
    eps: Budget,
    steps: int = 1,
    eot: int = 1,
    norm: str = "linf",
    objective: Objective,
    wrong_mask: Tensor | None,
) -> tuple[Victim, Tensor, Goal]:
    """Return the victim, the image and the goal of an attack that can begin.

    "own-prediction" costs one forward.

    Raises:
        ValueError, TypeError: what an attack was given is of a wrong kind; it names the argument.
    """
    image = check_image(image)
    check_counts(eps, steps, eot, norm, image)
    victim = Victim(localizer, eot)
    return victim, image, find_goal(victim, image, mask, objective, wrong_mask)


def find_goal(
    victim: LocalizerFunction,
    image: Tensor,
    mask: Tensor,
    objective: Objective,
    wrong_mask: Tensor | None,
) -> Goal:
    """Return the goal of an attack on a checked ``image``, from masks that are checked here."""
    mask = check_mask("mask", mask, image)
    if objective == "wrong-mask" and wrong_mask is not None:
        wrong_mask = check_mask("wrong_mask", wrong_mask, image)
    own_mask = None
    if objective == "own-prediction":
        with torch.no_grad():
            own_mask = (victim(image) > 0).to(image.dtype)
    return make_goal(objective, mask, wrong_mask, own_mask)
