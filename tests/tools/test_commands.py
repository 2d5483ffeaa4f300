"""What ``--ops`` chooses."""

from __future__ import annotations

import pytest

from tools import commands

AMONG = {"kl": "kl", "kl_backward": "kl", "pgd_step_": "steps", "project": "steps"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], list(AMONG)),
        (["steps"], ["pgd_step_", "project"]),
        (["kl"], ["kl"]),  # an operator's name, and so not the folder's
        (["project", "kl_backward"], ["kl_backward", "project"]),
    ],
)
def test_chosen(names, chosen) -> None:
    assert commands.chosen(commands.parser_of("x"), names, AMONG) == chosen


def test_an_unknown_name(capsys) -> None:
    with pytest.raises(SystemExit):
        commands.chosen(commands.parser_of("x"), ["kl", "bce"], AMONG)
    assert "there is no bce; --ops takes kl, steps, kl_backward," in capsys.readouterr().err
