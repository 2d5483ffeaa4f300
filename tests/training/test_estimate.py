"""How long a training takes is told from timed steps: the sum, without a clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ansm_fast.training.config import parse_run
from ansm_fast.training.estimate import Estimate, Estimator, Steps

VALUES = {
    "kind": "ansm", "steps": 100, "data": {"train": "a", "validation_count": 10},
    "photographs": "none", "detect": {"steps": 40}, "ffa": {"steps": 20},
    "attacks": [{"name": "pgd", "steps": 5, "weight": 3}, {"name": "noise", "weight": 1}],
    "attack_cache_size": 20, "validate_every": 50,
    "validation_attacks": [{"name": "pgd", "steps": 10}, {"name": "fgsm", "adaptive": True}],
}  # fmt: skip


def estimator(monkeypatch: pytest.MonkeyPatch) -> Estimator:
    """One of a localizer that takes a second a step."""
    timed = Steps(detection=2.0, ffa=3.0, mgr=5.0, image=0.5)
    found = SimpleNamespace(step=1.0)
    made = Estimator(torch.nn.Identity(), found, range(8), torch.device("cpu"))  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_measured", lambda _run: timed)
    return made


def test_every_part_counts(monkeypatch) -> None:
    found = estimator(monkeypatch)(parse_run(VALUES, "test"), [("pgd", 20)])
    assert found.attacks == 24 * (3 * 5 / 4)  # whole batches of eight
    assert found.detection == 40 * 2.0 and found.writing == 20 * 3.0 + 40 * 5.0
    # Eight images: PGD once, FGSM in both validations, and the verdict's PGD; then what is scored.
    assert found.measuring == 8 * (10 + 2 + 20) * 1.0 + (3 * 2 + 2 * 2) * 8 * 0.5
    assert found.total == found.attacks + found.detection + found.writing + found.measuring


def test_renewed_attacks_count(monkeypatch) -> None:
    values = VALUES | {"architecture": "two_view", "renew_every": 10}
    found = estimator(monkeypatch)(parse_run(values, "test"))
    assert found.attacks == (24 + 8 * 10) * (3 * 5 / 4)


def test_steps_of_one_kind_are_timed_once(monkeypatch) -> None:
    made, timed = estimator(monkeypatch), []
    monkeypatch.setattr(made, "_measured", lambda run: timed.append(run) or Steps(1, 1, 1, 1))
    for steps in (100, 200):
        made(parse_run(VALUES | {"steps": steps}, "test"))
    made(parse_run(VALUES | {"crop": 64}, "test"))
    assert len(timed) == 2


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (6.0, "about 24 s (attacks 6, detection 6, FFA and MgR 6, measuring 6)"),
        (60.0, "about 4.0 min (attacks 1.0, detection 1.0, FFA and MgR 1.0, measuring 1.0)"),
        (600.0, "about 40 min (attacks 10, detection 10, FFA and MgR 10, measuring 10)"),
        (3600.0, "about 4.0 h (attacks 1.0, detection 1.0, FFA and MgR 1.0, measuring 1.0)"),
    ],
)
def test_it_is_told_in_one_unit(seconds, line) -> None:
    assert Estimate(seconds, seconds, seconds, seconds).line() == line
