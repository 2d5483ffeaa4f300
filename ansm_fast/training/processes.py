"""Training in one process or many, on Hugging Face Accelerate.

Two processes on one machine without a GPU (gloo), both of which see half of every batch::

    ansm-fast train ansm --config my.yaml -o runs/mine --processes 2
    torchrun --nproc-per-node 2 -m ansm_fast.cli.main train ansm --config my.yaml -o runs/mine
    accelerate launch --multi_gpu --num_processes 2 -m ansm_fast.cli.main train ansm ...

(``--multi_gpu`` means several processes to the launcher, GPU or none; with ``--cpu`` it starts
one.) The first does the same as the second, but that it ends in one line where torchrun adds a page
of its own, which a process that it started cannot suppress. Only the first process speaks; see
``cli.speaker``.

Several GPUs and several machines take no other code, only Accelerate's own configuration
(``accelerate config``, or the file given to ``accelerate launch --config_file``): the fields
``distributed_type: MULTI_GPU``, ``num_processes``, ``num_machines``, ``machine_rank``,
``main_process_ip``, ``main_process_port``; the output folder must then be one that all machines
see. Sharded training (FSDP2) takes ``distributed_type: FSDP`` and ``fsdp_config`` with
``fsdp_version: 2`` and ``fsdp_auto_wrap_policy: NO_WRAP`` (the losses call parts of the networks,
and a wrapped part is whole only during its own forward). Accelerate shards on accelerators only;
on a CPU its FSDP fields do nothing. Precision comes from the run's own config (``precision``), not
from Accelerate's ``mixed_precision``.

Tests run one process and two on a CPU, and save and restore the state of sharded modules; several
GPUs and a whole FSDP run are configuration that no test covers.

Batch normalization takes its statistics over all processes, so that N processes with B / N images
each compute what one process computes with B, up to rounding. Rounding is not always little: it
decides which gradients pass where a residual lies on the bound that it is clipped to. Tests
therefore compare losses and gradients of whole runs in float64. ``accumulate`` has no such
equality: each part is normalized by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from ansm_fast.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

# The first process attacks and validates alone, for hours; the others wait.
_PATIENCE = timedelta(days=7)


def chosen_device(device: str) -> torch.device:
    """Return the device of this process that "cpu", "cuda" or "auto" means.

    Raises:
        InputError: there is no GPU where one was asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda: torch sees no GPU here (ansm-fast doctor tells why); give --device cpu "
            "or auto"
        )
    if device == "auto" and torch.accelerator.is_available():
        found = torch.accelerator.current_accelerator()
        return torch.device("cpu") if found is None else found
    return torch.device("cpu" if device == "auto" else device)


def make_accelerator(accumulate: int = 1, device: str = "auto") -> Accelerator:
    """Return the accelerator of this process.

    Args:
        accumulate: parts that its share of a batch is cut into.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        InputError: Accelerate is not installed, or there is no GPU where one was asked for.
    """
    chosen = chosen_device(device)
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise InputError(
            "training needs Hugging Face Accelerate, which is not installed; "
            "pip install 'ansm-fast[train]'"
        ) from error
    return Accelerator(
        # Without being told, Accelerate starts no process group on a machine without a GPU.
        cpu=chosen.type == "cpu",
        mixed_precision="no",
        gradient_accumulation_steps=accumulate,
        kwargs_handlers=[
            # A stage may leave the other stages' parameters without gradients.
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


def process_count() -> int:
    """Count the processes of which this is one, as the launcher (torchrun, accelerate) says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_batch_sizes(
    sizes: Mapping[str, int], accumulate: int, processes: int | None = None
) -> None:
    """Raise InputError unless every batch can be cut into equal parts.

    Args:
        sizes: field of the config to size of a batch.
        accumulate: parts that a process's share is cut into.
        processes: that share a batch; by default as many as were launched.
    """
    processes = process_count() if processes is None else processes
    parts = processes * accumulate
    for name, size in sizes.items():
        if size % parts:
            raise InputError(
                f"{name} must be a multiple of {parts} ({processes} processes x accumulate "
                f"{accumulate}), got {size}; {_nearest(size, parts)}"
            )


def _nearest(size: int, parts: int) -> str:
    below = size // parts * parts
    choices = " or ".join(str(one) for one in (below, below + parts) if one)
    return f"give {choices}, or another number of processes"


def network_autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context a network's forward runs in; losses stay outside, in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def share(batch: tuple[Tensor, ...], accelerator: Accelerator, turn: int = 0) -> tuple[Tensor, ...]:
    """This process's ``turn``-th part of a batch of which every process has made the whole."""
    turns = accelerator.gradient_accumulation_steps
    size = len(batch[0]) // (accelerator.num_processes * turns)
    start = (accelerator.process_index * turns + turn) * size
    parts = (tensor[start : start + size] for tensor in batch)
    return tuple(part.to(accelerator.device, non_blocking=part.is_pinned()) for part in parts)


class StepModule(nn.Module):
    """The losses as one module, whose forward is what DDP and FSDP watch."""

    def __init__(self, learning: nn.Module, loss: Callable[..., Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.learning, self.loss = learning, loss

    def forward(self, step: int, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
        losses = self.loss(step, *tensors)
        return {k: v if k == "loss" else v.detach() for k, v in losses.items()}


class AllReducedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over all processes; ``nn.SyncBatchNorm`` runs on accelerators only.

    Mean and variance of a channel are those over the images of all processes together, which must
    be equally many in each. Two reductions a forward, differentiable.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = input.numel() // input.shape[1] * distributed.get_world_size()
        values = input.float()
        mean = all_reduce(values.sum((0, 2, 3))) / count
        centered = values - mean[:, None, None]
        variance = all_reduce(centered.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        result = centered * scale[:, None, None] + self.bias[:, None, None]
        return result.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronize_batch_norm(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Replace batch normalization in ``module`` by one over all processes, if there are several."""
    if accelerator.num_processes == 1:
        return module
    if accelerator.device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if type(child) is nn.BatchNorm2d and child.affine and child.momentum is not None:
            child.__class__ = AllReducedBatchNorm2d
    return module
