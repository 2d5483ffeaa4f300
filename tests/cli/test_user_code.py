"""A user's own localizer that fails: whose code, in which file and line, in one line."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch

from ansm_fast.errors import UserCodeError
from ansm_fast.localizers import load_localizer
from ansm_fast.localizers.user_code import user_code

CODE = """\
import torch
from torch import nn
from ansm_fast.localizers import WrappedLocalizer

VALUE = 7
MODULE = nn.Conv2d(3, 1, 1)


class Base(nn.Module):
    taps = ("network",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Conv2d(3, 1, 1)
        self.calls = 0

    def forward(self, image):
        return self.network(image)


class Two(Base):
    def forward(self, image):
        return torch.cat([self.network(image)] * 2, 1)


class Raises(Base):
    def forward(self, image):
        raise RuntimeError("no\\nsuch thing")


class Divisible(Base):
    def forward(self, image):
        small = nn.functional.max_pool2d(image, 64)
        return self.network(small)


class Elsewhere(Base):
    def forward(self, image):
        return self.network(image).to("meta")


class NoGradient(Base):
    @torch.inference_mode()
    def forward(self, image):
        return self.network(image)


class Marks(Base):
    def forward(self, image):
        return self.network(image) > 0


class Quits(Base):
    def forward(self, image):
        raise SystemExit(0)


class Interprets(Base):
    def forward(self, image):
        raise EOFError


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image):
        return image.mean(1, keepdim=True)

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("state")


class Broken(Base):
    def forward(self, image):
        return Backward.apply(image)


def make():
    return Base()


def locked():
    import threading
    localizer = Base()
    localizer.lock = threading.Lock()
    return localizer


def fails():
    return undefined_name


def wants(argument):
    return Base()


def wrapped():  # no line of the user's is on the way to what fails
    return WrappedLocalizer(nn.Conv2d(5, 1, 1))


def leaves():
    import sys
    sys.exit("bye")
