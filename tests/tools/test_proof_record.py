"""What counts as changed since it was proved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.ops import OPS, ROOT
from tools.proof import record


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("kernels/focal", "kernels/common", "csrc/focal", "kernels/dual_mask"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cuda.cuh").write_text(name)
    (tmp_path / "ansm_fast" / "ops").mkdir(parents=True)
    (tmp_path / "ansm_fast" / "ops" / "triton.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "both"),
    [
        ("kernels/focal/cuda.cuh", False),
        ("kernels/focal/added.h", False),
        ("csrc/focal/cuda.cuh", False),
        ("kernels/common/cuda.cuh", True),
        ("ansm_fast/ops/triton.py", True),
    ],
)
def test_an_op_changes_with_its_own_files_and_with_shared_ones(tree, file, both) -> None:
    def digests() -> tuple[str, str]:
        return tuple(record.digest(op, "nvcc 1", tree) for op in ("focal", "dual_mask"))

    before = digests()
    (tree / "kernels" / "focal" / "proof.md").write_text("what a proof says")
    assert digests() == before
    (tree / file).write_text("other")
    after = digests()
    assert after[0] != before[0] and (after[1] != before[1]) == both


def test_another_compiler_changes_all(tree) -> None:
    assert record.digest("focal", "nvcc 1", tree) != record.digest("focal", "nvcc 2", tree)


def test_what_was_proved_is_not_proved_again(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    assert record.changed(OPS, "nvcc 1", path) == OPS
    record.remember(OPS[:2], "nvcc 1", path)
    assert record.changed(OPS, "nvcc 1", path) == OPS[2:]
    assert record.changed(OPS, "nvcc 2", path) == OPS


def test_every_source_of_a_kernel_counts() -> None:
    texts = {"proof.md", "README.md", "roofline.md", "instructions.json", "__pycache__"}
    for op in OPS:
        counted = set(record._files(ROOT, op))
        for path in (ROOT / "kernels" / op).iterdir():
            assert (path in counted) == (path.name not in texts and path.suffix != ".svg"), path
