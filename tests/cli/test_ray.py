"""``ansm-fast defend --ray``: what is refused before Ray starts. The run is in tests/inference."""

from __future__ import annotations

import sys

import pytest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--ray-workers 2", "--ray-workers says how widely --ray shares the work; give --ray"),
        ("--ray --profile", "--profile tells of the threads of one process"),
        ("--ray", "--ray needs Ray"),
    ],
)
def test_what_is_refused(run, forgeries, monkeypatch, line, said) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(f"defend --batch {forgeries} -o out --weights tiny {line}")
    assert result.code and len(result.err) == 1 and said in result.err[0]
    if "needs" in said:
        assert result.err[0].endswith("pip install 'ansm-fast[ray]'")
