"""What a GPU's machine has besides: large tensors, PyTorch's features, compute-sanitizer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.cases import functions
from tools.gpu import features, large, sanitizer
from tools.gpu.correctness import FAILED, NOT_RUN, PASSED

CPU = torch.device("cpu")


def test_large_checks_in_small() -> None:
    outcomes = large.run("cpu", CPU, elements=300_000, free=1 << 40)
    assert [outcome.detail for outcome in outcomes if outcome.status != PASSED] == []
    assert {outcome.op for outcome in outcomes} >= {"channelwise_kl", "image_pack", "pgd_step_"}


def test_large_checks_are_left_out_where_memory_is_short() -> None:
    outcomes = large.run("cpu", CPU, free=16 << 30)
    assert {outcome.status for outcome in outcomes} == {NOT_RUN}
    assert "GiB are free" in outcomes[0].detail


def test_large_checks_find_what_is_wrong_past_the_middle(plant) -> None:
    def change(result: Any, adv: torch.Tensor, *arguments: Any) -> None:
        adv.view(-1)[200_000:] += 1  # as an index that has overflowed leaves it

    plant("pgd_step_", change)
    outcomes = {o.op: o for o in large.run("planted", CPU, elements=300_000, free=1 << 40)}
    assert outcomes["pgd_step_"].status == FAILED and "differ" in outcomes["pgd_step_"].detail


@pytest.mark.slow
def test_compile_and_autocast_on_the_cpu() -> None:
    compiled = functools.partial(features.compiled, compiler="aot_eager")
    outcomes = features.run("cpu", CPU, features.ANYWHERE | {"compile": compiled})
    assert [outcome.detail for outcome in outcomes if outcome.status != PASSED] == []
    assert {outcome.op for outcome in outcomes} == set(functions())


def test_features_of_a_gpu_are_not_run_without_one() -> None:
    outcomes = features.run("cpu", CPU, features.ON_A_GPU)
    assert {(outcome.status, outcome.detail) for outcome in outcomes} == {(NOT_RUN, "needs a GPU")}


def test_a_feature_that_gives_other_numbers_is_found() -> None:
    one = {"loss": torch.tensor(1.0)}
    assert features.differs(one, one) is None
    assert "loss is off" in (features.differs(one, {"loss": torch.tensor(1.0 + 1e-6)}) or "")
    assert features.differs(one, {"loss": torch.tensor(1.0 + 1e-7)}, exactly=False) is None


REPORT = """========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at void {kernel}<float>(float *)+0x340 in file.cu:12
=========     by thread (64,0,0) in block (0,0,0)
=========     Host Frame: launch in /somewhere/ansm_fast/_C_cuda.so
=========
{ran}
========= ERROR SUMMARY: 1 error
"""
OURS, THEIRS = "ansm_fast::gpu::pgd::step", "at::native::vectorized_elementwise_kernel"


@pytest.mark.parametrize(
    ("code", "output", "status", "words"),
    [
        (0, sanitizer.RAN, PASSED, ""),
        (0, "nothing", FAILED, "ended with 0: nothing"),
        (1, sanitizer.RAN, FAILED, "ended with 1"),
        (sanitizer.FOUND, REPORT.format(kernel=OURS, ran=sanitizer.RAN), FAILED, OURS),
        (sanitizer.FOUND, REPORT.format(kernel=THEIRS, ran=sanitizer.RAN), PASSED, "none of them"),
        (sanitizer.FOUND, sanitizer.RAN, FAILED, "unread"),
        (sanitizer.FOUND, "========= Program hit an error\n" + sanitizer.RAN, FAILED, "Program"),
    ],
)
def test_what_the_sanitizer_says(code, output, status, words) -> None:
    found = sanitizer.verdict("cuda", code, output)
    assert found[0] == status and words in found[1]


def fake_tool(folder: Path, body: str) -> str:
    path = folder / "compute-sanitizer"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow  # the process takes the checkout's package, which need not be built
def test_the_tool_runs_this_script_under_each_of_its_checks(tmp_path) -> None:
    """A tool that only starts what it is given; it fails in racecheck."""
    tool = fake_tool(
        tmp_path,
        'echo "$PYTORCH_NO_CUDA_MEMORY_CACHING $*" >>"$(dirname "$0")/log"\n'
        f'if [ "$2" = racecheck ]; then echo "{sanitizer.RAN}"; exit {sanitizer.FOUND}; fi\n'
        f'if [ "$2" != memcheck ]; then echo "{sanitizer.RAN}"; exit 0; fi\n'
        'shift 6\nexec "$@"',
    )
    outcomes = {outcome.name: outcome for outcome in sanitizer.run("cpu", tool)}
    log = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[2] for line in log] == list(sanitizer.TOOLS)
    assert all(line.startswith("1 --tool") and "--sanitize-target" in line for line in log)
    assert outcomes["memcheck"].status == PASSED, outcomes["memcheck"].detail
    assert outcomes["racecheck"].status == FAILED
    assert outcomes["synccheck"].status == PASSED


def test_without_the_tool_that_is_stated(monkeypatch) -> None:
    monkeypatch.setattr(sanitizer, "find_tool", lambda: None)
    outcomes = sanitizer.run("cuda")
    assert {outcome.status for outcome in outcomes} == {NOT_RUN}
    assert "neither on the PATH" in outcomes[0].detail


def test_the_sanitizers_target_has_every_op() -> None:
    assert {case.op for case in sanitizer.target_cases()} == set(functions())
