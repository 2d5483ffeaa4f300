"""All that checks or measures image_pack and image_unpack; the operators' calls: ``calls.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.cases import (
    BRAIN,
    DTYPES,
    FLOAT,
    HALF,
    LAYOUTS,
    NATIVE_LAYOUTS,
    Benchmark,
    Case,
    Function,
    LargeCheck,
    OpCases,
    Shape,
    Tensors,
    per_sample,
)
from ansm_fast.ops.image_pack import calls, image_pack, image_unpack, large

PACK, UNPACK = "image_pack", "image_unpack"


# --- the functions, as cases call them ------------------------------------------------------------


def draw_levels(case: Case, generator: torch.Generator) -> Tensors:
    samples, channels, height, width = case.shape
    levels = (samples, height, width, channels)
    return {"images": torch.randint(0, 256, levels, generator=generator, dtype=torch.uint8)}


def draw(case: Case, generator: torch.Generator) -> Tensors:
    image = case.uniform(generator)
    if case.values == "halves":
        image = ((image * 255).floor() + 0.5) / 255
    made = {"image": image.to(case.dtype)}
    perturbation = case.normal(generator, 0.1)
    if case.options.get("eps") != "none":
        made["perturbation"] = perturbation * (0 if case.values == "halves" else 0.5)
    return made | per_sample(case)


def forward_pack(**given: Any) -> Tensors:
    return {"result": image_pack(**given)}


def forward_unpack(**given: Any) -> Tensors:
    if isinstance(given.get("eps"), str):  # "none": no perturbation either
        del given["eps"]
    return {"result": image_unpack(**given)}


def cases() -> Iterator[Case]:
    shapes = ((2, 3, 33, 47), (1, 3, 1, 1), (3, 3, 64, 64))
    for dtype, shape, bgr, last in product(DTYPES, shapes, (True, False), (False, True)):
        memory_format = torch.channels_last if last else torch.contiguous_format
        options: dict[str, Any] = {"bgr": bgr, "dtype": dtype, "memory_format": memory_format}
        quick = shape == shapes[0]
        yield Case(PACK, shape, dtype, rule="reference", options=options, quick=quick)
    for dtype, layout, eps, values in product(
        DTYPES, LAYOUTS, ("none", None, 2.5 / 255, "per sample"), ("random", "halves")
    ):
        options = {"bgr": layout != "gaps", "eps": eps}
        quick = dtype in (FLOAT, HALF) and layout in NATIVE_LAYOUTS
        shape = (2, 3, 33, 47)
        yield Case(UNPACK, shape, dtype, layout, values, "reference", options, quick=quick)
    for op in (PACK, UNPACK):
        yield Case(op, (0, 3, 4, 4), rule="reference", quick=True)


# --- what is timed --------------------------------------------------------------------------------

IMAGES = (8, 3, 512, 512)
EPS = 8 / 255


def eager_pack(images: Tensor) -> Tensor:
    return images.flip(-1).permute(0, 3, 1, 2).float().div(255).contiguous()


def eager_unpack(image: Tensor, noise: Tensor) -> Tensor:
    result = (image + noise.clamp(-EPS, EPS)).clamp(0, 1).mul(255).round().to(torch.uint8)
    return result.permute(0, 2, 3, 1).flip(-1).contiguous()


def unpack(image: Tensor, noise: Tensor, backend: str | None = None) -> Tensor:
    return image_unpack(image, noise, EPS, backend=backend)


def _levels(shape: Shape, device: torch.device) -> tuple[Tensor]:
    samples, channels, height, width = shape
    size = (samples, height, width, channels)
    return (torch.randint(0, 256, size, device=device, dtype=torch.uint8),)


def _images(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    image, noise = torch.rand(shape, device=device), torch.randn(shape, device=device) * 0.02
    return image.to(dtype), noise.to(dtype)


def benchmarks() -> Iterator[Benchmark]:
    for shape in (IMAGES, (32, 3, 1024, 1024)):
        quick, count = shape == IMAGES, math.prod(shape)
        for dtype in (FLOAT, BRAIN):
            least, images = (2 * dtype.itemsize + 1) * count, partial(_images, shape, dtype)
            yield Benchmark(
                UNPACK, shape, dtype, least, images, unpack, eager_unpack, quick=quick,
                cpu_targets={"copy": 2.0},
            )  # fmt: skip
        levels = partial(_levels, shape)
        yield Benchmark(
            PACK, shape, FLOAT, 5 * count, levels, image_pack, eager_pack, quick=quick,
            cpu_targets={"copy": 2.0},
        )  # fmt: skip


CASES = OpCases(
    functions={
        PACK: Function(draw_levels, forward_pack, (PACK,), exact=True),
        UNPACK: Function(draw, forward_unpack, (UNPACK,), exact=True),
    },
    cases=cases,
    features=(
        Case(PACK, (2, 3, 90, 91)),
        Case(UNPACK, (2, 3, 90, 91), options={"eps": "per sample"}),
    ),
    benchmarks=benchmarks,
    calls=calls.calls,
    traffic=calls.traffic,
    large=large.calls,
    opchecks=calls.opchecks,
    compiled=calls.compiled,
    large_checks=(LargeCheck(PACK, large.pack_and_unpack, 8),),
)
