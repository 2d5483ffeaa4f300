"""The network as it is as an ONNX graph, of sides that are multiples of 16."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ansm_fast.inference.optimize import for_inference
from ansm_fast.models import BaseANSM


class _Perturbation(nn.Module):
    def __init__(self, ansm: BaseANSM) -> None:
        super().__init__()
        self.ansm = for_inference(ansm).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        return self.ansm.unchecked_perturbation_and_map(image)[0]


def plain_onnx(ansm: BaseANSM) -> bytes:
    """Nothing rewritten but batch normalization, which is folded."""
    sides = {0: "batch", 2: "height", 3: "width"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "ansm.onnx"
        torch.onnx.export(
            _Perturbation(ansm).eval(),
            (torch.rand(1, 3, 64, 96),),
            str(path),
            input_names=["image"],
            output_names=["perturbation"],
            opset_version=17,
            dynamo=False,
            dynamic_axes={"image": sides, "perturbation": sides},
        )
        return path.read_bytes()
