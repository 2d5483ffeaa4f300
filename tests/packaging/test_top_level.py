"""What ``import ansm_fast`` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ansm_fast


@pytest.mark.parametrize("name", ansm_fast.__all__)
def test_every_name_is_there_and_the_same_as_at_its_place(name) -> None:
    found = getattr(ansm_fast, name)
    if isinstance(found, types.ModuleType):
        assert found is importlib.import_module(f"ansm_fast.{name}")
    elif name in ansm_fast._FROM:
        home = importlib.import_module(f"ansm_fast.{ansm_fast._FROM[name]}")
        assert found is getattr(home, name)
    assert name in dir(ansm_fast)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'ansm_fast' has no attribute 'defence'"):
        _ = ansm_fast.defence
    assert not hasattr(ansm_fast, "__wrapped__")


def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, ansm_fast, ansm_fast.cli.main\n"
        "dir(ansm_fast), ansm_fast.InputError, ansm_fast.SlowBackendWarning\n"
        "heavy = {'torch', 'numpy', 'cv2', 'rich', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from ansm_fast import *\n"
        "assert 'torch' in sys.modules and load_ansm and losses.ChannelwiseKL\n"
    )
    package = Path(ansm_fast.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=package)
    assert done.returncode == 0, done.stderr


BELOW_ALL = ("images", "json_lines", "errors")


def test_files_are_read_and_written_below_everything_else() -> None:
    package = Path(ansm_fast.__file__).parent
    for name in BELOW_ALL:
        files = [package / f"{name}.py"] if (package / f"{name}.py").exists() else []
        for path in files or sorted((package / name).glob("*.py")):
            found = re.findall(r"^\s*(?:from|import) ansm_fast\.?([\w.]*)", path.read_text(), re.M)
            assert {one.split(".")[0] for one in found} <= set(BELOW_ALL), path


def test_reading_a_checkpoint_does_not_load_decoders_of_images() -> None:
    code = "import sys, ansm_fast.models; assert 'cv2' not in sys.modules, 'cv2'"
    package = Path(ansm_fast.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=package)
    assert done.returncode == 0, done.stderr


def test_ops_do_not_load_the_compiler_before_it_is_used() -> None:
    code = "import sys, ansm_fast.ops; assert 'torch._dynamo' not in sys.modules"
    package = Path(ansm_fast.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=package)
    assert done.returncode == 0, done.stderr
