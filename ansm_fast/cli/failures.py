"""How a command that fails ends: one line on stderr, and an exit code that says which kind.

| exit code | |
|---|---|
| 1 | done, but for some inputs (`defend`) |
| 2 | the input, an option or the user's own code is at fault |
| 70 | a fault of ansm_fast |
| 129, 130, 143 | ended by SIGHUP, Ctrl-C, SIGTERM |
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence

import click

from ansm_fast.cli.signals import WORDS
from ansm_fast.errors import InputError, Interrupted, out_of_memory

INPUT, FAULT, BROKEN_PIPE, BY_SIGNAL = 2, 70, 141, 128


def command_line() -> str:
    """Return the command as it was typed."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        return "the same command"  # of the launcher, which isn't known here
    return shlex.join(["ansm-fast", *sys.argv[1:]])


def _of_click(error: click.ClickException) -> str | None:
    """Click's own complaint in one line; None where it is the whole help text."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is None or message == context.get_help():
        return None
    text = " ".join(message.split()).rstrip(".")
    return f"{text}; see {context.command_path} --help"


def _of_memory(error: BaseException) -> str | None:
    reason = out_of_memory(error)
    if reason is None:
        return None
    place = "the device" if type(error).__name__ == "OutOfMemoryError" else "the computer"
    return (
        f"{place} has too little memory ({reason}); give smaller batches or images, or another "
        "device; what was complete is kept"
    )


def _of_files(error: BaseException) -> str | None:
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = "" if error.filename is None else f" {error.filename}"
        return f"cannot write{place} ({error.strerror}); make room and give the same command again"
    if error.filename is not None:
        return f"cannot use {error.filename} ({error.strerror}); give another path or mend this one"
    if error.errno in (errno.EIO, errno.EROFS):
        return f"cannot write ({error.strerror}); give another path or mend this one"
    return None


def _of_backends(error: BaseException) -> str | None:
    backends = sys.modules.get("ansm_fast.ops.backends")
    if backends is None or not isinstance(error, backends.BackendError):
        return None
    # A command names no backend itself.
    return f"{error}; unset ANSM_FAST_BACKEND or give it another one, see ansm-fast doctor"


def _of_users(error: BaseException) -> str | None:
    module = sys.modules.get("ansm_fast.localizers.user_code")
    found = None if module is None else module.blamed(error)
    return None if found is None else str(found)


def _fault(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    text = " ".join(str(error).split())
    shown = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    return (
        f"this is a fault of ansm_fast ({shown}{where}); run ansm-fast --debug with the same "
        "arguments, and report what it prints"
    )


def _interruption(error: BaseException, received: Sequence[int]) -> tuple[str, int]:
    """What an interrupted command says, and its exit code."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    told = [getattr(one, "sigval", None) for one in chain]  # by a launcher, of its processes
    number = next((one for one in (*received, *told) if one in WORDS), signal.SIGINT)
    text, code = WORDS[signal.Signals(number)], BY_SIGNAL + number
    for one in chain:
        if isinstance(one, Interrupted):
            return f"{text} {one}; {one.advice or f'go on with: {command_line()}'}", code
    return text, code


def explain(error: BaseException, received: Sequence[int] = ()) -> tuple[str | None, int]:
    """Return the line that a failed command prints (None: nothing more), and its exit code.

    Args:
        received: numbers of the signals that arrived, each as a KeyboardInterrupt.
    """
    if isinstance(error, click.Abort) and isinstance(error.__cause__, EOFError):
        error = error.__cause__  # click takes it for Ctrl-D at a prompt; there is none
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _interruption(error, received)
    if isinstance(error, InputError):
        return f"ansm-fast: error: {error}", INPUT
    if isinstance(error, click.ClickException):
        text = _of_click(error)
        if text is None:
            error.show()
            return None, error.exit_code
        return f"ansm-fast: error: {text}", error.exit_code
    if isinstance(error, BrokenPipeError):
        # Who read the output has enough; nor shall Python complain when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None, BROKEN_PIPE
    for kind in (_of_memory, _of_files, _of_backends, _of_users):
        text = kind(error)
        if text is not None:
            return f"ansm-fast: error: {text}", INPUT
    if received:  # what it became on its way, as in a library that was just being imported
        return _interruption(error, received)
    return f"ansm-fast: error: {_fault(error)}", FAULT
