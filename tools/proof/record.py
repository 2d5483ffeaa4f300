"""Which ops were proved as they stand: CI proves those that changed since.

An op's digest is of all that its proof depends on: its own files, what ops share, the tools that
prove, and the versions of the compilers. ``results/proof.json`` holds the digest of each op's last
proof that found nothing wrong.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ansm_fast.images.atomic import write_text
from tools.ops import OPS, ROOT

RECORD = ROOT / "results" / "proof.json"
_SHARED = (
    "kernels/common", "csrc/common", "build_backend", "tools/proof", "tools/simt", "tools/triton",
    "tools/prove.py", "tools/cases.py", "tools/compile_report.py", "tools/ops.py",
)  # fmt: skip
# Not pictures and texts, nor what a proof writes itself, but what it compares with.
_SUFFIXES, _TABLE = {".h", ".cuh", ".cu", ".cpp", ".py", ".yaml"}, "resources.md"


def _files(root: Path, op: str) -> Iterator[Path]:
    shared = [root / name for name in _SHARED]
    shared += (root / "ansm_fast" / "ops").glob("*.py")
    own = [root / folder / op for folder in ("kernels", "csrc", "ansm_fast/ops")]
    for place in (*own, *shared):
        found = place.rglob("*") if place.is_dir() else [place]
        for path in found:
            if path.is_file() and (path.suffix in _SUFFIXES or path.name == _TABLE):
                yield path


def digest(op: str, compilers: str, root: Path = ROOT) -> str:
    """Hash of all that the proof of an op depends on; ``compilers`` names their versions."""
    result = hashlib.sha256(compilers.encode())
    for path in sorted(_files(root, op)):
        result.update(f"\n{path.relative_to(root)}\n".encode())
        result.update(path.read_bytes())
    return result.hexdigest()


def compilers(nvcc: str) -> str:
    """Versions of nvcc, as given, and of Triton."""
    return f"nvcc {nvcc}, triton {importlib.metadata.version('triton')}"


def changed(ops: Iterable[str], compilers: str, record: Path = RECORD) -> list[str]:
    """Those of ``ops`` that were not proved as they stand."""
    known = json.loads(record.read_text("utf-8")) if record.exists() else {}
    return [op for op in ops if known.get(op) != digest(op, compilers)]


def remember(ops: Iterable[str], compilers: str, record: Path = RECORD) -> None:
    """Record that ``ops`` were proved as they stand."""
    known = json.loads(record.read_text("utf-8")) if record.exists() else {}
    known |= {op: digest(op, compilers) for op in ops}
    kept = {op: known[op] for op in OPS if op in known}
    write_text(record, json.dumps(kept, indent=1) + "\n")
