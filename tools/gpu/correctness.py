"""Runs cases on a backend and says of each whether it passed, failed or was not run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch

from ansm_fast.ops import backends
from ansm_fast.ops.cases import Case
from tools.gpu import calls
from tools.gpu.rules import FORWARD_ONLY, RULES

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Outcome:
    part: str
    backend: str
    op: str
    name: str
    status: str
    detail: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def attempt(
    part: str, backend: str, op: str, name: str, check: Callable[[], str | None]
) -> Outcome:
    """The outcome of a check that returns what is wrong; an exception is a failure, too."""
    try:
        wrong = check()
    except Exception as error:
        wrong = one_line(error)
    return Outcome(part, backend, op, name, FAILED if wrong else PASSED, wrong or "")


def same_bits(found: calls.Tensors, again: calls.Tensors) -> str | None:
    for name, value in found.items():
        # Bytes, since NaN is not equal to itself.
        one, other = (x.contiguous().reshape(-1).view(torch.uint8) for x in (value, again[name]))
        if not torch.equal(one, other):
            return f"{name} has other bits at the second run"
    return None


def check(case: Case, backend: str, device: torch.device) -> str | None:
    """What is wrong with a case's results, if anything is."""
    tensors = calls.make(case)
    special = case.rule == "reference" and case.values != "random"
    backward = case.rule not in FORWARD_ONLY and not special
    found, again = (
        calls.results(case, calls.placed(tensors, case.layout, device), backend, backward)
        for _ in range(2)
    )
    kept = {name: value.clone() for name, value in found.items()}
    return RULES[case.rule](case, tensors, kept) or same_bits(found, again)


def why_not(case: Case, backend: str, device: torch.device) -> str | None:
    function = case.op.partition(" of ")[0]
    return backends.why_not(function, backend, (torch.empty(0, device=device),))


def run(cases: Iterable[Case], backend: str, device: torch.device) -> list[Outcome]:
    outcomes = []
    for case in cases:
        reason = why_not(case, backend, device)
        if reason:
            outcomes.append(Outcome("values", backend, case.op, case.name, NOT_RUN, reason))
            continue
        outcomes.append(
            attempt(
                "values",
                backend,
                case.op,
                case.name,
                lambda case=case: check(case, backend, device),
            )
        )
    return outcomes
