"""Graphs of every bundled ANSM, in the programs that run them. Slow: each is traced for seconds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ansm_fast.export import OUTPUTS, export_onnx
from ansm_fast.export import onnx as onnx_export
from ansm_fast.models import BaseANSM, load_ansm

# (B, H, W): of one pixel, odd, one block of the stride, several blocks.
SIZES = [(1, 1, 1), (3, 33, 50), (1, 16, 16), (2, 64, 97)]
# Float32 sums in another order; far from half a grey level, 2e-3. No quantization of the simulated
# compression goes another way: exact halves, where it could, are rounded one way (models.jpeg).
TOLERANCE = 1e-5

pytestmark = pytest.mark.slow


class Exported:
    """One ANSM, its program of ``torch.export`` and its ONNX file, from one tracing."""

    def __init__(self, name: str, folder) -> None:
        self.ansm: BaseANSM = load_ansm(name)
        scored = self.ansm.has_attack_score
        self.outputs = OUTPUTS if scored else ("defended", "perturbation")
        self.path = folder / f"{name}.onnx"
        traced = onnx_export.trace

        def keep(network):
            self.program = traced(network)
            return self.program

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_export, "trace", keep)
            export_onnx(self.ansm, self.path, outputs=self.outputs)

    def wanted(self, image: torch.Tensor) -> list[np.ndarray]:
        with torch.inference_mode():
            perturbation, attacked = self.ansm.perturbation_and_map(image)
            found = {"defended": self.ansm.defend(image), "perturbation": perturbation}
            if attacked is not None:
                found |= {"attacked_map": attacked, "attack_score": self.ansm.attack_score(image)}
        return [found[name].numpy() for name in self.outputs]


@pytest.fixture(scope="module", params=["robust", "tiny", "two_view"])
def exported(request, tmp_path_factory) -> Exported:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    return Exported(request.param, tmp_path_factory.mktemp("onnx"))


def check(exported: Exported, run) -> None:
    torch.manual_seed(0)
    for batch, height, width in SIZES:
        image = torch.rand(batch, 3, height, width)
        found = [np.asarray(output) for output in run(image)]
        for name, ours, truth in zip(exported.outputs, found, exported.wanted(image), strict=True):
            assert ours.shape == truth.shape and ours.dtype == np.float32
            assert np.abs(ours - truth).max() <= TOLERANCE, (name, batch, height, width)


def test_program(exported) -> None:
    targets = {str(node.target) for node in exported.program.graph.nodes}
    assert not [name for name in targets if "ansm_fast" in name or "autocast" in name]
    with torch.inference_mode():
        check(exported, exported.program.module())


def test_onnxruntime(exported) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(exported.outputs)
    check(exported, lambda image: session.run(None, {"image": image.numpy()}))


def test_openvino(exported) -> None:
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        str(exported.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    check(exported, lambda image: list(compiled(image.numpy()).to_tuple()))


def test_file(exported) -> None:
    onnx = pytest.importorskip("onnx")
    model, ansm = onnx.load(exported.path), exported.ansm
    onnx.checker.check_model(model, full_check=True)
    assert {(one.domain, one.version) for one in model.opset_import} == {("", 18)}
    assert not model.functions and {node.domain for node in model.graph.node} == {""}
    sizes = [[d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]]
    assert sizes == [["batch", 3, "height", "width"]]
    facts = {fact.key: fact.value for fact in model.metadata_props}
    assert float(facts["eps_d"]) == ansm.eps_d and int(facts["stride"]) == ansm.stride
    assert int(facts["receptive_field"]) == ansm.receptive_field
    assert facts["fingerprint"] == ansm.fingerprint != ""
    assert facts["trained_for"] == ansm.trained_for != ""
    assert facts["attack_threshold"] == (
        str(ansm.attack_threshold) if ansm.has_attack_score else ""
    )
    assert json.loads(facts["outputs"]) == list(exported.outputs)
