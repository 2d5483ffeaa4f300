"""Every Triton op in the interpreter: numerics, schedules, bounds, races, bytes. A row a case.

python -m tools.triton.interpreter_report [--json] [--quick] [--ops NAME ...]
    [--dtype float32 ...] [--orders 3]

The exit status is 1 where one of them fails.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated
warnings.filterwarnings("ignore", category=RuntimeWarning)  # numpy's, of inf and NaN

import torch  # noqa: E402
from triton.runtime.errors import InterpreterError  # noqa: E402

from ansm_fast.ops.cases import NATIVE_LAYOUTS  # noqa: E402
from tools import commands  # noqa: E402
from tools.cases import calls, operators, third_of  # noqa: E402
from tools.triton.accesses import ORDERS, OutOfBounds  # noqa: E402
from tools.triton.running import row_of  # noqa: E402

SECTORS_OVER_MINIMUM = 1.02
DTYPES = ("float32", "bfloat16", "float16", "float64")


def wrong(row: dict[str, Any]) -> bool:
    if row["bounds"] or not row["numerics"] or not row["schedules"] or row["races"]:
        return True
    return row["minimum"] is not None and row["sectors_over_minimum"] > SECTORS_OVER_MINIMUM


def rows(
    dtypes: Sequence[str], orders: int = len(ORDERS), brief: bool = False, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One row for every op (or those of ``only``), dtype, layout and case; ``bounds`` names an
    access out of bounds."""
    found = []
    for name in dtypes:
        for layout in NATIVE_LAYOUTS:
            every = calls(getattr(torch, name), layout)
            for call in third_of(every, f"{name} {layout}") if brief else every:
                if only and call.op not in only:
                    continue
                row: dict[str, Any] = {"dtype": name, "layout": layout, "bounds": None}
                try:
                    row |= row_of(call, ORDERS[:orders])
                except (InterpreterError, OutOfBounds) as error:
                    row |= {"op": call.op, "case": call.label, "bounds": str(error)}
                found.append(row)
    return found


def main() -> None:
    parser = commands.parser_of(__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES)
    parser.add_argument("--quick", action="store_true", help="two dtypes, a third of the calls")
    parser.add_argument("--orders", type=int, default=len(ORDERS))
    commands.add_ops(parser)
    options = parser.parse_args()
    found = rows(
        options.dtype or DTYPES[: 2 if options.quick else None], options.orders, options.quick,
        commands.chosen(parser, options.ops, operators()),
    )  # fmt: skip
    bad = sum(map(wrong, found))
    if options.json:
        print(json.dumps(found))
        sys.exit(min(bad, 1))
    for row in found:
        ratio = row.get("sectors_over_minimum")
        print(
            f"{row['op']:24} {row['dtype']:9} {row['layout']:14} {row['case']:36} "
            f"error {row.get('error', float('nan')):.1e} {'ok' if row.get('numerics') else 'BAD'}  "
            f"schedules {row.get('schedules')}  races {len(row.get('races', []))}  "
            f"bounds {row['bounds'] or 'ok'}  "
            + (f"sectors/minimum {ratio:.4f}" if ratio is not None else "")
        )
    print(f"{len(found)} cases, {bad} wrong")
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
