"""The in-tree build backend: torch is asked for only where there is none."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def backend():
    pytest.importorskip("setuptools")
    path = ROOT / "build_backend" / "backend.py"
    if not path.exists():
        pytest.skip("the source tree is not at hand")
    spec = importlib.util.spec_from_file_location("backend", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch: bool) -> Path:
    """Make ``sysconfig`` describe an environment with or without torch."""
    if torch:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "version.py").write_text("__version__ = '2.13.0'\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda scheme: str(tmp_path))
    return tmp_path


def test_an_installed_torch_is_used(backend, tmp_path, monkeypatch) -> None:
    site_packages = environment(tmp_path, monkeypatch, torch=True)
    assert backend.get_requires_for_build_wheel() == []
    assert backend.get_requires_for_build_editable() == []
    import sys

    with backend._visible_torch():
        assert sys.path[-1] == str(site_packages)
    sys.path.remove(str(site_packages))


def test_without_torch_one_is_asked_for(backend, tmp_path, monkeypatch) -> None:
    environment(tmp_path, monkeypatch, torch=False)
    assert backend.get_requires_for_build_wheel() == ["torch>=2.10"]
    assert backend.get_requires_for_build_editable() == ["torch>=2.10"]
    assert backend.get_requires_for_build_sdist() == []
