"""The CUDA kernels in the SIMT harness: one variant, one process.

    python -m tools.proof.simt plain|address|seen [--quick] [--ops NAME ...] [--library FILE]

Prints JSON: rows of the calls of the ops (the same for both kinds of kernels) and of
tools.gpu, and of the traffic where accesses are seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ansm_fast.ops import backends
from ansm_fast.ops.cases import BRAIN, DTYPES, FLOAT, HALF, NATIVE_LAYOUTS, Call
from ansm_fast.ops.discovery import bind
from tools import cases, commands
from tools.gpu import correctness
from tools.simt import harness
from tools.simt.build import NAMESPACE
from tools.triton import running

Row = dict[str, Any]
# Of more than 2**31 elements the first and last blocks alone are run.
ELEMENTS = 2**31 + 3 * 2**12
ENDS = "lifo,ends:2"


def calls(dtypes: Sequence[torch.dtype]) -> Iterator[tuple[str, Call]]:
    for dtype in dtypes:
        for layout in NATIVE_LAYOUTS:
            for call in cases.calls(dtype, layout):
                name = str(dtype).removeprefix("torch.")
                yield f"{call.label} {name} {layout}", call


def guarded(work: Callable[[], Row], op: str, label: str) -> Row:
    """What fails is a row as well."""
    try:
        return {"op": op, "case": label, "error": ""} | work()
    except RuntimeError as error:
        return {"op": op, "case": label, "error": str(error).splitlines()[0]}


def of_call(simt: harness.Library, call: Call, schedules: tuple[str, ...]) -> Row:
    """Results under every schedule, and what the harness found."""
    results = []
    simt.reset()
    for schedule in schedules:
        with simt.schedule(schedule):
            results.append(running.results_of(call, NAMESPACE))
    launches = simt.report()
    errors = running.errors_of(call, results[0])
    return {
        "numerics": all(error <= bound for error, bound in errors),
        "of_bound": max((e / b for e, b in errors if b), default=0.0),
        "schedules": len(schedules)
        if all(running.same_bits(results[0], r) for r in results)
        else 0,
        "launches": len(launches),
        "kernels": names_of(launches),
        "findings": harness.findings(launches),
    }


def names_of(launches: list[Row]) -> list[str]:
    """The kernels that were launched, without template arguments."""
    return sorted({launch["kernel"].partition("<")[0] for launch in launches})


def of_traffic(simt: harness.Library, call: Call) -> Row:
    simt.reset()
    op = getattr(getattr(torch.ops, NAMESPACE), call.op).default
    with torch.no_grad():
        op(*call.arguments)
    launches = simt.report()
    moved = [launch[kind] for launch in launches for kind in ("read", "written")]
    sectors = sum(m["sectors"] for m in moved)
    ideal = sum(m["ideal_sectors"] for m in moved)
    touched = sum(m["access_sectors"] for m in moved)
    return {
        "bytes_over_minimum": 32 * sectors / call.minimum,
        "sectors_over_ideal": touched / max(1, ideal),
        # An odd row start may cost one more sector for each access.
        "beyond_one_extra": max(0, touched - ideal - sum(m["accesses"] for m in moved)),
        "aligned": call.aligned,
        "kernels": names_of(launches),
        "findings": harness.findings(launches),
        "launches": len(launches),
    }


def of_large(simt: harness.Library, call: Call) -> Row:
    """Whether the last blocks stay within the tensors, and what they write is right."""
    simt.reset()
    op = getattr(getattr(torch.ops, NAMESPACE), call.op).default
    with torch.no_grad(), simt.schedule(ENDS):
        results = op(*call.arguments)
    launches = simt.report()
    wrong = harness.findings(launches)
    if call.last is not None:
        result = running.flat(results)[0] if results is not None else call.arguments[0]
        found, true = result.reshape(-1)[-8:].float(), call.last()
        if not torch.allclose(found, true, rtol=1e-2, atol=1e-3):
            wrong.append(f"the last elements are {found.tolist()}, not {true.tolist()}")
    return {"findings": wrong, "launches": len(launches), "kernels": names_of(launches)}


def of_checks(simt: harness.Library, quick: bool, wanted: Callable[[str], bool]) -> Iterator[Row]:
    """The checks of tools.gpu_check on the same kernels: edges, layouts, gradients."""
    backends.register("simt", backends.Backend(("cpu",), bind(NAMESPACE)))
    # Rows of half a million pixels take minutes on the CPU.
    chosen = [c for c in cases.cases(quick) if torch.Size(c.shape).numel() < 200_000]
    for case in chosen:
        called = [op for op in cases.functions()[case.op].operators if wanted(op)]
        if not called:
            continue
        simt.reset()
        outcome = correctness.run([case], "simt", torch.device("cpu"))[0]
        launches = simt.report()
        for op in called:
            yield {
                "op": op,
                "case": case.name,
                "error": "",
                "launches": len(launches),
                "numerics": outcome.status == correctness.PASSED,
                "message": outcome.detail,
                "schedules": 1,
                "findings": harness.findings(launches),
                "check": True,
            }


def rows(variant: str, quick: bool, only: list[str], library: Path | None) -> list[Row]:
    def wanted(op: str) -> bool:
        return not only or op in only

    torch.set_num_threads(1)
    simt = harness.load(variant, library)
    dtypes = (FLOAT, BRAIN) if quick else DTYPES
    schedules = harness.SCHEDULES if variant == "plain" else ("lifo", "rev,descending")
    found = [
        guarded(lambda call=call: of_call(simt, call, schedules), call.op, label)
        for label, call in calls(dtypes)
        if wanted(call.op)
    ]
    if variant == "seen":
        for dtype in dtypes if quick else (FLOAT, HALF):
            found += [
                guarded(lambda call=call: of_traffic(simt, call), call.op, f"{call.label} {dtype}")
                for call in cases.traffic(dtype)
                if wanted(call.op)
            ]
        for call in cases.large(ELEMENTS):
            if not wanted(call.op):
                continue
            label = f"{call.label}, more than 2**31 elements"
            found.append(guarded(lambda call=call: of_large(simt, call), call.op, label))
    if library is None:
        found += of_checks(simt, quick or variant != "plain", wanted)
    return found


def main() -> None:
    parser = commands.parser_of(__doc__)
    parser.add_argument("variant", choices=("plain", "address", "seen"))
    parser.add_argument("--quick", action="store_true", help="two dtypes, fewer calls")
    commands.add_ops(parser)
    parser.add_argument("--library", type=Path, help="another build, for calls alone")
    options = parser.parse_args()
    only = commands.chosen(parser, options.ops, cases.operators()) if options.ops else []
    found = rows(options.variant, options.quick, only, options.library)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
