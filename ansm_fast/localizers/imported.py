"""Localizers that a user's own code makes, named on the command line as ``module:function``."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ansm_fast.errors import InputError, UserCodeError
from ansm_fast.localizers.user_code import remember, same_folder, user_code
from ansm_fast.models.checkpoint import fingerprint


def is_import_name(name: str) -> bool:
    """Tell whether ``name`` means ``module:function`` and no file: dotted names around one
    colon."""
    module, colon, function = name.partition(":")
    parts = [*module.split("."), function]
    return bool(colon) and all(part.isidentifier() for part in parts) and not Path(name).exists()


def meant_import_name(name: str) -> str | None:
    """What ``module.py``, ``module.py:function`` or ``module.function`` was meant to be; None if it
    may be a checkpoint."""
    file, _, function = name.partition(":")
    if file.endswith(".py"):
        module = file.removesuffix(".py").removeprefix("./").replace("/", ".").strip(".")
        return f"{module}:{function or 'make'}"
    module, _, function = name.rpartition(".")
    if module and not Path(name).exists() and Path(*module.split(".")).with_suffix(".py").is_file():
        return f"{module}:{function}"
    return None


def _parents(module: str) -> list[str]:
    """``module`` and the packages that it is in."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _import(name: str) -> Any:
    """The function that ``name`` means."""
    module, _, function = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        with same_folder(), user_code(name):
            found = importlib.import_module(module)
    except UserCodeError as error:
        missing = getattr(error.__cause__, "name", None)
        # Not a library that the code needs.
        if isinstance(error.__cause__, ModuleNotFoundError) and missing in _parents(module):
            raise InputError(
                f"localizer {name}: cannot import {module} ({error.__cause__}); give "
                "module:function, where function() makes a localizer"
            ) from error.__cause__
        raise
    remember(name, module)
    try:
        return getattr(found, function)
    except AttributeError as error:
        raise InputError(
            f"localizer {name}: {module} has no {function}; give one it has"
        ) from error


def _checked(name: str, image: Tensor, logits: Any) -> Tensor:
    """``logits``, or an error that says what is wrong with them."""
    wanted = (len(image), 1, *image.shape[2:])
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        hint = "pass postprocess= to ansm_fast.localizers.WrappedLocalizer"
        if isinstance(logits, Tensor) and logits.shape == (wanted[0], 2, *wanted[2:]):
            hint = (
                "of two classes give the difference of the logits, out[:, 1:] - out[:, :1], or "
                "WrappedLocalizer(model, logits_from='two_class')"
            )
        raise UserCodeError(
            f"localizer {name}: it must give logits of shape {wanted}, got {got}; {hint}"
        )
    if not logits.is_floating_point():
        raise UserCodeError(
            f"localizer {name}: it must give floating-point logits, got {logits.dtype}; leave out "
            "the threshold"
        )
    if logits.device != image.device:
        raise UserCodeError(
            f"localizer {name}: its logits are on {logits.device}, the image is on "
            f"{image.device}; keep them on the image's device"
        )
    if torch.is_grad_enabled() and image.requires_grad and not logits.requires_grad:
        raise UserCodeError(
            f"localizer {name}: its logits have no gradient with respect to the image, which "
            "attacks need; take inference_mode, no_grad, detach or numpy out of its forward"
        )
    return logits


def _guarded(name: str, localizer: nn.Module) -> nn.Module:
    """Let every call of ``localizer`` say whose code it is that failed.

    A class of its own, not a wrapper around the module: names of submodules (taps), weights and
    copies stay what they are.
    """
    kind = type(localizer)

    def call(self: nn.Module, image: Tensor, *others: Any, **options: Any) -> Tensor:
        with user_code(name):
            logits = kind.__call__(self, image, *others, **options)
        return _checked(name, image, logits)

    localizer.__class__ = type(
        kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__}
    )
    return localizer


def _takes_nothing(make: Any) -> bool:
    try:
        inspect.signature(make).bind()
    except TypeError:
        return False
    except ValueError:  # compiled code that tells nobody
        pass
    return True


def _kind(found: Any) -> str:
    if callable(found) and not isinstance(found, nn.Module):
        return "called with arguments"
    return f"an object of type {type(found).__name__}"


def import_localizer(name: str) -> nn.Module:
    """Call ``function`` of ``module`` and take what it gives for a localizer, frozen, in eval mode.

    The working directory is searched as well, so that ``mine.py`` in it is the module ``mine``. A
    localizer without a fingerprint of its own gets one of its weights: caches and attacked sets are
    told apart by it. Its code may fail later, in any call: that too is a UserCodeError. What it
    prints goes to stderr, and the working directory stays what it was.

    Raises:
        InputError: there is no such module or function, or it gives no localizer.
        UserCodeError: the code itself fails; the message names its file and line.
    """
    _, _, function = name.partition(":")
    make = _import(name)
    if isinstance(make, nn.Module) or not callable(make) or not _takes_nothing(make):
        raise InputError(
            f"localizer {name}: {function} is {_kind(make)}; give a function without arguments "
            "that makes a localizer"
        )
    with same_folder(), user_code(name):
        localizer = make()
    if not isinstance(localizer, nn.Module) or not isinstance(
        getattr(localizer, "taps", None), tuple
    ):
        raise InputError(
            f"localizer {name}: {function}() must give a torch module with a tuple `taps` of "
            f"submodules, got {type(localizer).__name__}; "
            "ansm_fast.localizers.WrappedLocalizer makes one of any module"
        )
    given = getattr(localizer, "fingerprint", "")
    with user_code(name):
        if not given or given == type(getattr(localizer, "module", None)).__name__:
            localizer.fingerprint = fingerprint(  # type: ignore[assignment]
                "imported", {"name": name}, localizer.state_dict()
            )
        localizer.eval().requires_grad_(False)
    return _guarded(name, localizer)
