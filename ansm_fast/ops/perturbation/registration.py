"""The operators of clamp_project, pgd_step_ and momentum_step_."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.autograd import (
    applier,
    below_autograd,
    called_at_once,
    first_order_only,
    one_after_the_other,
    raising_backward,
    records,
)
from ansm_fast.ops.budget import Budget, split
from ansm_fast.ops.layout import empty_in_order
from ansm_fast.ops.namespace import at_once, in_one_dtype, operator, takes_mixed_dtypes

FUNCTIONS = ("clamp_project", "pgd_step_", "momentum_step_")
# A `sample_*` argument, one float64 for all samples or one for each, takes the place of the number
# before it.
SCHEMAS = {
    "clamp_project": (
        "(Tensor image, Tensor perturbation, float eps, Tensor? sample_eps, bool l2, float min, "
        "float max) -> Tensor"
    ),
    # A gradient that is not asked for is an empty tensor.
    "clamp_project_backward": (
        "(Tensor grad_output, Tensor image, Tensor perturbation, float eps, Tensor? sample_eps, "
        "bool l2, float min, float max, bool grad_image, bool grad_perturbation) "
        "-> (Tensor, Tensor)"
    ),
    "pgd_step_": (
        "(Tensor(a0!) adv, Tensor grad, Tensor image, float alpha, Tensor? sample_alpha, "
        "float eps, Tensor? sample_eps, bool l2, float min, float max) -> ()"
    ),
    "momentum_step_": (
        "(Tensor(a0!) adv, Tensor(a1!) momentum, Tensor grad, Tensor image, float alpha, "
        "Tensor? sample_alpha, float eps, Tensor? sample_eps, float decay, bool l2, float min, "
        "float max) -> ()"
    ),
}


class ClampProjectFunction(torch.autograd.Function):
    """The derivative of eager calls."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, kernel: ClampProject, image: Tensor, perturbation: Tensor, options: tuple
    ) -> Tensor:
        with below_autograd():
            result: Tensor = kernel.at_once(image, perturbation, *options)
        ctx.save_for_backward(image, perturbation)
        ctx.kernel, ctx.options = kernel, options
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad
        image, perturbation = ctx.kernel.gradients(saved, ctx.options, needed[1:3], grad_output)
        return None, image, perturbation, None


