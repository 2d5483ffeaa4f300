"""What ends a command in one line, and what is worth a warning."""

from __future__ import annotations

import sys


class InputError(ValueError):
    """A file, folder, option or checkpoint given by the user cannot be used.

    The message is one line: what was given, what was expected, what to do next. The command line
    prints it without a traceback and exits with status 2.
    """


class UserCodeError(InputError):
    """Code of the user's own, named as ``module:function``, failed; its exception is the cause."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP; the message says where that was.

    Attributes:
        advice: what to do next; None: give the same command, it goes on from there.
    """

    def __init__(self, where: str, advice: str | None = None) -> None:
        super().__init__(where)
        self.advice = advice


class SlowBackendWarning(UserWarning):
    """An op runs as plain PyTorch, many times slower, though nobody asked for that."""


class LocalizerError(InputError):
    """A localizer answers with something that no attack, evaluation or training can use.

    The message says what it gave and what to write instead.
    """


def out_of_memory(error: BaseException) -> str | None:
    """What asked for too much memory, in a few words; None if ``error`` is another one.

    Python, PyTorch on a device, PyTorch on the CPU and OpenCV say it each in a way of their own.
    None of them is imported for this: a program that met its error has it.
    """
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError):
        return text.partition(". ")[0] or "out of memory"
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return text.partition(". ")[0] or "out of memory"
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in text:
        return text.partition("DefaultCPUAllocator: ")[2].partition(". ")[0]
    if cv2 is not None and isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
        return str(error.err)
    return None
