"""An ANSM as an ONNX file."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ansm_fast.errors import InputError
from ansm_fast.export.network import ExportableANSM
from ansm_fast.export.program import trace, write_whole
from ansm_fast.models import BaseANSM

# The first with antialiased resizing and what newer exporters build on; ONNX Runtime reads it from
# 1.14 on, OpenVINO from 2023 on.
OPSET = 18
_SIZES: dict[str, list[str | int]] = {
    "image": ["batch", 3, "height", "width"],
    "attacked_map": ["batch", 1, "half_height", "half_width"],
    "attack_score": ["batch"],
}


def export_onnx(ansm: BaseANSM, path: str | Path, *, outputs: Sequence[str] | None = None) -> None:
    """Write ``ansm`` to an ONNX file; a file that was there is replaced once the new one is whole.

    The graph's input ``image`` is (batch, 3, height, width) float32, RGB in [0, 1], of any batch,
    height and width from 1 on: padding is part of it. It holds standard operators alone, of opset
    18, and its metadata tell ``eps_d``, ``stride``, ``receptive_field``, ``fingerprint``,
    ``trained_for`` (the localizer's fingerprint), ``attack_threshold``, ``outputs`` (JSON) and
    ``ansm_fast`` (the version that wrote it).

    Args:
        outputs: names of the graph's outputs, as of ``export_program``.

    Raises:
        InputError: as ``export_program``; ``onnx`` or ``onnxscript`` is not installed; the file
            cannot be written.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"an ONNX file needs {' and '.join(missing)}; pip install 'ansm-fast[export]'"
        )
    network = ExportableANSM(ansm, outputs).cpu()
    with _quiet():
        found = torch.onnx.export(
            trace(network),
            input_names=["image"],
            output_names=list(network.outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert found is not None
    write_whole(path, _described(found.model_proto, ansm, network.outputs).SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that nothing here needs, and of its own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(before)


def _described(model: Any, ansm: BaseANSM, outputs: Sequence[str]) -> Any:
    """The same model, with its sizes named and its metadata."""
    import onnx

    import ansm_fast

    graph = model.graph
    del graph.value_info[:]  # sizes under the names that the exporter gave them
    for value in (*graph.input, *graph.output):
        sizes = _SIZES.get(value.name, _SIZES["image"])
        value.CopyFrom(
            onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, sizes)
        )
    model.producer_name, model.producer_version = "ansm_fast", ansm_fast.__version__
    facts = {
        "eps_d": repr(float(ansm.eps_d)),
        "stride": str(ansm.stride),
        "receptive_field": str(ansm.receptive_field),
        "fingerprint": ansm.fingerprint,
        "trained_for": ansm.trained_for,
        "attack_threshold": repr(ansm.attack_threshold) if ansm.has_attack_score else "",
        "outputs": json.dumps(list(outputs)),
        "ansm_fast": ansm_fast.__version__,
    }
    onnx.helper.set_model_props(model, facts)
    return model
