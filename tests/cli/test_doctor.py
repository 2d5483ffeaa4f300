from __future__ import annotations

import json

from click.testing import CliRunner

from ansm_fast.cli.doctor import command
from ansm_fast.ops.backends import BACKENDS, OPS


def test_json_has_a_state_for_every_op_and_backend() -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert set(report["backends"]) == set(OPS)
    for states in report["backends"].values():
        assert set(states) == set(BACKENDS) and all(states.values())
        assert states["reference"] == "available"
        assert states["cuda"] != "available" and len(states["cuda"]) > 20
    assert report["runtime"]["threads"] >= 1
    assert all(len(mark) == 16 for mark in report["weights"].values())


def test_the_table_names_every_backend() -> None:
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 0
    assert all(backend in result.output for backend in BACKENDS)
