"""The targets, one test each; prints the whole table for the default and the tuned allocator.

Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import pytest

from benchmarks.cases import CASES
from benchmarks.run import Results, misses, run
from benchmarks.table import full_table


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Results:
    measured = run()
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + full_table(measured))
    return measured


@pytest.mark.parametrize("name", CASES)
def test_target(results, name) -> None:
    missed = misses({name: results["tuned"][name]})
    assert not missed, "; ".join(missed)
