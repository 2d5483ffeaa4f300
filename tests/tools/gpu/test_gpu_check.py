"""tools.gpu_check as far as a machine without a GPU can try it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ansm_fast.ops.cases import DTYPES, LAYOUTS, Case
from tools import gpu_check
from tools.cases import cases, functions
from tools.gpu import calls, correctness, results, rules
from tools.gpu.correctness import PASSED
from tools.ops import ROOT

CPU = torch.device("cpu")


def without_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")


# --- the cases ------------------------------------------------------------------------------------


def test_cases_cover_every_op_dtype_and_layout() -> None:
    every = cases()
    assert len({case.name for case in every}) == len(every)
    assert {case.op for case in every} == set(functions())
    for op in set(functions()) - {"image_pack", "channelwise_kl of pairs"}:
        found = {(case.dtype, case.layout) for case in every if case.op == op}
        assert found == {(dtype, layout) for dtype in DTYPES for layout in LAYOUTS}
    assert {case.rule for case in every} == set(rules.RULES)
    quick = cases(quick=True)
    assert {case.op for case in quick} == set(functions()) and len(quick) < len(every) / 2


def test_tensors_of_a_case_are_the_same_every_time_and_lie_as_asked() -> None:
    case = Case("dual_mask_loss", (2, 3, 7, 5), layout="channels_last", options={"mask": "bool"})
    first, again, other = calls.make(case), calls.make(case), calls.make(case, seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["logits_adv"], other["logits_adv"])
    for layout in LAYOUTS:
        placed = calls.placed(first, layout, CPU)
        assert all(torch.equal(placed[name], first[name]) for name in first)
        logits = placed["logits_adv"]
        assert logits.is_contiguous() == (layout in ("contiguous", "misaligned"))
        assert (logits.data_ptr() % 16 == 0) == (layout in ("contiguous", "channels_last"))


# --- correct ops pass -----------------------------------------------------------------------------


def test_quick_check_of_the_cpu(capsys, tmp_path, monkeypatch) -> None:
    """Passes, says nothing of a GPU, and writes nothing that was not asked for."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "gpu")
    assert gpu_check.main(["--backends", "cpu", "--quick"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^cpu +values +{len(cases(quick=True))} +0 +0$", said, re.MULTILINE)
    assert "GPU" not in said and "GB/s" not in said and "written" not in said
    assert not (tmp_path / "gpu").exists()


def test_result_file_of_the_cpu_names_no_gpu(tmp_path, capsys) -> None:
    path = tmp_path / "x.json"
    arguments = [
        "--backends",
        "cpu",
        "reference",
        "--quick",
        "--ops",
        "image_pack",
        "-o",
        str(path),
    ]
    assert gpu_check.main(arguments) == 0
    content = json.loads(path.read_text())
    assert content["facts"]["gpu"] is None and content["benchmark"] is None and content["passed"]
    assert {check["backend"] for check in content["checks"]} == {"cpu", "reference"}
    assert {check["status"] for check in content["checks"]} == {PASSED}
    assert content["facts"]["torch"] == torch.__version__
    with pytest.raises(ValueError, match="not made on a GPU"):
        results.page_text({"x.json": content})


@pytest.mark.slow
def test_every_case_on_the_cpu() -> None:
    outcomes = correctness.run(cases(), "cpu", CPU)
    assert not [outcome for outcome in outcomes if outcome.status != PASSED]


# --- without a GPU --------------------------------------------------------------------------------


def test_without_a_gpu_it_says_so_in_one_line(capsys) -> None:
    without_gpu()
    assert gpu_check.main([]) == 2
    said = capsys.readouterr().out
    assert said.startswith("gpu_check: no GPU here (torch") and said.count("\n") == 1
    assert "nothing was checked or measured" in said


@pytest.mark.parametrize("backend", ["cuda", "no such"])
def test_a_backend_that_cannot_run(backend, capsys) -> None:
    without_gpu()
    assert gpu_check.main(["--backends", "cpu", backend, "--quick"]) == 2
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and backend in said


def test_as_a_command() -> None:
    without_gpu()
    command = [sys.executable, "-m", "tools.gpu_check", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "no GPU" in done.stdout and not done.stderr


# --- wrong ops fail -------------------------------------------------------------------------------


class Backwards(torch.autograd.Function):
    """The same number, the gradient with another sign."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient


_draws = torch.Generator()

PLANTED: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "a loss 0.1 % too large": ("channelwise_kl", "channelwise_kl", lambda x, *_: x * 1.001),
    "a loss that is not 0": ("channelwise_kl", "channelwise_kl", lambda x, *_: x + 1e-12),
    "a gradient's sign": ("channelwise_kl", "channelwise_kl", lambda x, *_: Backwards.apply(x)),
    "other bits each time": (
        "channelwise_kl", "channelwise_kl",
        lambda x, *_: x * (1 + 1e-7 * torch.randint(0, 9, (), generator=_draws)),
    ),
    "a layer left out": (
        "channelwise_kl of pairs", "channelwise_kl_layers", lambda x, *_: [x[0], x[1] * 0],
    ),
    "components swapped": (
        "bce_dice_loss", "dual_mask", lambda x, *_: (x[0], x[1].flip(0)),
    ),
    "a last element unwritten": (
        "clamp_project", "clamp_project",
        lambda x, *_: torch.where(torch.arange(x.numel()).view_as(x) == x.numel() - 1, 7.0, x).to(
            x.dtype
        ),
    ),
    "a step past the budget": (
        "pgd_step_", "pgd_step_", lambda x, adv, grad, *_: adv.add_(grad.sign() * 1e-3),
    ),
    "a momentum forgotten": (
        "momentum_step_", "momentum_step_", lambda x, adv, momentum, *_: momentum.zero_(),
    ),
    "one level too many": ("image_unpack", "image_unpack", lambda x, *_: x.clamp(min=1)),
    "numbers a little too large": ("image_pack", "image_pack", lambda x, *_: x * 1.01),
    "a result in another dtype": ("clamp_project", "clamp_project", lambda x, *_: x.double()),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name, plant, capsys) -> None:
    op, native, change = PLANTED[name]
    plant(native, change)
    assert gpu_check.main(["--backends", "planted", "--quick", "--ops", op]) == 1
    assert f"failed: {op} " in capsys.readouterr().out


def test_an_exception_is_a_failure_of_its_case_alone(plant, capsys) -> None:
    def change(result: torch.Tensor, *arguments: Any) -> torch.Tensor:
        if result.dtype == torch.float16:
            raise RuntimeError("an illegal\nmemory access")
        return result

    plant("image_pack", change)
    assert gpu_check.main(["--backends", "planted", "--quick", "--ops", "image_pack"]) == 1
    said = capsys.readouterr().out
    assert "RuntimeError: an illegal memory access" in said
    assert re.search(r"^planted +values +[1-9]\d* +[1-9]", said, re.MULTILINE)


def test_a_part_that_ends_early_is_a_failure(monkeypatch, capsys) -> None:
    def lost(*arguments: Any) -> None:
        raise RuntimeError("the device was lost")

    monkeypatch.setattr(correctness, "run", lost)
    assert gpu_check.main(["--backends", "cpu", "--quick"]) == 1
    assert "the device was lost" in capsys.readouterr().out


def test_half_types_may_be_twice_as_wrong_as_eager_and_no_more() -> None:
    case = Case("channelwise_kl", (2, 8, 20, 20), torch.bfloat16, options={"reduction": "sum"})
    tensors = calls.make(case)
    found = calls.results(case, calls.placed(tensors, "contiguous", CPU), "cpu")
    assert rules.truth(case, tensors, found) is None
    worse = found | {"gradient of input": found["gradient of input"] * 1.05}
    assert "gradient of input is off" in (rules.truth(case, tensors, worse) or "")
