"""What computes the network: PyTorch as it is or compiled, OpenVINO, ONNX Runtime.

Each engine is made of an ANSM and called with a batch, (B, 3, H, W) float32 RGB in [0, 1],
channels_last, H and W multiples of its stride; it gives the perturbation and the map of what was
attacked, or None. Threads may call it side by side.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from ansm_fast.errors import InputError
from ansm_fast.models import BaseANSM

Network = Callable[[Tensor], tuple[Tensor, Tensor | None]]

# Engine -> the packages that it needs beyond those of every installation.
NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "eager": (),
        "compile": (),
        "openvino": ("openvino",),
        "onnxruntime": ("onnxruntime", "onnx"),
    }
)
ENGINES = tuple(NEEDS)
PRECISIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def missing(engine: str) -> list[str]:
    """The packages that ``engine`` needs and that are not installed."""
    return [name for name in NEEDS[engine] if importlib.util.find_spec(name) is None]


def chosen_engine(engine: str, device: torch.device | str) -> str:
    """The engine that ``auto`` stands for on ``device``; any other one as it is.

    Raises:
        InputError: there is no such engine, it needs what is not installed, or it is one of a CPU
            and the device is another.
    """
    if engine == "auto":
        return "eager"
    if engine not in NEEDS:
        raise InputError(f"engine must be auto or one of {', '.join(ENGINES)}, got {engine!r}")
    if lacking := missing(engine):
        raise InputError(
            f"engine {engine} needs {' and '.join(lacking)}; pip install 'ansm-fast[{engine}]', or "
            "leave it to --engine auto"
        )
    if NEEDS[engine] and torch.device(device).type != "cpu":
        raise InputError(f"engine {engine} runs on a CPU here, got device {device}; try eager")
    return engine


def check_precision(precision: str, engine: str) -> None:
    """Raise InputError unless ``engine``, as ``chosen_engine`` gives it, computes in
    ``precision``."""
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision != "fp32" and engine == "onnxruntime":
        raise InputError(
            f"engine onnxruntime computes in fp32 on a CPU, not in {precision}; leave --precision "
            "out, or take another engine"
        )


def make_network(
    ansm: BaseANSM, engine: str, device: torch.device, streams: int, precision: str = "fp32"
) -> Network:
    """``ansm`` on ``device``; it stays as it is.

    Args:
        streams: how many threads will call at once.
        precision: one of ``PRECISIONS``, of the convolutions; what they give is float32 again.

    Raises:
        InputError: as ``chosen_engine`` and ``check_precision``.
    """
    engine = chosen_engine(engine, device)
    check_precision(precision, engine)
    if engine == "openvino":
        from ansm_fast.inference.engines.openvino import OpenVINONetwork

        return OpenVINONetwork(ansm, streams, precision)
    if engine == "onnxruntime":
        from ansm_fast.inference.engines.onnxruntime import ONNXRuntimeNetwork

        return ONNXRuntimeNetwork(ansm, streams)
    from ansm_fast.inference.engines.eager import compiled_network, eager_network

    make = compiled_network if engine == "compile" else eager_network
    return make(ansm, device, PRECISIONS[precision])
