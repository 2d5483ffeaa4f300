"""sdist, wheel with the native libraries, and wheel without a compiler; built in isolation by pip.

The CUDA library is built for one architecture, or for those of TORCH_CUDA_ARCH_LIST; if that is
empty, for all that a user's build would take.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CUDA_HOME = os.environ.get("CUDA_HOME")
NVCC = shutil.which("nvcc", path=f"{CUDA_HOME}/bin" if CUDA_HOME else None)
ARCHITECTURES = os.environ.get("TORCH_CUDA_ARCH_LIST", "8.0")
OWN = (
    "__pycache__",
    "build",
    "dist",
    ".git",
    ".venv",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "*.egg-info",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the source tree is not at hand"),
]


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*OWN, "*.so", "_build_info.json"))
    run(sys.executable, "-m", "build", "--sdist", "-o", folder / "dist", source)
    (archive,) = (folder / "dist").glob("*.tar.gz")
    return archive


def wheel_of(sdist: Path, folder: Path, **variables: str) -> tuple[Path, str]:
    """Build a wheel with pip, unpack it, and return the wheel and pip's output.

    What the build leaves, its object files among it, stays in ``folder / "build"``.
    """
    (folder / "build").mkdir()
    done = run(
        sys.executable, "-m", "pip", "wheel", "-v", "--no-clean", "--no-deps",
        "-w", folder / "wheel", sdist,
        env=os.environ | variables | {"TMPDIR": str(folder / "build")},
    )  # fmt: skip
    (wheel,) = (folder / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return wheel, done.stdout + done.stderr


def doctor(folder: Path) -> dict:
    code = "from ansm_fast.cli.main import main; main()"
    done = run(
        sys.executable, "-c", code, "doctor", "--json",
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder / "unpacked")},
    )  # fmt: skip
    report: dict = json.loads(done.stdout)
    if report["library"]:
        assert Path(report["library"]).is_relative_to(folder)
    return report


def test_sdist_holds_what_a_build_and_its_tests_need(sdist) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        "setup.py", "CMakeLists.txt", "build_backend/backend.py", "csrc/common/tensor.h",
        "csrc/channelwise_kl/host.cpp", "build_backend/cuda_library.py",
        "csrc/common/cuda_device.h", "kernels/common/cuda.cuh", "tools/check_cuda_link.py",
        "kernels/channelwise_kl/cpu.h",
        "README.md", "LICENSE",
        "ansm_fast/weights/localizer_robust.safetensors",
        "ansm_fast/weights/ansm_robust.safetensors",
        "ansm_fast/training/configs/ansm.yaml", "tests/native/main.cpp", "tests/test_losses.py",
    ):  # fmt: skip
        assert wanted in names, wanted
    assert not any(name.endswith(".so") for name in names)


@pytest.fixture(scope="module")
def built(sdist, tmp_path_factory) -> tuple[Path, str]:
    """A wheel, unpacked, and pip's output; with CUDA where nvcc is."""
    folder = tmp_path_factory.mktemp("built")
    cuda = {"ANSM_FAST_CUDA": "1", "TORCH_CUDA_ARCH_LIST": ARCHITECTURES} if NVCC else {}
    wheel, output = wheel_of(sdist, folder, **cuda)
    assert "cp310-abi3" in wheel.name
    return folder, output


def test_wheel_of_an_environment_with_torch(built) -> None:
    folder, output = built
    assert "Collecting torch" not in output  # the environment's own is used
    sizes = {
        path.name: path.stat().st_size for path in (folder / "unpacked").rglob("*.safetensors")
    }
    # What every installation uses, and what comes with it for images that nobody compressed.
    assert sizes["localizer_robust.safetensors"] + sizes["ansm_robust.safetensors"] < 6e6
    # The two-view ANSM, in half precision, weighs as much as two of the others together.
    assert sizes.pop("ansm_two_view.safetensors") < 6e6
    assert len(sizes) == 4 and sum(sizes.values()) < 10e6
    # What runs, and nothing that is only told of.
    package = folder / "unpacked" / "ansm_fast"
    recipes = {"ansm", "localizer", "quick", "standard", "thorough"}
    assert {path.stem for path in package.rglob("*.yaml")} == recipes
    weights = {path.suffix for path in (package / "weights").iterdir()}
    assert weights == {".safetensors", ".md"} and not list(package.rglob("*.jsonl"))
    report = doctor(folder)
    assert report["build"]["torch"] == report["runtime"]["torch"]
    assert all(states["cpu"] == "available" for states in report["backends"].values())


