"""What tools.compile_report calls worse; its parsing of tables, names and launchers."""

from __future__ import annotations

import shutil

import pytest

from tools import compile_report as report
from tools.ops import OPS


def table(**values: int) -> dict:
    numbers = {"registers": 32, "block": 256, "wide_loads": 2, "loads": 9, "wide_stores": 1}
    kernels = {
        architecture: report.Kernel(**(numbers | values)) for architecture in report.ARCHITECTURES
    }
    text = report.table_of("op", {"kernel<float, 4>": kernels}, "13.0.88")
    return report.read_table(text)


def test_the_same_is_not_worse() -> None:
    assert list(table()) == ["kernel<float, 4>"]
    assert report.worse(table(), table(), True) == []
    assert report.worse(table(registers=36), table(), True) == []


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"registers": 40}, "registers"),
        ({"wide_loads": 1}, "loads"),
        ({"wide_stores": 0}, "stores"),
    ],
)
def test_worse(values, word) -> None:
    (line,) = report.worse(table(**values), table(), True)
    assert line.startswith("kernel<float, 4>: ") and word in line


def test_another_compiler_counts_only_lost_vectors() -> None:
    assert report.worse(table(registers=64, wide_loads=1), table(), False) == []
    assert len(report.worse(table(wide_loads=0), table(), False)) == 1


def test_a_kernel_that_comes_or_goes_is_named() -> None:
    assert "not in the table" in report.worse(table(), {}, True)[0]
    assert "no longer there" in report.worse({}, table(), True)[0]


@pytest.mark.parametrize(
    ("registers", "shared", "block", "architecture", "wanted"),
    [
        # As the CUDA occupancy calculator has them.
        (32, 0, 256, 80, 100),
        (33, 0, 256, 80, 75),
        (64, 0, 256, 90, 50),
        (255, 0, 256, 90, 12),
        (16, 0, 32, 90, 50),
        (32, 48 << 10, 256, 80, 38),
        (32, 48 << 10, 256, 90, 50),
    ],
)
def test_occupancy(registers, shared, block, architecture, wanted) -> None:
    kernel = report.Kernel(registers=registers, shared=shared, block=block)
    assert kernel.occupancy(architecture) == wanted


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_launchers_and_a_table(op) -> None:
    assert "launch_" in report.source_of(op)
    assert report.read_table(report.path_of(op).read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs c++filt")
def test_names_are_readable() -> None:
    mangled = "_ZN9ansm_fast3gpu2op6kernelIfLi4EEEvPKT_PS3_l"
    assert report.readable([mangled], "op") == {mangled: "kernel<float, 4>"}