"""


@pytest.fixture
def code(forgeries: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (forgeries.parent / "mine.py").write_text(CODE, encoding="utf-8")
    (forgeries.parent / "typo.py").write_text("def make(:\n    pass\n", encoding="utf-8")
    (forgeries.parent / "needs.py").write_text("\nimport no_such_library\n", encoding="utf-8")
    (forgeries.parent / "dies.py").write_text("x = 1\n1 / 0\n", encoding="utf-8")
    for name in ("mine", "typo", "needs", "dies"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "mine"


def line_of(words: str) -> int:
    return next(n for n, line in enumerate(CODE.splitlines(), 1) if words in line)


ATTACK = "attack set -o out --steps 1 --localizer"
CASES = [
    ("nowhere:make", "cannot import nowhere (No module named 'nowhere'); give module:function"),
    ("typo:make", "its own code failed at typo.py:1: SyntaxError:"),
    ("needs:make", "its own code failed at needs.py:2: ModuleNotFoundError: No module named"),
    ("dies:make", "its own code failed at dies.py:2: ZeroDivisionError: division by zero; mend"),
    ("mine:other", "mine has no other; give one it has"),
    ("mine:VALUE", "VALUE is an object of type int; give a function without arguments"),
    ("mine:MODULE", "MODULE is an object of type Conv2d; give a function without arguments"),
    ("mine:fails", f"mine.py:{line_of('undefined_name')}: NameError: name 'undefined_name'"),
    ("mine:wants", "wants is called with arguments; give a function without arguments"),
    ("mine:leaves", "SystemExit: bye"),
    ("mine:Two", "must give logits of shape (2, 1, 32, 32), got (2, 2, 32, 32); of two classes"),
    ("mine:Raises", f"mine.py:{line_of('such thing')}: RuntimeError: no such thing; mend it"),
    ("mine:Divisible", f"mine.py:{line_of('max_pool2d')}: RuntimeError:"),
    ("mine:Elsewhere", "its logits are on meta, the image is on cpu; keep them"),
    ("mine:NoGradient", "its logits have no gradient with respect to the image"),
    ("mine:Marks", "must give floating-point logits, got torch.bool; leave out the threshold"),
    ("mine:Quits", f"mine.py:{line_of('SystemExit(0)')}: SystemExit: 0"),
    ("mine:Interprets", f"mine.py:{line_of('raise EOFError')}: EOFError; mend it"),
    ("mine:Broken", f"mine.py:{line_of('KeyError')}: KeyError: 'state'; mend it"),
    ("mine:wrapped", "expected input[2, 3, 32, 32] to have 5 channels"),
]


@pytest.mark.parametrize(("name", "words"), CASES, ids=[name for name, _ in CASES])
def test_one_line_that_says_whose_code_failed_and_where(code, run, name, words) -> None:
    result = run(f"{ATTACK} {name}")
    assert result.code == 2
    assert result.err[-1].startswith(f"ansm-fast: error: localizer {name}: ")
    assert words in result.err[-1]
    assert not any("Traceback" in line for line in result.err)


COMMANDS = [
    "evaluate set --steps 1 --attacks none --defences none --localizer mine:Raises",
    "evaluate set --steps 1 --attacks transfer --defences none --localizer mine:make "
    "--surrogate mine:Raises",
    "defend --batch set/images -o out --localizer mine:Raises --weights tiny",
    "train ansm --config ansm -o run --set data.train=set --set data.validation=set "
    "--set attack_cache=attacks "
    "--set steps=1 --set attack_cache_size=2 --set crop=32 --set batch_size=2 --set detect.crop=32 "
    "--set warm_start=false --set detect.steps=0 --set ffa.steps=0 --set ffa.weight_in_mgr=0 "
    "--set localizer=mine:Raises",
]


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split()[0])
def test_every_command_says_it(code, run, line) -> None:
    result = run(line)
    assert result.code == 2, result.err
    where = f"mine.py:{line_of('such thing')}: RuntimeError: no such thing"
    assert where in result.err[-1] and "localizer mine:Raises" in result.err[-1]


def test_a_localizer_that_cannot_be_copied(code, run) -> None:
    result = run("defend --batch set/images -o out --localizer mine:locked --weights tiny")
    assert result.code == 2
    words = "the module Base cannot be copied (cannot pickle '_thread.lock' object); let it hold"
    assert words in result.err[-1]


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_traceback_is_there_for_those_who_ask(code, run, monkeypatch, how) -> None:
    if how == "variable":
        monkeypatch.setenv("ANSM_FAST_DEBUG", "1")
    result = run("--debug " * (how == "option") + f"{ATTACK} mine:Raises")
    assert result.code == 2
    shown = "\n".join(result.err)
    assert "Traceback" in shown and 'raise RuntimeError("no\\nsuch thing")' in shown
    assert result.err[-1].startswith("ansm-fast: error: localizer mine:Raises")


def test_python_callers_get_the_cause(code) -> None:
    localizer = load_localizer("mine:Raises")
    assert type(localizer).__name__ == "Raises" and localizer.taps == ("network",)
    with pytest.raises(UserCodeError, match="no such thing") as caught:
        copy.deepcopy(localizer)(torch.rand(1, 3, 8, 8))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_localizer_that_works_is_as_it_was(code) -> None:
    localizer = load_localizer("mine:make")
    image = torch.rand(2, 3, 8, 8, requires_grad=True)
    logits = localizer(image)
    torch.testing.assert_close(logits, localizer.network(image))
    logits.sum().backward()
    assert image.grad is not None and set(localizer.state_dict()) == {
        "network.weight",
        "network.bias",
    }


ASIDE = """\
import os
from mine import Base
print("loading")


class Prints(Base):
    def forward(self, image):
        print("forward")
        return self.network(image)


def talks():
    return Prints()


def moves():
    os.chdir("/")
    return Base()
"""


def test_what_user_code_prints_is_no_result(code, run) -> None:
    Path("aside.py").write_text(ASIDE)
    result = run("defend --batch set/images -o out --localizer aside:talks --weights tiny --json")
    assert result.code == 0 and json.loads(result.out)["defended"] == 2
    assert "loading" in result.err and "forward" in result.err


def test_a_working_directory_that_user_code_changes(code, run) -> None:
    Path("aside.py").write_text(ASIDE)
    here = Path.cwd()
    result = run(f"{ATTACK} aside:moves")
    assert result.code == 0 and Path.cwd() == here
    assert (here / "out/SHA256SUMS").exists()


def test_threads_share_one_place_aside(capsys) -> None:
    first, second = user_code("one"), user_code("two")
    shown = sys.stdout
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    print("aside")
    second.__exit__(None, None, None)
    assert sys.stdout is shown and capsys.readouterr().err == "aside\n"


def test_a_fault_of_ours_asks_for_a_report(forgeries, run, monkeypatch) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise AssertionError("this\ncannot be")

    monkeypatch.setattr("ansm_fast.data.FolderDataset.check", broken)
    result = run("attack set -o out --steps 1 --localizer builtin")
    assert result.code == 70 and len(result.err) == 1
    assert "this is a fault of ansm_fast (AssertionError: this cannot be at " in result.err[0]
    assert "run ansm-fast --debug with the same arguments" in result.err[0]
    shown = run("--debug attack set -o out --steps 1 --localizer builtin")
    assert shown.code == 70 and any("Traceback" in line for line in shown.err)
