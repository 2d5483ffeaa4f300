"""Checkpoints: safetensors with configuration, fingerprint and provenance; never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ansm_fast.errors import InputError
from ansm_fast.images.atomic import write_bytes

FORMAT = "ansm_fast/1"


def fingerprint(kind: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """SHA-256 over kind, configuration and every weight, shortened to 16 hex digits."""
    digest = hashlib.sha256(json.dumps([kind, dict(config)], sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(
    path: str | Path,
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Write a checkpoint atomically; returns its fingerprint.

    Weights that float16 holds without loss are kept in it. Tied weights, of which the file format
    knows nothing, are written once for each of their names.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: _smallest(tensor.detach().cpu()) for name, tensor in state.items()}
    # One storage twice, or a part of a larger one, is refused by the format.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    mark = fingerprint(kind, config, tensors)
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "config": json.dumps(dict(config), sort_keys=True),
        "fingerprint": mark,
        "provenance": json.dumps(dict(provenance or {}), sort_keys=True),
    }
    # Not save_file: it makes files that their owner alone can read.
    write_bytes(path, save(tensors, metadata))
    return mark


def _smallest(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.dtype == torch.float32 and tensor.dim() > 1 else tensor
    return (half if torch.equal(half.to(tensor.dtype), tensor) else tensor).contiguous()


def load_checkpoint(
    path: str | Path, kind: str
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Read configuration, tensors and metadata of a checkpoint of the given kind.

    Raises:
        InputError: no such file, pickle, truncated or foreign file, other kind, altered weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such checkpoint: {path}; give a .safetensors file")
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its JSON header, whose low bytes may be a
    # pickle's first ones by chance.
    if (start[:2] == b"PK" or start[:1] == b"\x80") and start[8:] != b"{":
        raise InputError(
            f"{path} is a pickled checkpoint, which can run code when it is loaded; "
            "only .safetensors files are read, convert it with safetensors.torch.save_file"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path} is not a checkpoint of ansm_fast (format "
                    f"{metadata.get('format')!r}, expected {FORMAT!r}); "
                    "use one written by `ansm-fast train`"
                )
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is truncated or no safetensors file ({error}); copy or train it again"
        ) from error
    if metadata.get("kind") != kind:
        raise InputError(
            f"{path} holds a {metadata.get('kind')!r} checkpoint, but {kind!r} is needed here; "
            "give the right file"
        )
    try:
        config = json.loads(metadata["config"])
    except (KeyError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{path} has no readable configuration; train it again")
    if fingerprint(kind, config, state) != metadata.get("fingerprint"):
        raise InputError(f"{path} was altered after it was written; copy or train it again")
    return config, state, metadata


def lineage(path: str | Path, kind: str) -> dict[str, Any]:
    """Provenance and fingerprint of a checkpoint, as one that goes on from it records them.

    The fingerprint does not cover the provenance, which is a note and no proof.

    Raises:
        InputError: as ``load_checkpoint``, or the provenance is no JSON object.
    """
    _, _, metadata = load_checkpoint(path, kind)
    try:
        found = json.loads(metadata.get("provenance") or "{}")
        return dict(found | {"fingerprint": metadata["fingerprint"]})
    except (ValueError, TypeError, RecursionError) as error:
        raise unreadable_provenance(path) from error


def unreadable_provenance(path: str | Path) -> InputError:
    return InputError(f"{path} has an unreadable record of its training; train or copy it again")


def read_module(module: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load ``state`` into ``module``; InputError naming the file if they don't fit."""
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise InputError(
            f"{path} does not fit its own configuration "
            f"({str(error).splitlines()[-1].strip()}); train it again"
        ) from error


def bundled(name: str) -> Path:
    """Path of a checkpoint that ships inside the package."""
    return Path(__file__).parent.parent / "weights" / name
