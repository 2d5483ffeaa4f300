from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ansm_fast.cli.doctor import command
from ansm_fast.ops import backends, library, slow
from ansm_fast.ops.backends import BACKENDS, OPS


def test_json_has_a_state_for_every_op_and_backend() -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert set(report["backends"]) == set(OPS)
    for states in report["backends"].values():
        assert set(states) == set(BACKENDS) and all(states.values())
        assert states["reference"] == "available"
        assert states["cuda"] == "available" or len(states["cuda"]) > 20
    assert report["runtime"]["threads"] >= 1
    assert all(len(mark) == 16 for mark in report["weights"].values())


@pytest.mark.parametrize("text", ["", '{"torch": "2.1', "[]"])
def test_a_torn_build_info_is_none(monkeypatch, tmp_path, text) -> None:
    monkeypatch.setattr(library, "PACKAGE", tmp_path)
    assert library.build_info() is None
    (tmp_path / "_build_info.json").write_text(text)
    assert library.build_info() is None


def test_the_table_names_every_backend() -> None:
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 0
    assert all(backend in result.output for backend in BACKENDS)


def test_both_libraries_and_the_runtime_are_reported() -> None:
    report = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert (report["cuda_library"] is None) == bool(report["cuda_library_missing_because"])
    assert set(report["runtime"]["driver"]) == {"version", "cuda"}
    for device in report["runtime"]["devices"]:
        assert device["name"] and device["memory"] > 0


@pytest.mark.parametrize(
    ("cuda", "built", "info", "wanted"),
    [
        (None, True, {}, "_C_cuda.so is built, but torch {torch} has no CUDA"),
        (None, False, {}, "torch {torch} has no CUDA, and _C_cuda.so is not built"),
        ("13.0", False, None, "it was installed without native code"),
        ("13.0", False, {"no_cuda_because": "no nvcc was found"}, "no nvcc was found; to get it"),
        ("13.0", True, {}, "_C_cuda.so could not be loaded"),
    ],
)
def test_why_there_is_no_cuda_library(
    cuda, built, info, wanted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "PACKAGE", tmp_path)
    monkeypatch.setattr(library, "PATH", tmp_path / "_C.abi3.so")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    if built:
        (tmp_path / "_C_cuda.so").write_text("no library")
    if info is not None:
        (tmp_path / "_build_info.json").write_text(json.dumps(info))
    path, reason = library._load_cuda()
    assert path is None and wanted.format(torch=torch.__version__) in reason


@pytest.mark.parametrize(
    ("architectures", "capability", "wanted"),
    [
        (["8.0", "9.0+PTX"], (8, 0), "machine code"),
        (["8.0", "9.0+PTX"], (8, 9), "machine code"),
        (["8.6"], (8, 0), None),
        (["8.0", "9.0+PTX"], (12, 0), "PTX"),
        (["8.0", "9.0"], (12, 0), None),
        (["7.5+PTX", "8.0"], (8, 7), "PTX"),
        (["8.7"], (8, 7), "machine code"),
        (["9.0a+PTX"], (10, 0), None),
        ([], (9, 0), None),
    ],
)
def test_what_a_library_has_for_a_device(architectures, capability, wanted) -> None:
    assert library.has_code_for(architectures, capability) == wanted


def test_a_command_on_the_reference_says_so_in_one_line(forgeries, run, monkeypatch) -> None:
    missing = backends.Backend(("cpu",), None, "gone missing")
    monkeypatch.setitem(backends._BACKENDS, "cpu", missing)
    monkeypatch.setattr(slow, "_told", set())
    monkeypatch.setattr(backends, "FORCED", None)
    result = run("defend --batch set/images -o out --weights tiny")
    assert result.code == 0
    (line,) = [line for line in result.err if "gone missing" in line]
    assert line.startswith("ansm-fast: warning: image_pack runs as plain PyTorch on 'cpu'")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nonsense",
            "must be one of cuda, triton, cpu, reference, got 'nonsense'; unset",
        ),
        ("cuda", "backend 'cuda' cannot run clamp_project: no GPU; unset ANSM_FAST_BACKEND or"),
    ],
)
def test_a_backend_that_cannot_be_forced_is_no_fault_of_ours(
    forgeries, run, monkeypatch, name, words
) -> None:
    monkeypatch.setattr(backends, "FORCED", name)
    absent = {"cuda": backends.Backend(why_not="no GPU")}
    monkeypatch.setattr(backends, "_BACKENDS", backends._BACKENDS | absent)
    result = run("attack set -o out --localizer builtin --steps 1")
    assert result.code == 2 and words in result.err[-1]
    shown = " ".join(run("doctor").out.split())
    assert f"ANSM_FAST_BACKEND forces {name}" in shown
    assert ("which is none of cuda, triton, cpu, reference: unset it" in shown) == (name != "cuda")
