"""What is exported computes what the ANSM does; quick, since nothing is traced."""

from __future__ import annotations

import pytest
import torch

from ansm_fast.errors import InputError
from ansm_fast.export import ExportableANSM, export_onnx
from ansm_fast.models import load_ansm


@pytest.mark.parametrize("name", ["robust", "tiny", "two_view"])
@pytest.mark.parametrize("size", [(1, 1), (33, 50)])
def test_the_same_as_the_ansm(name, size) -> None:
    ansm = load_ansm(name)
    image = torch.rand(3, 3, *size)
    scored = ansm.has_attack_score
    names = ("perturbation", *(("attack_score", "attacked_map") if scored else ()), "defended")
    with torch.inference_mode():
        found = dict(zip(names, ExportableANSM(ansm, names).eval()(image), strict=True))
        perturbation, attacked = ansm.perturbation_and_map(image)
        wanted = {"defended": ansm.defend(image), "perturbation": perturbation}
        if scored:
            wanted |= {"attacked_map": attacked, "attack_score": ansm.attack_score(image)}
    for output, tensor in wanted.items():
        assert torch.allclose(found[output], tensor, atol=1e-5), output


def test_outputs_by_default() -> None:
    assert ExportableANSM(load_ansm()).outputs == ("defended", "attacked_map", "attack_score")
    assert ExportableANSM(load_ansm("tiny")).outputs == ("defended",)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["mask"], "must be some of defended, perturbation, got 'mask'"),
        (["attack_score"], "cannot tell whether an image was attacked"),
        ([], r"got \[\]"),
        ("defended", "got 'defended'"),
        (["defended", "defended"], "must be some of"),
    ],
)
def test_outputs_that_it_has_not(outputs, said) -> None:
    with pytest.raises(InputError, match=said):
        ExportableANSM(load_ansm("tiny"), outputs)


def test_what_is_no_ansm() -> None:
    with pytest.raises(TypeError, match="ansm must be an ANSM, got Identity"):
        ExportableANSM(torch.nn.Identity())


def test_a_missing_package_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(InputError, match=r"needs onnx; pip install 'ansm-fast\[export\]'"):
        export_onnx(load_ansm(), tmp_path / "a.onnx")
