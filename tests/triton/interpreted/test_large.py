"""More than 2^31 elements: the last program of every launch, on memory that is mostly not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ansm_fast.ops.dual_mask import triton as dual_mask
from ansm_fast.ops.perturbation import triton as perturbation
from ansm_fast.ops.triton import NAMESPACE
from tools.triton.accesses import Accesses

MORE = 2**31 + 1024 * 300
TAIL = 1024


def op(name: str) -> Callable[..., object]:
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def empty(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    try:
        return torch.empty(shape, dtype=dtype)
    except RuntimeError as error:
        pytest.skip(f"no address space: {error}")


def tail_of(tensor: Tensor) -> Tensor:
    last = tensor if tensor.is_contiguous() else tensor.movedim(1, -1)
    return last.reshape(-1)[-TAIL:]


@pytest.fixture(autouse=True)
def no_loops_over_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of a million parts take the interpreter minutes, and their indices are small."""
    for module in (dual_mask, perturbation):
        launcher = module.wrap_triton

        def chosen(kernel, launcher=launcher):
            small = ("combine_kernel", "shrink_kernel", "scales_kernel")
            skipped = kernel.__name__.endswith(small)
            return {(1,): lambda *_, **__: None} if skipped else launcher(kernel)

        monkeypatch.setattr(module, "wrap_triton", chosen)


@pytest.mark.parametrize("l2", [False, True])
def test_perturbation(l2) -> None:
    image, noise = empty(1, MORE), empty(1, MORE)
    tail_of(image).fill_(0.5)
    tail_of(noise).fill_(0.3)
    with Accesses("last") as seen:
        found = op("clamp_project")(image, noise, 0.125, None, l2, 0.0, 1.0)
        op("pgd_step_")(image, noise, image, 0.125, None, 0.125, None, l2, 0.0, 1.0)
    assert not seen.races
    if not l2:
        assert torch.equal(tail_of(found), torch.full((TAIL,), 0.625).half())
        assert torch.equal(tail_of(image), tail_of(found))


def test_dual_mask() -> None:
    logits, mask = empty(1, MORE), empty(1, MORE, dtype=torch.uint8)
    tail_of(logits).zero_()
    tail_of(mask).zero_()
    sums = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 1.0]]], dtype=torch.float64)
    rest = (logits, None, mask, None, None, None, None, [1.0] * 6, None)
    with Accesses("last") as seen:
        op("dual_mask")(*rest, 2)
        gradient, _ = op("dual_mask_backward")(torch.tensor(1.0), sums, *rest, 2, True, False)
    assert not seen.races and tail_of(gradient).isfinite().all()


@pytest.mark.parametrize("pixels", [4096, 16384])
@pytest.mark.parametrize("last", [False, True])
def test_channelwise_kl(pixels, last) -> None:
    rows = MORE // 4096 * 4096 // pixels
    shape = (1, pixels, rows) if last else (1, rows, pixels)
    input = empty(*shape)
    input = input.movedim(-1, 1) if last else input
    end = input[:, -64:]
    end.copy_(torch.randn(end.shape))
    with Accesses("last") as seen:
        loss, gradient, _ = op("channelwise_kl")(input, input, 1.0, 0.0, True, 0, True, False)
        op("channelwise_kl_scale_")(gradient, torch.tensor(2.0))
    assert not seen.races
    if not last and pixels == 4096:
        assert loss[0, -1] == 0 and not tail_of(gradient).any()


@pytest.mark.parametrize("last", [False, True])
def test_image_pack(last) -> None:
    pixels = (MORE // 3 // 4096 + 1) * 4096
    images = empty(1, pixels // 4096, 4096, 3, dtype=torch.uint8)
    images.view(-1)[-3 * TAIL :] = 255
    with Accesses("last"):
        packed = op("image_pack")(images, True, last, torch.float16)
        back = op("image_unpack")(packed, None, 0.0, None, False, True)
    assert (tail_of(packed) == 1).all()
    assert (back.view(-1)[-TAIL + 3 :] == 255).all()
