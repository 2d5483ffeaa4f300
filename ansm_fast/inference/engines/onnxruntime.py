"""ONNX Runtime on a CPU."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ansm_fast.inference.engines.traced import Traceable, example
from ansm_fast.models import BaseANSM

_NAMES = ("perturbation", "attacked")


class ONNXRuntimeNetwork:
    """A session that computes in the thread that calls it.

    Args:
        streams: as many threads of its own if one alone calls, otherwise none.
    """

    def __init__(self, ansm: BaseANSM, streams: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if streams > 1 else 0
        # Both keep memory for every shape that they have met.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            _as_onnx(ansm), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self._session.run(None, {"image": image.contiguous().numpy()})
        tensors = [torch.from_numpy(part) for part in found]
        return tensors[0], tensors[1] if len(tensors) > 1 else None


def _as_onnx(ansm: BaseANSM) -> bytes:
    # By tracing: the exporter of whole programs takes ten times as long, at every start.
    names = list(_NAMES[: 2 if ansm.has_attack_score else 1])
    sides = {0: "batch", 2: "height", 3: "width"}
    halves = {0: "batch", 2: "half_height", 3: "half_width"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "ansm.onnx"
        torch.onnx.export(
            Traceable(ansm).eval(),
            (example(),),
            str(path),
            input_names=["image"],
            output_names=names,
            opset_version=17,
            dynamo=False,
            dynamic_axes={"image": sides, _NAMES[0]: sides, _NAMES[1]: halves},
        )
        return path.read_bytes()
