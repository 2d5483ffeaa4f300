"""Whose code failed, and where: exceptions of a user's own code in one line."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TextIO

import torch

import ansm_fast
from ansm_fast.errors import InputError, LocalizerError, UserCodeError, out_of_memory

_OURS = Path(ansm_fast.__file__).parent
_TORCH = Path(torch.__file__).parent
_INSTALLED = tuple(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib"))
_LONGEST = 300
# Name on the command line of each localizer that was imported -> folder or file of its code.
_CODE: dict[str, Path] = {}


def remember(name: str, module: str) -> None:
    """That ``module`` (and the package that it is in) is the user's code of localizer ``name``."""
    top = sys.modules.get(module.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is not None:
        path = Path(file).resolve()
        _CODE[name] = path.parent if path.name == "__init__.py" else path


def _is_users(file: Path) -> bool:
    return any(file == code or code in file.parents for code in _CODE.values())


def _place(error: BaseException) -> traceback.FrameSummary | None:
    """The last frame of the user's code; without one, the last that is neither ours nor torch's."""
    if isinstance(error, SyntaxError) and error.filename:
        return traceback.FrameSummary(error.filename, error.lineno or 0, "<module>")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "<" not in frame[0]]
    ranks: list[tuple[int, int, traceback.FrameSummary]] = []
    for number, frame in enumerate(frames):
        parents = Path(frame.filename).resolve().parents
        if _is_users(Path(frame.filename).resolve()):
            rank = 3
        elif _OURS in parents or _TORCH in parents:
            continue
        else:
            rank = 1 if any(folder in parents for folder in _INSTALLED) else 2
        ranks.append((rank, number, frame))
    return max(ranks, key=lambda one: one[:2])[2] if ranks else None


def _in_ours(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _OURS in Path(frames[-1].filename).resolve().parents


def one_line(error: BaseException) -> str:
    """Type and message of an exception, without line breaks."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return shorten(f"{name}: {text}" if text else name, _LONGEST, placeholder=" ...")


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def user_code_error(name: str, error: BaseException) -> UserCodeError:
    """Return what to raise ``from error``, which came out of the code of localizer ``name``."""
    place = _place(error)
    if isinstance(error, ValueError | TypeError) and _in_ours(error) and place is None:
        # Our own complaint about what the code gave: it says what to do.
        return UserCodeError(f"localizer {name}: {' '.join(str(error).split())}")
    where = f" at {_shown(place.filename)}:{place.lineno}" if place is not None else ""
    return UserCodeError(
        f"localizer {name}: its own code failed{where}: {one_line(error)}; mend it, or see the "
        "traceback with ansm-fast --debug"
    )


def _named(name: str, error: LocalizerError) -> LocalizerError:
    """The same complaint with the localizer's name, and where in the user's code it came from."""
    text, cause = str(error), error.__cause__
    if text.startswith("localizer "):
        return error
    place = _place(cause) if cause is not None else None
    where = f" (at {_shown(place.filename)}:{place.lineno})" if place is not None else ""
    return LocalizerError(f"localizer {name}: {text}{where}")


class _Aside:
    """What is printed meanwhile goes to stderr: stdout belongs to the results.

    One swap for all threads inside, which the last one takes back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: TextIO | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before, sys.stdout = sys.stdout, sys.stderr
            self._inside += 1

    def __exit__(self, *_exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._before is not None:
                sys.stdout = self._before


_aside = _Aside()


@contextmanager
def same_folder() -> Iterator[None]:
    """Code that changes the working directory changes it for itself alone."""
    before = os.getcwd()
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def user_code(name: str) -> Iterator[None]:
    """Whatever fails inside is the fault of the code of localizer ``name``; memory is not. What it
    prints goes to stderr."""
    try:
        with _aside:
            yield
    except LocalizerError as error:
        raise _named(name, error) from error.__cause__
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error) is not None:
            raise
        raise user_code_error(name, error) from error


def blamed(error: BaseException) -> UserCodeError | None:
    """The same for an exception that was not seen at the call, e.g. of a backward; None if the
    user's code has no part in it."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename).resolve()
        for name, code in _CODE.items():
            if path == code or code in path.parents:
                return user_code_error(name, error)
        if _OURS in path.parents:
            return None
    return None
