"""`--engine auto`: what is measured, and what is taken."""

from __future__ import annotations

import threading

import pytest
import torch

from ansm_fast.inference.engines import fastest
from ansm_fast.models import load_ansm


@pytest.mark.parametrize(
    ("rates", "taken"),
    [
        ({"eager": 3.0}, "eager"),
        ({"eager": 3.0, "openvino": 3.1, "onnxruntime": 2.0}, "eager"),
        ({"eager": 3.0, "openvino": 4.0, "onnxruntime": 3.5}, "openvino"),
        ({"eager": 3.0, "openvino": 2.0, "onnxruntime": 3.5}, "onnxruntime"),
    ],
)
def test_the_one_that_is_clearly_faster_is_taken(rates, taken) -> None:
    assert fastest.fastest(rates) == taken


def test_every_stream_computes_on_one_thread(monkeypatch) -> None:
    calls = []

    def network(image):
        calls.append((threading.get_ident(), torch.get_num_threads(), tuple(image.shape)))
        return image, None

    def made(ansm, name, device, streams):
        if name == "onnxruntime":
            raise RuntimeError("an operator that this version lacks")
        return network

    monkeypatch.setattr(fastest, "make_network", made)
    before = torch.get_num_threads()
    rates = fastest.measured(load_ansm("robust"), ["eager", "openvino", "onnxruntime"], streams=3)
    assert list(rates) == ["eager", "openvino"] and all(rate > 0 for rate in rates.values())
    assert len(calls) == 2 * 3 * (1 + fastest._ROUNDS)
    assert {threads for _, threads, _ in calls} == {1} and torch.get_num_threads() == before


def test_an_engine_that_fails_when_it_runs_is_left_out(monkeypatch) -> None:
    def fails(image):
        raise RuntimeError("an instruction that this processor lacks")

    monkeypatch.setattr(
        fastest,
        "make_network",
        lambda ansm, name, *rest: fails if name == "openvino" else lambda image: (image, None),
    )
    rates = fastest.measured(load_ansm("robust"), ["eager", "openvino"], streams=2)
    assert list(rates) == ["eager"] and fastest.fastest(rates) == "eager"


def test_an_error_of_the_network_is_not_swallowed(monkeypatch) -> None:
    def broken(image):
        raise RuntimeError("no memory")

    monkeypatch.setattr(fastest, "make_network", lambda *rest: broken)
    with pytest.raises(RuntimeError, match="no memory"):
        fastest.measured(load_ansm("robust"), ["eager"], streams=2)


def test_without_extras_there_is_nothing_to_measure(monkeypatch) -> None:
    monkeypatch.setattr(fastest, "missing", lambda name: ["x"] if name != "eager" else [])
    assert fastest.candidates() == ["eager"]