def shared_or_run_at_load(objects: list[Path], instruction_set: str) -> list[str]:
    """Name what a processor without ``instruction_set`` might run of these object files.

    A symbol outside the namespace of the instruction set, an inline function of the standard
    library say, which the linker may take for the other variants' as well; and what runs when the
    library is loaded.
    """
    listed = run("nm", "-C", "--defined-only", *objects).stdout
    symbols = re.findall(r"^[0-9a-f]+ ([A-Za-z]) (.+)$", listed, re.MULTILINE)
    assert any(kind == "T" for kind, _ in symbols)
    own = f"ansm_fast::{instruction_set}::"
    return [
        name
        for kind, name in symbols
        if "_GLOBAL__sub_I" in name or ((kind.isupper() or kind in "uvw") and own not in name)
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads object files with nm")
def test_instruction_sets_are_kept_apart(built, tmp_path) -> None:
    folder, _ = built
    for name in doctor(folder)["build"]["instruction_sets"]:
        objects = [*(folder / "build").rglob(f"ansm_fast_{name}/**/host.o")]
        assert len(objects) == len([*(ROOT / "csrc").glob("*/host.cpp")])
        assert shared_or_run_at_load(objects, name) == []
    source, compiled = tmp_path / "shared.cpp", tmp_path / "shared.o"
    source.write_text(
        "#include <vector>\n"
        "static std::vector<int> at_load(3);\n"
        "int* shared() { at_load.push_back(1); return at_load.data(); }\n"
    )
    run("c++", "-c", source, "-o", compiled)
    found = " ".join(shared_or_run_at_load([compiled], "avx2"))
    assert "std::vector" in found and "_GLOBAL__sub_I" in found


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_wheel_with_the_cuda_library(built) -> None:
    folder, _ = built
    library = folder / "unpacked" / "ansm_fast" / "_C_cuda.so"
    assert library.is_file()
    run(sys.executable, "-m", "tools.check_cuda_link", library, cwd=ROOT)
    report = doctor(folder)
    built_for = report["build"]["cuda"]["architectures"]
    assert built_for == ARCHITECTURES.split(";") or (ARCHITECTURES == "" and len(built_for) > 5)
    assert "-fmad=false" in report["build"]["cuda"]["flags"]
    if report["runtime"]["torch_cuda"] is None:
        assert report["cuda_library"] is None
        because = report["cuda_library_missing_because"]
        assert "is built, but torch" in because and "has no CUDA" in because


def test_cuda_asked_for_where_no_nvcc_is(sdist, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, sdist],
        capture_output=True, text=True,
        env=os.environ | {"ANSM_FAST_CUDA": "1", "CUDA_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode != 0
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "nvcc" in line]
    assert said == [
        "ansm_fast: ANSM_FAST_CUDA=1 asks for the CUDA library, but there is no nvcc in "
        f"CUDA_HOME={tmp_path}"
    ]
    assert "Traceback" not in done.stdout + done.stderr


def test_wheel_without_a_compiler(sdist, tmp_path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    _, output = wheel_of(sdist, tmp_path, PATH=str(empty), CXX="", CC="")
    said = [line for line in output.splitlines() if "without native code" in line]
    assert said and "no working C++ compiler" in said[0] and "reference" in said[0]
    report = doctor(tmp_path)
    assert report["library"] is None and report["build"] is None
    for states in report["backends"].values():
        assert "C++ compiler" in states["cpu"] and states["reference"] == "available"
