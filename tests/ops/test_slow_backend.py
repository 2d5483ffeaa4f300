"""An op that falls back to plain PyTorch unasked says so, once for each reason."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

from ansm_fast.errors import SlowBackendWarning
from ansm_fast.ops import backends, bce_dice_loss, channelwise_kl, clamp_project, library, slow


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "_told", set())
    monkeypatch.setattr(backends, "FORCED", None)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._BACKENDS, "cpu", backends.Backend(("cpu",), None, "gone missing"))


def call(**options: object) -> torch.Tensor:
    x = torch.rand(1, 2, 3, 3)
    return channelwise_kl(x, x.flip(1), **options)


def test_the_first_fall_back_warns_and_names_the_reason(no_library) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SlowBackendWarning)
        call()
        call()
        clamp_project(torch.rand(1, 3, 2, 2), torch.rand(1, 3, 2, 2), 0.1)
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("channelwise_kl runs as plain PyTorch on 'cpu', many times slower")
    assert "cpu: gone missing. `ansm-fast doctor` shows what runs and why" in text
    assert "\n" not in text and warning.filename == __file__


def test_another_reason_is_told_as_well(no_library, monkeypatch) -> None:
    with pytest.warns(SlowBackendWarning, match="gone missing"):
        call()
    monkeypatch.setitem(backends._BACKENDS, "cpu", backends.Backend(("cpu",), None, "burnt"))
    with pytest.warns(SlowBackendWarning, match="burnt"):
        call()


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_forced_reference_says_nothing(no_library, monkeypatch, how) -> None:
    monkeypatch.setattr(backends, "FORCED", "reference" if how == "variable" else None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowBackendWarning)
        call(**({"backend": "reference"} if how == "argument" else {}))


def test_a_kernel_that_runs_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowBackendWarning)
        call()


def test_transforms_have_no_kernel_to_miss() -> None:
    x, mask = torch.randn(2, 1, 3, 3), torch.rand(2, 1, 3, 3).round()
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowBackendWarning)
        torch.func.grad(lambda y: bce_dice_loss(y, mask))(x)
        torch.func.vmap(lambda y: channelwise_kl(y[None], y[None] + 1))(torch.rand(2, 2, 3, 3))
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))
            assert forward_ad.unpack_dual(bce_dice_loss(dual, mask)).tangent is not None
        channelwise_kl(x.to("meta"), x.to("meta"))


def test_a_graph_stays_whole_and_warns_when_it_is_made(no_library) -> None:
    @torch.compile(backend="eager", fullgraph=True)
    def loss(x: torch.Tensor) -> torch.Tensor:
        return channelwise_kl(x, x.flip(1))

    x = torch.rand(1, 2, 3, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SlowBackendWarning)
        torch.testing.assert_close(loss(x), channelwise_kl(x, x.flip(1), backend="reference"))
        loss(x)
    told = [one for one in caught if one.category is SlowBackendWarning]
    assert len(told) == 1 and "gone missing" in str(told[0].message)


def test_a_gpu_without_kernels(monkeypatch) -> None:
    with pytest.warns(SlowBackendWarning) as caught:
        backends._tell_slow("image_pack", [torch.empty(0, device="meta").as_subclass(OnCuda)])
    text = str(caught[0].message)
    assert "image_pack runs as plain PyTorch on 'cuda'" in text
    assert "cuda: " in text and "; triton: " in text


class OnCuda(torch.Tensor):
    """What a tensor of a GPU says of itself."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


def test_the_source_tree_and_broken_libraries_say_what_they_are(monkeypatch, tmp_path) -> None:
    package = tmp_path / "ansm_fast"
    package.mkdir()
    monkeypatch.setattr(library, "PACKAGE", package)
    assert "installed without a C++ compiler" in library._load()[1]
    (tmp_path / "setup.py").touch()
    path, reason = library._load()
    assert path is None and reason.startswith(f"{package} is the source tree, where no library")
    assert "start Python in another folder" in reason
    (package / "_C.abi3.so").write_bytes(b"not a library")
    path, reason = library._load()
    assert path is None and "_C.abi3.so could not be loaded: " in reason and "\n" not in reason


def test_a_library_older_than_an_operator_says_so() -> None:
    path = library.PATH or Path("_C.abi3.so")
    if library.PATH:
        assert library._without_all(path, ["channelwise_kl", "pgd_step_"], "CPU") == ""
    with torch.library._scoped_library("ansm_fast", "FRAGMENT") as newer:
        newer.define("of_tomorrow(Tensor x) -> Tensor")
        reason = library._without_all(path, ["of_tomorrow"], "CPU")
    assert reason.startswith(f"{path.name} was built before there was of_tomorrow; install")


@pytest.mark.slow
def test_a_process_without_its_library(tmp_path) -> None:
    """As a script in the repository's root meets it: the package from its source, as it is."""
    package = Path(library.__file__).parents[1]
    for part in package.rglob("*.py"):
        copy = tmp_path / "ansm_fast" / part.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(part.read_bytes())
    (tmp_path / "setup.py").touch()
    code = "import torch, ansm_fast.ops as o; x = torch.rand(1, 1, 2, 2); o.channelwise_kl(x, x)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "SlowBackendWarning: channelwise_kl runs as plain PyTorch" in done.stderr
    assert f"{tmp_path / 'ansm_fast'} is the source tree" in done.stderr
