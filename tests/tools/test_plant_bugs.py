"""The mistakes can be planted: each names one place of a kernel, and operators of its op."""

from __future__ import annotations

import pytest

from tools.cases import described
from tools.ops import KERNELS, OPS, mistakes

MISTAKES = [mistake for op in OPS for mistake in mistakes(op)]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_there_is_one_place_for_it(mistake) -> None:
    text = (KERNELS / mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1
    assert set(mistake.operators) <= set(described()[mistake.op].operators)


def test_names_are_told_apart() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)
