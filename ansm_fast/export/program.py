"""An ANSM as a program of ``torch.export``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic_shapes

from ansm_fast.errors import InputError
from ansm_fast.export.network import ExportableANSM
from ansm_fast.images.atomic import write_bytes
from ansm_fast.models import BaseANSM

# Sizes that no other dimension has, so that none is taken for another.
_EXAMPLE = (2, 3, 50, 70)
_DIMENSIONS = {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}


def trace(network: nn.Module) -> ExportedProgram:
    """The graph of a function of one image batch, of any size from 1 x 1 on."""
    image = torch.full(_EXAMPLE, 0.5)
    # Without it a graph of sizes from 2 on would be made, that refuses a batch of one.
    one_is_any = symbolic_shapes.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with one_is_any, torch.no_grad():
        return torch.export.export(
            network.eval(),
            (image,),
            dynamic_shapes={"image": _DIMENSIONS},
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def export_program(ansm: BaseANSM, *, outputs: Sequence[str] | None = None) -> ExportedProgram:
    """Export ``ansm`` with ``torch.export``, on the CPU and in float32.

    The program takes one batch of images, (B, 3, H, W) float32, RGB in [0, 1], of any B, H and W
    from 1 on, and gives a tuple of the tensors named by ``outputs``. It holds operators of PyTorch
    alone and needs no ansm_fast where it runs.

    Args:
        outputs: of "defended", "attacked_map" (B, 1, ceil(H / 2), ceil(W / 2)), "attack_score" (B,)
            and "perturbation", in the order in which they are wanted; by default the first three,
            or "defended" alone where the ANSM cannot tell whether an image was attacked.

    Raises:
        InputError: no such output, or one that this ANSM cannot give. TypeError: no ANSM.
    """
    return trace(ExportableANSM(ansm, outputs).cpu())


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file; one that was there is replaced once the new one is whole.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_bytes(Path(path), content)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; give another file"
        ) from error


def save_program(ansm: BaseANSM, path: str | Path, *, outputs: Sequence[str] | None = None) -> None:
    """Write what ``export_program`` gives to a file::

        save_program(load_ansm(), "robust.pt2")
        defended, attacked_map, attack_score = torch.export.load("robust.pt2").module()(image)

    Raises:
        InputError: as ``export_program``; the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.export.save(export_program(ansm, outputs=outputs), buffer)
    write_whole(path, buffer.getvalue())