class ClampProject:
    def __init__(self, namespace: str, fakes: bool) -> None:
        self._namespace = namespace
        self.forward = operator(namespace, "clamp_project")
        self.at_once = at_once(self.forward)
        self._differentiable = applier(ClampProjectFunction)
        self._gradients = operator(namespace, "clamp_project_backward")
        name, backward = f"{namespace}::clamp_project", f"{namespace}::clamp_project_backward"
        if fakes:
            torch.library.register_fake(name, self._fake)
            torch.library.register_fake(backward, self._fake_gradients)
        torch.library.register_autograd(name, self._backward, setup_context=self._setup)
        torch.library.register_autograd(backward, raising_backward("clamp_project"))
        torch.library.register_vmap(backward, one_after_the_other(self._gradients))

    def __call__(
        self, image: Tensor, perturbation: Tensor, eps: Budget, norm: str, min: float, max: float
    ) -> Tensor:
        dtype = image.dtype
        image, perturbation = in_one_dtype(self._namespace, image, perturbation)
        options = *split(eps), norm == "l2", min, max
        result: Tensor
        if torch.compiler.is_compiling():
            result = self.forward(image, perturbation, *options)
        elif records(image, perturbation):
            result = self._differentiable(self, image, perturbation, options)
        else:
            with below_autograd():
                result = self.at_once(image, perturbation, *options)
        return result if result.dtype == dtype else result.to(dtype)

    @staticmethod
    def _fake(image: Tensor, *arguments: Any) -> Tensor:
        return empty_in_order(image, image)

    @staticmethod
    def _fake_gradients(
        grad_output: Tensor, image: Tensor, perturbation: Tensor, *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        grad_image, grad_perturbation = arguments[-2:]
        return (
            empty_in_order(image, image) if grad_image else image.new_empty(0),
            empty_in_order(perturbation, image) if grad_perturbation else perturbation.new_empty(0),
        )

    @staticmethod
    def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
        image, perturbation, ctx.eps, sample_eps, *ctx.rest = inputs
        ctx.save_for_backward(image, perturbation, sample_eps)

    def _backward(self, ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        *saved, sample_eps = ctx.saved_tensors
        options = ctx.eps, sample_eps, *ctx.rest
        wanted = self.gradients(saved, options, ctx.needs_input_grad[:2], grad_output)
        return (*wanted, *(None,) * len(options))

    def gradients(
        self,
        saved: Sequence[Tensor],
        options: Sequence[Any],
        needed: Sequence[bool],
        grad_output: Tensor,
    ) -> list[Tensor | None]:
        """Of image and perturbation, those that are needed."""
        with called_at_once(grad_output):
            gradients = self._gradients(grad_output, *saved, *options, *needed)
        if not torch.is_grad_enabled():  # nothing to mark, in most backwards
            return [gradients[0] if needed[0] else None, gradients[1] if needed[1] else None]
        return [
            first_order_only(gradient, "clamp_project", grad_output, *saved) if need else None
            for gradient, need in zip(gradients, needed, strict=True)
        ]


class _Step:
    """A step that overwrites its first tensors."""

    def __init__(self, namespace: str, fakes: bool, name: str) -> None:
        self._namespace = namespace
        self._step = operator(namespace, name)
        self._step_at_once = at_once(self._step)
        if fakes:
            torch.library.register_fake(f"{namespace}::{name}", lambda *arguments: None)

    def _run(self, changed: tuple[Tensor, ...], read: tuple[Tensor, ...], *options: Any) -> None:
        if torch.compiler.is_compiling():
            self._run_in_one_dtype(changed, read, *options)
            return
        if takes_mixed_dtypes(self._namespace, changed[0]):
            with below_autograd():
                self._step_at_once(*changed, *read, *options)
        else:
            self._run_in_one_dtype(changed, read, *options)
        # Autograd must notice where it saved a tensor that a step has since overwritten.
        torch.autograd.graph.increment_version(changed)

    @torch.no_grad()
    def _run_in_one_dtype(
        self, changed: tuple[Tensor, ...], read: tuple[Tensor, ...], *options: Any
    ) -> None:
        """Convert what has another dtype than the attacked images; what is overwritten is copied
        there and back."""
        written = list(changed)
        if not takes_mixed_dtypes(self._namespace, changed[0]):
            dtype = changed[0].dtype
            read = tuple(tensor.to(dtype) for tensor in read)
            written = [tensor.to(dtype) for tensor in changed]
        self._step(*written, *read, *options)
        for tensor, result in zip(changed, written, strict=True):
            if result is not tensor:
                tensor.copy_(result)


class PgdStep(_Step):
    def __init__(self, namespace: str, fakes: bool) -> None:
        super().__init__(namespace, fakes, "pgd_step_")

    def __call__(
        self,
        adv: Tensor,
        grad: Tensor,
        image: Tensor,
        alpha: Budget,
        eps: Budget,
        norm: str,
        min: float,
        max: float,
    ) -> None:
        self._run((adv,), (grad, image), *split(alpha), *split(eps), norm == "l2", min, max)


class MomentumStep(_Step):
    def __init__(self, namespace: str, fakes: bool) -> None:
        super().__init__(namespace, fakes, "momentum_step_")

    def __call__(
        self,
        adv: Tensor,
        momentum: Tensor,
        grad: Tensor,
        image: Tensor,
        alpha: Budget,
        eps: Budget,
        decay: float,
        norm: str,
        min: float,
        max: float,
    ) -> None:
        self._run(
            (adv, momentum),
            (grad, image),
            *split(alpha),
            *split(eps),
            decay,
            norm == "l2",
            min,
            max,
        )


def bind(namespace: str, *, fakes: bool) -> dict[str, Callable[..., Any]]:
    return {
        "clamp_project": ClampProject(namespace, fakes),
        "pgd_step_": PgdStep(namespace, fakes),
        "momentum_step_": MomentumStep(namespace, fakes),
    }
