"""Which ops there are: the folders beside this file that have a ``registration.py``.

It says, for any namespace of ``torch.ops``:

FUNCTIONS  the names of the folder's public functions, for which a backend is chosen
SCHEMAS    by name, the signature of each operator that these call
bind       ``bind(namespace, fakes=...)`` registers autograd, and fake kernels unless the operators
           trace themselves; it returns what the public functions call, by name

The folder's ``triton.py`` implements the same operators.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ansm_fast.ops import triton

Kernels = Mapping[str, Any]  # callables; that of a list of pairs also says whether it takes it


@functools.cache
def folders() -> tuple[str, ...]:
    """Return the names of the op folders, in alphabetic order."""
    return tuple(
        sorted(path.parent.name for path in Path(__file__).parent.glob("*/registration.py"))
    )


def _registrations() -> list[ModuleType]:
    return [importlib.import_module(f"ansm_fast.ops.{name}.registration") for name in folders()]


def functions() -> tuple[str, ...]:
    """Return the names of all public functions."""
    return tuple(name for registration in _registrations() for name in registration.FUNCTIONS)


@functools.cache
def schemas() -> dict[str, str]:
    """By name, the signature of every operator, the same in all namespaces."""
    return {
        name: signature
        for registration in _registrations()
        for name, signature in registration.SCHEMAS.items()
    }


@functools.cache
def define_ops(namespace: str) -> None:
    """Define every operator of a namespace, before a library that implements them is loaded.

    Those of Triton come with their implementation, and need Triton.
    """
    if namespace == triton.NAMESPACE:
        for name in folders():
            importlib.import_module(f"ansm_fast.ops.{name}.triton")
        return
    for name, signature in schemas().items():
        torch.library.define(f"{namespace}::{name}", signature)


def bind(namespace: str, *, fakes: bool = True) -> Kernels:
    """Teach PyTorch what it must know about a namespace's operators; once for each namespace.

    Args:
        fakes: whether to register fake kernels; False for operators that trace themselves.

    Returns:
        What the public functions call, by name.
    """
    kernels: dict[str, Callable[..., Any]] = {}
    for registration in _registrations():
        kernels |= registration.bind(namespace, fakes=fakes)
    return kernels
