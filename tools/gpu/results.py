"""Result files, the printed table, and docs/gpu_results.md made of the committed files."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from ansm_fast.evaluation.tables import write_markdown
from tools.gpu.correctness import FAILED, NOT_RUN, PASSED, Outcome
from tools.ops import ROOT

FOLDER = ROOT / "results" / "gpu"
PAGE = ROOT / "docs" / "gpu_results.md"
IMPLEMENTATIONS = ("cuda", "triton", "eager", "compile", "liger", "copy")
MODES = {"graph": "Replays of a CUDA graph", "calls": "Calls"}
NOTHING = "No result on a GPU has been recorded yet.\n"


def path_for(gpu_name: str, date: str, folder: Path = FOLDER) -> Path:
    """Where a result goes; a second one of the same day gets a number."""
    device = re.sub(r"[^a-z0-9]+", "-", gpu_name.lower()).strip("-")
    path, number = folder / f"{device}-{date}.json", 2
    while path.exists():
        path, number = folder / f"{device}-{date}-{number}.json", number + 1
    return path


def document(
    date: str,
    facts: dict[str, Any],
    outcomes: Sequence[Outcome],
    benchmark: dict[str, Any] | None,
    finished: bool = True,
) -> dict[str, Any]:
    """All that was found; what passed is named, too."""
    return {
        "date": date,
        "finished": finished,
        "facts": facts,
        "passed": not any(outcome.status == FAILED for outcome in outcomes),
        "checks": [outcome.as_json() for outcome in outcomes],
        "benchmark": benchmark,
    }


def counts(checks: Sequence[dict[str, str]]) -> dict[tuple[str, str], Counter[str]]:
    """(backend, part) -> how many passed, failed, were not run."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for check in checks:
        found.setdefault((check["backend"], check["part"]), Counter())[check["status"]] += 1
    return found


def table(outcomes: Sequence[Outcome]) -> str:
    """What is printed: counts of each backend and part, then every failure and reason."""
    lines = [f"{'backend':10} {'part':20} {PASSED:>8} {FAILED:>8} {NOT_RUN:>8}"]
    for (backend, part), count in counts([o.as_json() for o in outcomes]).items():
        numbers = " ".join(f"{count[status]:8}" for status in (PASSED, FAILED, NOT_RUN))
        lines.append(f"{backend:10} {part:20} {numbers}")
    for outcome in outcomes:
        if outcome.status == FAILED:
            where = f"{outcome.backend}, {outcome.part}"
            lines.append(f"failed: {outcome.name} ({where}): {outcome.detail}")
    reasons = Counter(
        (o.backend, o.part, o.detail) for o in outcomes if o.status == NOT_RUN and o.detail
    )
    for (backend, part, reason), count in reasons.items():
        lines.append(f"not run: {backend}, {part}, {count} times: {reason}")
    return "\n".join(lines)


def _git(*arguments: str, root: Path) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def committed(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """The result files as they are committed, by name; others do not count."""
    names = _git("ls-tree", "--name-only", "HEAD", "results/gpu/", root=root)
    return {
        Path(name).name: json.loads(_git("show", f"HEAD:{name}", root=root))
        for name in names.splitlines()
        if name.endswith(".json")
    }


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row.get("error"):
        return "–"
    return f"{row['p50_ms']:.3g} ({100 * row['share_of_copy']:.0f} %)"


def _mode(rows: Sequence[dict[str, Any]], mode: str) -> list[str]:
    """One line for each case and dtype, one column for each implementation."""
    found = {
        (row["case"], row["dtype"], row["implementation"]): row
        for row in rows
        if row["mode"] == mode
    }
    names = [n for n in IMPLEMENTATIONS if any(key[2] == n for key in found)]
    if not names:
        return []
    lines = [
        f"| case | dtype | {' | '.join(names)} |",
        "|---" * (2 + len(names)) + "|",
    ]
    for case, dtype in dict.fromkeys(key[:2] for key in found):
        cells = " | ".join(_cell(found.get((case, dtype, name))) for name in names)
        lines.append(f"| {case} | {dtype} | {cells} |")
    return lines


def _benchmark(benchmark: dict[str, Any]) -> list[str]:
    rows = benchmark["rows"]
    lines = ["", f"Device copy bandwidth, measured: {benchmark['copy_gb_per_s']:.0f} GB/s."]
    for mode, title in MODES.items():
        table = _mode(rows, mode)
        lines += ["", f"{title}: median ms (share of copy).", "", *table] if table else []
    failed: dict[str, list[str]] = {}
    for row in rows:
        if row.get("error"):
            where = f"{row['case']} {row['dtype']}, {row['implementation']}, {row['mode']}"
            failed.setdefault(row["error"].rstrip("."), []).append(where)
    for reason, places in failed.items():
        lines += ["", f"Not measured: {'; '.join(places)}: {reason}."]
    return lines


def _failures(checks: Sequence[dict[str, str]]) -> list[str]:
    """One line for each reason, with the ops that failed by it."""
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for check in checks:
        if check["status"] == FAILED:
            reason = shorten(check["detail"].replace("`", ""), 90, placeholder=" ...")
            found.setdefault((check["backend"], check["part"], reason), {})[check["op"]] = None
    return [
        f"- failed: {backend}, {part}, {', '.join(ops)}: `{reason}`"
        for (backend, part, reason), ops in found.items()
    ]


def _section(name: str, content: dict[str, Any]) -> str:
    facts, gpu = content["facts"], content["facts"]["gpu"]
    lines = [
        f"### {gpu['name']}, {content['date']}",
        "",
        f"[`{name}`](../results/gpu/{name}): driver {gpu.get('driver_version')}, "
        f"torch {facts['torch']} (CUDA {facts['torch_cuda']}), triton {facts['triton']}, "
        f"commit {str(facts['commit'])[:12]}{' with changes' if facts['changed'] else ''}."
        + ("" if content.get("finished", True) else " It was cut off; this is what it had found."),
    ]
    if content["checks"]:
        lines += ["", "| backend | part | passed | failed | not run |", "|---|---|---|---|---|"]
    for (backend, part), count in counts(content["checks"]).items():
        numbers = " | ".join(str(count[status]) for status in (PASSED, FAILED, NOT_RUN))
        lines.append(f"| {backend} | {part} | {numbers} |")
    if failures := _failures(content["checks"]):
        lines += ["", *failures]
    if content.get("benchmark"):
        lines += _benchmark(content["benchmark"])
    return "\n".join(lines) + "\n"


def page_text(documents: dict[str, dict[str, Any]]) -> str:
    """What docs/gpu_results.md shows of result files; one not made on a GPU is refused.

    Raises:
        ValueError: a file without a GPU.
    """
    for name, content in documents.items():
        if not content["facts"]["gpu"]:
            raise ValueError(f"{name} was not made on a GPU; take it out of results/gpu")
    if not documents:
        return NOTHING
    newest = sorted(documents.items(), key=lambda item: item[1]["date"], reverse=True)
    return "\n".join(_section(name, content) for name, content in newest)


def update_page(page: Path = PAGE, root: Path = ROOT) -> None:
    """Write what is committed, and nothing else, into the page."""
    write_markdown(page, page_text(committed(root)), "gpu_results")
