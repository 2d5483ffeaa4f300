from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ansm_fast.ops import image_pack, image_unpack
from ansm_fast.ops.cases import DTYPES, LAYOUTS, laid_out

from .conftest import BACKENDS

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
FORMATS = (torch.contiguous_format, torch.channels_last)


def photographs(size: tuple[int, int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)


@given(
    size=SIZES,
    dtype=st.sampled_from(DTYPES),
    memory_format=st.sampled_from(FORMATS),
    bgr=st.booleans(),
)
def test_pack_equals_the_reference_bit_for_bit(size, dtype, memory_format, bgr) -> None:
    images = photographs(size)
    options = {"bgr": bgr, "memory_format": memory_format, "dtype": dtype}
    found, expected = (image_pack(images, backend=name, **options) for name in BACKENDS)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("bgr", [True, False])
def test_round_trip_of_every_level(memory_format, dtype, bgr) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    packed = image_pack(images, bgr=bgr, memory_format=memory_format, dtype=dtype)
    assert torch.equal(image_unpack(packed, bgr=bgr), images)


def test_channel_order() -> None:
    image = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    torch.testing.assert_close(image_pack(image).flatten(), torch.tensor([0.2, 0.0, 1.0]))
    torch.testing.assert_close(
        image_pack(image, bgr=False).flatten(), torch.tensor([1.0, 0.0, 0.2])
    )


@given(
    size=SIZES,
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(LAYOUTS),
    bgr=st.booleans(),
    levels=st.sampled_from([None, 0.0, 1.0, 2.5, 8.0]),
    per_sample=st.booleans(),
)
def test_unpack_equals_the_reference(size, dtype, layout, bgr, levels, per_sample) -> None:
    image = laid_out(image_pack(photographs(size), dtype=dtype), layout)
    perturbation = laid_out((torch.randn(image.shape) * 0.05).to(dtype), layout)
    eps = None if levels is None else levels / 255
    if eps is not None and per_sample:
        eps = torch.full((size[0],), eps)
    found, expected = (
        image_unpack(image, perturbation, eps, bgr=bgr, backend=name) for name in BACKENDS
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_halfway_between_levels(dtype) -> None:
    """A fused multiply-add would round numbers here that the product alone rounds to a tie."""
    halves = ((torch.arange(255) + 0.5) / 255).to(dtype)
    around = [halves]
    for towards in (0.0, 1.0):
        step = halves
        for _ in range(4):
            step = torch.nextafter(step, torch.tensor(towards, dtype=dtype))
            around.append(step)
    image = torch.cat(around).expand(1, 3, 1, -1).contiguous()
    for noise in (None, torch.zeros_like(image)):
        found, expected = (image_unpack(image, noise, backend=name) for name in BACKENDS)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [0, 1, 2.5, 8])
def test_budget_holds_exactly_in_8_bits(dtype, levels) -> None:
    images = photographs((2, 50, 50))
    packed = image_pack(images, dtype=dtype)
    noise = torch.randn(packed.shape).to(dtype)
    moved = image_unpack(packed, noise, levels / 255).int() - image_unpack(packed).int()
    assert moved.abs().max() == int(levels)


def test_rounds_half_to_even_and_clamps() -> None:
    levels = torch.tensor([-3.0, 0.5, 1.5, 2.5, 254.5, 300.0, float("nan"), 254.4, 0.49]) / 255
    image = levels.reshape(1, 3, 3, 1).double()
    for backend in BACKENDS:
        found = image_unpack(image, bgr=False, backend=backend).permute(0, 3, 1, 2).flatten()
        expected = (levels.double() * 255).nan_to_num(0).clamp(0, 255).round()
        assert torch.equal(found, expected.to(torch.uint8))


def test_empty() -> None:
    assert image_pack(torch.empty(0, 4, 4, 3, dtype=torch.uint8)).shape == (0, 3, 4, 4)
    assert image_unpack(torch.empty(2, 3, 0, 4)).shape == (2, 0, 4, 3)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: image_pack(torch.zeros(1, 4, 4, 3)), TypeError, "images must be uint8"),
        (lambda: image_pack(torch.zeros(1, 4, 4, 4).byte()), ValueError, "(N, H, W, 3)"),
        (lambda: image_pack(torch.zeros(1, 4, 4, 3).byte(), dtype=torch.int8), TypeError, "dtype"),
        (
            lambda: image_pack(
                torch.zeros(1, 4, 4, 3).byte(), memory_format=torch.channels_last_3d
            ),
            ValueError,
            "memory_format",
        ),
        (lambda: image_unpack(torch.zeros(1, 1, 4, 4)), ValueError, "(N, 3, H, W)"),
        (lambda: image_unpack(torch.zeros(1, 3, 4, 4), eps=0.1), ValueError, "perturbation"),
        (
            lambda: image_unpack(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), -0.1),
            ValueError,
            "eps must be >= 0",
        ),
    ],
)
def test_errors(call, kind, words) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_order_is_a_bool(backend) -> None:
    """Any other object would be true, and "rgb" mean BGR."""
    for call in (
        lambda: image_pack(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), bgr="rgb", backend=backend),
        lambda: image_unpack(torch.zeros(1, 3, 2, 2), bgr="rgb", backend=backend),
    ):
        with pytest.raises(TypeError, match="bgr must be True or False, got 'rgb'"):
            call()
