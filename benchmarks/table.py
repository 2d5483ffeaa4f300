"""Results of ``run.py`` as Markdown: all of them, and the few rows that README shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Figures = dict[str, dict[str, float]]
PEERS = ("eager", "compile")


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _times(figures: Figures) -> list[str]:
    """Milliseconds of ours and its peers, and how many times ours they take."""
    ms = figures["ms"]
    return [f"{ms['ours']:.1f} ms"] + [
        f"{ms[peer]:.1f} ms ({ms[peer] / ms['ours']:.1f}×)" for peer in PEERS
    ]


def _memory(figures: Figures) -> str:
    peak = figures["peak_bytes"]
    return " / ".join(f"{peak[key] / 2**20:.0f}" for key in ("ours", *PEERS)) + " MiB"


def full_table(results: dict[str, dict[str, Figures]]) -> str:
    """Every case, tuned allocator first, with the copy of as many bytes as the op must move."""
    head = ["work", "allocator", "ours", "eager", "torch.compile", "copy",
            "peak memory ours / eager / compile"]  # fmt: skip
    rows = []
    for name in results["tuned"]:
        for allocator in ("tuned", "default"):
            figures = results[allocator][name]
            ms = figures["ms"]
            copy = f"{ms['copy']:.1f} ms ({ms['ours'] / ms['copy']:.1f})" if "copy" in ms else "–"
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
