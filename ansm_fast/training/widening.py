"""A wider network that computes what a trained narrower one does, to go on from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def widened(narrow: Mapping[str, Tensor], wide: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the entries of ``narrow`` into the first channels of each of ``wide``.

    Weights that lead from an added channel to an old one become 0: old channels compute what they
    did. Added channels keep what ``wide`` gave them, so that they differ and can learn. A function
    that preserves as Net2Net's (arXiv 1511.05641) does, without its copies of channels.

    Args:
        narrow, wide: states of networks of the same layers, no entry of ``narrow`` the larger.
            Channels are (out, in, ...) of weights, and the first axis of everything else.
    """
    result = {}
    for name, value in wide.items():
        old, new = narrow[name], value.clone()
        if new.ndim >= 2:
            new[: old.shape[0], old.shape[1] :] = 0
        new[tuple(slice(size) for size in old.shape)] = old
        result[name] = new
    return result
