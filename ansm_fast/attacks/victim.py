"""The state of a victim: eval mode while it is attacked or scored, and then as it was found."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_P = ParamSpec("_P")
_R = TypeVar("_R")

# A lambda around a bound method of an object that holds a module: four steps, and some to spare.
_DEPTH = 8
_LARGEST_COLLECTION = 64


def find_modules(victim: object) -> list[nn.Module]:
    """Return the modules that calling ``victim`` may run, as far as they can be seen from outside.

    Seen are a module itself; what a function closes over or names as a global; the object behind a
    method; the arguments of a ``functools.partial``; the attributes of other callables; and lists,
    tuples and dicts of these. Not seen is what a function looks up while it runs.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    waiting = [(victim, _DEPTH)]
    while waiting:
        one, steps = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            found.append(one)
        elif steps:
            waiting += [(part, steps - 1) for part in _parts(one)]
    return found


def _parts(one: object) -> list[object]:
    """What the call of an object may lead to, one step on."""
    if isinstance(one, types.FunctionType):
        return _reached_by(one)
    if isinstance(one, types.MethodType):
        return [one.__self__, one.__func__]
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if isinstance(one, dict):
        return list(one.values())[:_LARGEST_COLLECTION]
    if isinstance(one, list | tuple):
        return list(one)[:_LARGEST_COLLECTION]
    if isinstance(one, type | types.ModuleType | Tensor):
        return []
    values = getattr(one, "__dict__", {}).values()
    return [value for value in values if callable(value) or isinstance(value, dict | list | tuple)]


def _reached_by(function: types.FunctionType) -> list[object]:
    found: list[object] = list(function.__defaults__ or ())
    found += (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # assigned later
            continue
    codes = [function.__code__]
    for code in codes:  # grows: comprehensions and inner functions have codes of their own
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
        named = (name for name in code.co_names if name in function.__globals__)
        found += [function.__globals__[name] for name in named]
    return found


def _submodules(modules: list[nn.Module]) -> list[nn.Module]:
    return list(dict.fromkeys(part for module in modules for part in module.modules()))


@contextmanager
def evaluating(*victims: object) -> Iterator[None]:
    """Put the victims' modules into eval mode; no gradient goes to their parameters inside.

    Afterwards, also after an exception, every submodule's mode and every parameter's
    ``requires_grad`` are as they were found. Flags are set one by one: a module's own ``train()``
    may do more than that. Graphs made inside stay without the parameters.
    """
    parts = _submodules([module for victim in victims for module in find_modules(victim)])
    training = [part for part in parts if getattr(part, "training", False)]
    asking = [
        parameter
        for part in parts
        for parameter in part.parameters(recurse=False)
        if parameter.requires_grad and parameter.is_leaf and not is_lazy(parameter)
    ]
    try:
        for part in training:
            part.training = False
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for part in training:
            part.training = True
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def as_found(*victims: object) -> Iterator[None]:
    """Put victims into eval mode (``evaluating``); afterwards every buffer holds what it held.

    A buffer that a forward replaced or wrote to, even in eval mode, gets its old values back.
    """
    parts = _submodules([module for victim in victims for module in find_modules(victim)])
    kept = [
        (part, name, buffer, _version(buffer), buffer.detach().clone())
        for part in parts
        for name, buffer in part.named_buffers(recurse=False)
        if not is_lazy(buffer)
    ]
    try:
        with evaluating(*parts):
            yield
    finally:
        with torch.no_grad():
            for part, name, buffer, version, values in kept:
                if getattr(part, name, None) is not buffer:
                    setattr(part, name, buffer)
                if _version(buffer) != version:
                    buffer.copy_(values)


def _version(tensor: Tensor) -> int:
    # Of an inference tensor nothing outside inference mode can write to.
    return 0 if tensor.is_inference() else tensor._version


def leaves_victim_as_found(attack: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a function within ``as_found`` of its argument ``localizer``, and with gradients even
    where the caller is in inference mode."""
    position = list(inspect.signature(attack).parameters).index("localizer")

    @functools.wraps(attack)
    def wrapped(*arguments: _P.args, **keywords: _P.kwargs) -> _R:
        victim = arguments[position] if len(arguments) > position else keywords.get("localizer")
        outside = (
            torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
        )
        with outside, as_found(victim):
            return attack(*arguments, **keywords)

    return wrapped
