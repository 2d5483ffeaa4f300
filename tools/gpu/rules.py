"""What results must be. Each rule names what is wrong in one line, or returns None."""

from __future__ import annotations

import torch
from torch import Tensor

from ansm_fast.ops.cases import DOUBLE, HALVES, Case, Tensors
from tools.cases import functions
from tools.gpu import calls


def largest(tensor: Tensor) -> float:
    """The largest size of a number in the tensor; NaN if there is one."""
    return float(tensor.double().abs().max()) if tensor.numel() else 0.0


def distance(found: Tensor, true: Tensor) -> float:
    return largest(found.double().cpu() - true.double().cpu())


def _form(case: Case, found: Tensors, true: Tensors) -> str | None:
    """Names, shapes and dtypes, and for images the order in memory."""
    if found.keys() != true.keys():
        return f"gives {', '.join(found)}, not {', '.join(true)}"
    wide = DOUBLE if case.dtype == DOUBLE else torch.float32
    for name, value in found.items():
        dtype = wide if name == "components" else case.dtype
        dtype = dtype if true[name].is_floating_point() else true[name].dtype
        if value.shape != true[name].shape or value.dtype != dtype:
            shape = tuple(true[name].shape)
            return f"{name} is {value.dtype} {tuple(value.shape)}, not {dtype} {shape}"
    return None


def _allowed(case: Case, tensors: Tensors, name: str, true: Tensor, peer: float) -> float:
    """How far from the truth a result may be; ``peer`` is how far PyTorch's own is."""
    size, rounding = largest(true), torch.finfo(case.dtype).eps
    smallest = torch.finfo(case.dtype).smallest_normal * rounding
    if case.dtype in HALVES and name != "components":
        return 2 * peer + rounding * size + smallest
    bound = functions()[case.op].tolerance(case, tensors)
    return bound.of_peer * peer + bound.relative * size + bound.absolute


def truth(case: Case, tensors: Tensors, found: Tensors) -> str | None:
    """Near the float64 reference; in half types at most twice as wrong as eager PyTorch."""
    true = calls.results(case, calls.in_double(tensors), "reference")
    wrong = _form(case, found, true)
    if wrong:
        return wrong
    device = next(iter(found.values())).device
    peers = _peers(case, tensors, device)
    for name, value in found.items():
        if not bool(value.isfinite().all()):
            return f"{name} is not finite"
        theirs = distance(peers[name], true[name]) if name in peers else 0.0
        error = distance(value, true[name])
        allowed = _allowed(case, tensors, name, true[name], theirs)
        if not error <= allowed:
            return f"{name} is off by {error:.3g}, allowed {allowed:.3g} (PyTorch's: {theirs:.3g})"
    return None


def _peers(case: Case, tensors: Tensors, device: torch.device) -> Tensors:
    """PyTorch's own results in the case's dtype, where a rule compares with how wrong they are."""
    if case.dtype not in HALVES and not functions()[case.op].tolerance(case, tensors).of_peer:
        return {}
    found: Tensors = {}
    if case.dtype in HALVES:
        found = calls.eager_results(case, calls.placed(tensors, "contiguous", device))
        found = {k: x for k, x in found.items() if bool(x.isfinite().all())}  # one that overflows
    cpu = torch.device("cpu")
    return calls.results(case, calls.placed(tensors, "contiguous", cpu), "reference") | found


def reference(case: Case, tensors: Tensors, found: Tensors) -> str | None:
    """As the reference in the same dtype: bit for bit where exact, NaN where it has NaN."""
    cpu = torch.device("cpu")
    backward = case.values == "random"
    true = calls.results(
        case, calls.placed(tensors, "contiguous", cpu), "reference", backward=backward
    )
    wrong = _form(case, found, true)
    if wrong:
        return wrong
    exact = functions()[case.op].exact
    for name, value in found.items():
        if exact:
            if not torch.equal(value.cpu(), true[name]):
                count = int((value.cpu() != true[name]).sum())
                return f"{name} differs from the reference in {count} of {value.numel()} elements"
        elif not torch.allclose(value.cpu(), true[name], rtol=1e-5, atol=1e-5, equal_nan=True):
            return f"{name} is not what the reference gives"
    wanted = case.options.get("memory_format")
    if wanted and not found["result"].is_contiguous(memory_format=wanted):
        return f"the result is not {wanted}"
    return None


def zero(case: Case, tensors: Tensors, found: Tensors) -> str | None:
    """Of equal maps: a loss of exactly 0, and without alpha gradients of exactly 0."""
    for name, value in found.items():
        if (name == "loss" or case.options["alpha"] == 0) and largest(value) != 0:
            return f"{name} of equal maps is {largest(value):.3g}, not 0"
    return None


def not_finite(case: Case, tensors: Tensors, found: Tensors) -> str | None:
    """A logit that is not finite shows in the loss of its sample and of no other."""
    true = calls.results(case, calls.in_double(tensors), "reference", backward=False)["loss"]
    loss = found["loss"].cpu()
    if loss.isfinite().tolist() != true.isfinite().tolist():
        return f"the losses are {loss.tolist()}, by the reference {true.tolist()}"
    finite = true.isfinite()
    if not torch.allclose(loss[finite].double(), true[finite], rtol=3e-5, atol=2e-6):
        return "the loss of another sample is off"
    return None


def unchanged(case: Case, tensors: Tensors, found: Tensors) -> str | None:
    """No budget or no gradient moves nothing."""
    key = "adv" if "adv" in found else "result"
    start = tensors["image"] if case.options["eps"] == 0 else tensors["adv"]
    if torch.equal(found[key].cpu(), start):
        return None
    return f"moved by {distance(found[key], start):.3g}, not 0"


def budget(case: Case, tensors: Tensors, found: Tensors) -> str | None:
    """Exactly in half types, to one rounding of the sum in others, exactly in 8 bits."""
    moved = found["adv" if "adv" in found else "result"].cpu()
    wide = DOUBLE if case.dtype == DOUBLE else torch.float32
    image, eps = tensors["image"].to(wide), case.options["eps"]
    far = largest(moved.to(wide) - image)
    slack = 0.0 if case.dtype in HALVES else torch.finfo(case.dtype).eps
    if not far <= float(torch.tensor(eps, dtype=wide)) + slack:
        return f"moved by {far:.9g}, more than {eps:.9g}"
    if not (float(moved.min()) >= 0 and float(moved.max()) <= 1):
        return f"leaves [0, 1]: {float(moved.min()):.9g} to {float(moved.max()):.9g}"
    if case.dtype in HALVES:
        return None
    shift = largest((moved.to(wide) * 255).round() - (image * 255).round())
    return None if shift <= round(eps * 255) else f"{shift:g} levels in 8 bits"


RULES = {
    "truth": truth,
    "reference": reference,
    "zero": zero,
    "not finite": not_finite,
    "unchanged": unchanged,
    "budget": budget,
}
FORWARD_ONLY = ("not finite", "unchanged", "budget")
