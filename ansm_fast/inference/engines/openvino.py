"""OpenVINO on a CPU."""

from __future__ import annotations

import threading
import warnings
from collections import Counter, OrderedDict
from typing import Any

import torch
from torch import Tensor

from ansm_fast.inference.engines.traced import Traceable, example
from ansm_fast.models import BaseANSM

# A model of one shape is a tenth faster than that of all shapes; to compile it takes as long as
# several images.
_OFTEN = 24
_KEPT = 3
_NAMES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVINONetwork:
    """A model for all sizes, and one of its own for each of the few sizes that come often.

    Args:
        streams: cores to use, one for each thread that calls at once.
        precision: what OpenVINO is asked for; where the processor has no instructions for it, it
            computes in fp32.
    """

    def __init__(self, ansm: BaseANSM, streams: int, precision: str = "fp32") -> None:
        import openvino

        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_NUM_THREADS": streams,
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": _NAMES[precision],
            "CPU_RUNTIME_CACHE_CAPACITY": 96,
        }
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, about sizes that are no variables
            self._model = openvino.convert_model(
                Traceable(ansm).eval(),
                example_input=example(),
                input=[openvino.PartialShape([-1, 3, -1, -1])],
            )
        self._any_size = self._compiled(self._model)
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._of_size: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock, self._requests = threading.Lock(), threading.local()

    def _compiled(self, model: Any) -> Any:
        try:
            return self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError:  # a version that has no bound for kernels of former sizes
            self._settings.pop("CPU_RUNTIME_CACHE_CAPACITY", None)
            return self._core.compile_model(model, "CPU", self._settings)

    def _for(self, shape: tuple[int, ...]) -> Any:
        with self._lock:
            if shape in self._of_size:
                self._of_size.move_to_end(shape)
                return self._of_size[shape]
            self._seen[shape] += 1
            if self._seen[shape] < _OFTEN:
                return self._any_size
            del self._seen[shape]
            model = self._model.clone()
            model.reshape(list(shape))
            self._of_size[shape] = self._compiled(model)
            if len(self._of_size) > _KEPT:
                self._of_size.popitem(last=False)
            return self._of_size[shape]

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        compiled = self._for(tuple(image.shape))
        last: tuple[Any, Any] | None = getattr(self._requests, "last", None)
        if last is None or last[0] is not compiled:
            last = self._requests.last = (compiled, compiled.create_infer_request())
        found = last[1].infer([image.contiguous().numpy()], share_inputs=True)
        tensors = [torch.from_numpy(found[index]) for index in range(len(found))]
        return tensors[0], tensors[1] if len(tensors) > 1 else None
