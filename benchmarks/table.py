"""Results of ``run.py`` as Markdown: all of them, and the few rows that README shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Figures = dict[str, dict[str, Any]]
PEERS = ("eager", "compile")


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _times(figures: Figures) -> list[str]:
    """Milliseconds of ours and its peers, and how many times ours they take."""
    ms, over = figures["ms"], figures["over"]
    return [f"{ms['ours']['median']:.1f} ms"] + [
        f"{ms[peer]['median']:.1f} ms ({1 / over[peer]['median']:.1f}×)" for peer in PEERS
    ]


def _memory(figures: Figures) -> str:
    peak = figures["peak_bytes"]
    return " / ".join(f"{peak[key] / 2**20:.0f}" for key in ("ours", *PEERS)) + " MiB"


def full_table(results: dict[str, dict[str, Figures]]) -> str:
    """Every case, tuned allocator first, with the copy of as many bytes as the op must move."""
    head = ["work", "allocator", "ours", "eager", "torch.compile", "copy",
            "peak memory ours / eager / compile"]  # fmt: skip
    rows = []
    for name in dict.fromkeys(name for of in results.values() for name in of):
        for allocator in ("tuned", "default"):
            if figures := results.get(allocator, {}).get(name):
                ms, over = figures["ms"]["copy"]["median"], figures["over"]["copy"]["median"]
                copy = f"{ms:.1f} ms ({over:.1f})"
                rows.append([name, allocator, *_times(figures), copy, _memory(figures)])
    return grid(head, rows)


def short_table(results: dict[str, dict[str, Figures]], names: dict[str, str]) -> str:
    """Some cases, by what README calls them, as programs run them: with the default allocator."""
    head = ["work", "ours", "eager", "torch.compile", "peak memory ours / eager / compile"]
    found = results["default"]
    return grid(head, [[title, *_times(found[n]), _memory(found[n])] for n, title in names.items()])


def where(document: dict[str, Any]) -> str:
    """What the figures were measured on, in a line."""
    machine = document["machine"]
    return (
        f"Medians on {machine['threads']} threads of {machine['cpu']} ({machine['capability']}), "
        f"torch {machine['torch']}, float32"
    )
