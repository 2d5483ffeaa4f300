"""The state of a training run in one file that is there whole or not at all.

Model and optimizer go through ``torch.distributed.checkpoint.state_dict``, which gathers them from
plain, replicated (DDP) and sharded (FSDP) modules alike: a run may go on with another number of
processes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from ansm_fast.errors import InputError

_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SCATTER = StateDictOptions(full_state_dict=True)


@contextlib.contextmanager
def disk_errors(path: Path, kept: str) -> Iterator[None]:
    """Raise InputError that names ``path`` and says what is ``kept``, if the disk is full or
    fails."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {path} ({error}); {kept}; make room and give the same command again"
        ) from error


def fill_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter of AdamW its initial state now instead of at its first gradient.

    A stage of a training may leave parameters without gradients; a state that holds all of them can
    be gathered and scattered whole.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def gather_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and AdamW's moments by name, on the CPU; called by all processes, whole on the first.

    Names: ``model/<parameter or buffer>`` and ``optimizer/<entry>/<parameter>``.
    """
    weights = get_model_state_dict(model, options=_GATHER)
    moments: Any = get_optimizer_state_dict(model, optimizer, options=_GATHER).get("state", {})
    tensors: dict[str, Any] = {f"model/{name}": value for name, value in weights.items()}
    for name, entries in moments.items():
        tensors |= {f"optimizer/{entry}/{name}": value for entry, value in entries.items()}
    return {name: value.detach().clone() for name, value in tensors.items()}


def scatter_state(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put what ``gather_state`` gave into a model and its optimizer; called by all processes."""
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in part(tensors, "optimizer/").items():
        entry, name = key.split("/", 1)
        moments.setdefault(name, {})[entry] = value
    current = get_optimizer_state_dict(model, optimizer, options=_SCATTER)
    set_model_state_dict(model, dict[str, Any](part(tensors, "model/")), options=_SCATTER)
    set_optimizer_state_dict(
        model,
        optimizer,
        {"state": moments, "param_groups": current["param_groups"]},  # type: ignore[dict-item]
        options=_SCATTER,
    )
    # Moments in their parameter's memory layout, as in an unbroken run: to the last bit its result.
    for parameter, entries in optimizer.state.items():
        for entry in ("exp_avg", "exp_avg_sq"):
            entries[entry] = torch.empty_like(parameter).copy_(entries[entry])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], kept: str
) -> None:
    """Write under a temporary name, flush to the disk, rename; a failure leaves the old file.

    Args:
        kept: what the error says is left, e.g. "the last checkpoint, of step 100, is intact".

    Raises:
        InputError: the disk is full or cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path, kept):
        try:
            whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(whole, temporary, dict(metadata))
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata alone, without a tensor; InputError if the file is damaged."""
    with _reading(path), safe_open(path, framework="pt") as opened:
        return opened.metadata() or {}


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; InputError if the file is damaged."""
    with _reading(path), safe_open(path, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return tensors, opened.metadata() or {}


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove it to start the run again"
        ) from error
