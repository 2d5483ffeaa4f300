"""Defend image-forgery localization against adversarial noise, with fused losses and kernels.

::

    import ansm_fast

    localizer, ansm = ansm_fast.load_localizer(), ansm_fast.load_ansm()
    attack = ansm_fast.make_attack("pgd", eps=4 / 255)
    mask = localizer(ansm.defend(attack(localizer, image, mask)))
    loss = ansm_fast.losses.ChannelwiseKL()(student, teacher)

What stands here is imported when it is first used: ``import ansm_fast`` alone does not wait for
torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansm_fast import (
        attacks,
        data,
        errors,
        evaluation,
        export,
        inference,
        localizers,
        losses,
        models,
        ops,
        training,
    )
    from ansm_fast.attacks import Attack, make_attack
    from ansm_fast.errors import InputError, SlowBackendWarning
    from ansm_fast.inference import (
        Defender,
        DefendOptions,
        Engine,
        Photograph,
        defend,
        defend_files,
    )
    from ansm_fast.localizers import Localizer, WrappedLocalizer, load_localizer, save_localizer
    from ansm_fast.models import (
        ANSM,
        ANSMConfig,
        Defence,
        DefendedLocalizer,
        load_ansm,
        save_ansm,
    )

__all__ = [
    "ANSM",
    "ANSMConfig",
    "Attack",
    "Defence",
    "DefendOptions",
    "DefendedLocalizer",
    "Defender",
    "Engine",
    "InputError",
    "Localizer",
    "Photograph",
    "SlowBackendWarning",
    "WrappedLocalizer",
    "__version__",
    "attacks",
    "data",
    "defend",
    "defend_files",
    "errors",
    "evaluation",
    "export",
    "inference",
    "load_ansm",
    "load_localizer",
    "localizers",
    "losses",
    "make_attack",
    "models",
    "ops",
    "save_ansm",
    "save_localizer",
    "training",
]

# Name -> the module that has it; the other names of __all__ are modules themselves.
_FROM = {
    "ANSM": "models",
    "ANSMConfig": "models",
    "Attack": "attacks",
    "Defence": "models",
    "DefendOptions": "inference",
    "DefendedLocalizer": "models",
    "Defender": "inference",
    "Engine": "inference",
    "InputError": "errors",
    "Localizer": "localizers",
    "Photograph": "inference",
    "SlowBackendWarning": "errors",
    "WrappedLocalizer": "localizers",
    "defend": "inference",
    "defend_files": "inference",
    "load_ansm": "models",
    "load_localizer": "localizers",
    "make_attack": "attacks",
    "save_ansm": "models",
    "save_localizer": "localizers",
}

try:
    __version__ = version("ansm_fast")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _FROM:
        found = getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
    else:
        found = importlib.import_module(f"{__name__}.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
