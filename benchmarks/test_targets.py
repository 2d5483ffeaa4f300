"""The targets, one test each; prints the whole table for the default and the tuned allocator."""

from __future__ import annotations

import pytest
from run import TARGETS, Results, misses, run, table

NAMES = [*TARGETS, "channels_last"]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Results:
    measured = run()
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + table(measured))
    return measured


@pytest.mark.parametrize("name", NAMES)
def test_target(results, name) -> None:
    missed = [line for line in misses(results) if line.startswith(name)]
    assert not missed, "; ".join(missed)
