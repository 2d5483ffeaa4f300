"""The CUDA library's build: which architectures, when it is tried, what is compiled again."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
# What nvcc --list-gpu-arch gives in CUDA 12.4 and 13.0.
CUDA_12_4 = [(5, 0), (6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0)]
CUDA_13_0 = [
    (7, 5), (8, 0), (8, 6), (8, 7), (8, 8), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0),
    (12, 1),
]  # fmt: skip
LATER = [*CUDA_13_0, (13, 0), (13, 3)]


@pytest.fixture
def cuda(monkeypatch):
    path = ROOT / "build_backend" / "cuda_library.py"
    if not path.exists():
        pytest.skip("the source tree is not at hand")
    for variable in ("ANSM_FAST_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    spec = importlib.util.spec_from_file_location("cuda_library", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cuda_library", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (CUDA_12_4, "7.5+PTX 8.0 8.6 8.9 9.0+PTX"),
        (CUDA_13_0, "7.5+PTX 8.0 8.6 8.9 9.0 10.0 12.0+PTX"),
        (LATER, "7.5+PTX 8.0 8.6 8.9 9.0 10.0 12.0 13.0+PTX"),
        ([(13, 3), (14, 0)], "13.3+PTX 14.0+PTX"),
    ],
)
def test_default_architectures(cuda, known, wanted) -> None:
    assert cuda.chosen_architectures(known, print) == wanted.split()


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("8.0;9.0+PTX", "8.0 9.0+PTX"),
        ("8.0 8.0, 8.6", "8.0 8.6"),
        ("9.0a", "9.0a"),
        ("Turing Ampere", "7.5+PTX 8.0 8.6+PTX"),
        ("Blackwell+Tegra", "11.0"),
        ("5.2 6.0 8.0", "8.0"),  # the others are unknown to this nvcc
    ],
)
def test_architectures_asked_for(cuda, monkeypatch, asked, wanted) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
    said: list[str] = []
    assert cuda.chosen_architectures(CUDA_13_0, said.append) == wanted.split()
    assert len(said) == (2 if "5.2" in asked else 0)


@pytest.mark.parametrize("asked", ["5.2", "sm_80", "Kepler", ";"])
def test_no_architecture_left_is_an_error(cuda, monkeypatch, asked) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
    with pytest.raises(cuda.CannotBuild, match="TORCH_CUDA_ARCH_LIST"):
        cuda.chosen_architectures(CUDA_13_0, lambda _: None)


def test_architecture_flags(cuda) -> None:
    assert cuda.architecture_flags(["9.0a", "12.0+PTX"]) == [
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]


def wanted(cuda, tmp_path: Path) -> tuple[dict | None, str | None, list[str]]:
    said: list[str] = []
    (tmp_path / "_C_cuda.so").touch()
    found = cuda.build_where_wanted(tmp_path, tmp_path / "_C_cuda.so", "c++", 1, said.append)
    assert not (tmp_path / "_C_cuda.so").exists()  # that of an earlier build is gone
    return *found, said


def test_a_cuda_torch_without_nvcc_gets_one_line(cuda, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    info, because, said = wanted(cuda, tmp_path)
    assert info is None and because == f"there is no nvcc in CUDA_HOME={tmp_path}"
    assert len(said) == 1 and because in said[0] and "Triton serves" in said[0]
    monkeypatch.setenv("ANSM_FAST_CUDA", "1")
    with pytest.raises(SystemExit, match="ANSM_FAST_CUDA=1 asks for the CUDA library, but there"):
        wanted(cuda, tmp_path)


def test_not_tried_where_forbidden_or_useless(cuda, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    info, because, said = wanted(cuda, tmp_path)
    assert info is None and torch.__version__ in because and not said
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("ANSM_FAST_CUDA", "0")
    assert wanted(cuda, tmp_path) == (None, "ANSM_FAST_CUDA=0 left it out", [])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_only_what_changed_is_compiled_again(cuda, monkeypatch, tmp_path) -> None:
    root = tmp_path / "a tree"  # with a blank, which ninja and the shell must be told of
    one, two = (root / "csrc" / op / "cuda.cu" for op in ("one", "two"))
    for source in (one, two):
        source.parent.mkdir(parents=True)
    (root / "kernels").mkdir()
    (root / "kernels" / "shared.cuh").write_text("__global__ void kernel(int* x) { *x = 1; }\n")
    one.write_text('#include "shared.cuh"\n')
    two.write_text("__global__ void kernel_of_two(int* x) { *x = 2; }\n")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0")

    def build() -> dict[str, int]:
        cuda.build(root, root / "_C_cuda.so", "c++", 2, lambda _: None)
        return {path.name: path.stat().st_mtime_ns for path in root.rglob("*.o")}

    first = build()
    assert set(first) == {"one.o", "two.o"} and (root / "_C_cuda.so").is_file()
    assert build() == first
    (root / "kernels" / "shared.cuh").write_text("__global__ void kernel(int* x) { *x = 3; }\n")
    second = build()
    assert second["one.o"] != first["one.o"] and second["two.o"] == first["two.o"]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert build()["two.o"] != second["two.o"]
    two.write_text("this is no CUDA\n")
    with pytest.raises(cuda.CannotBuild, match="could not compile"):
        build()
