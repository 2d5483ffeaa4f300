"""Localizers that a user's own code makes, named on the command line as ``module:function``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from torch import nn

from ansm_fast.errors import InputError
from ansm_fast.models.checkpoint import fingerprint


def is_import_name(name: str) -> bool:
    """Whether ``name`` means ``module:function`` and no file: dotted names around one colon."""
    module, colon, function = name.partition(":")
    parts = [*module.split("."), function]
    return bool(colon) and all(part.isidentifier() for part in parts) and not Path(name).exists()


def import_localizer(name: str) -> nn.Module:
    """Call ``function`` of ``module`` and take what it gives for a localizer, frozen, in eval mode.

    The working directory is searched as well, so that ``mine.py`` in it is the module ``mine``. A
    localizer without a fingerprint of its own gets one of its weights: caches and attacked sets are
    told apart by it.

    Raises:
        InputError: there is no such module or function, it fails, or it gives no localizer.
    """
    module, _, function = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        make = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise InputError(
            f"localizer {name}: cannot import {module} ({error}); give module:function, where "
            "function() makes a localizer"
        ) from error
    except AttributeError as error:
        raise InputError(
            f"localizer {name}: {module} has no {function}; give one it has"
        ) from error
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
    if not given or given == type(getattr(localizer, "module", None)).__name__:
        localizer.fingerprint = fingerprint("imported", {"name": name}, localizer.state_dict())  # type: ignore[assignment]
    return localizer.eval().requires_grad_(False)
