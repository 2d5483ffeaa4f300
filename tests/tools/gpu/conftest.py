"""What the tests of tools.gpu_check share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ansm_fast.ops import backends, library

Plant = Callable[[str, Callable[..., Any]], None]


@pytest.fixture(autouse=True)
def native_library() -> None:
    if library.PATH is None:
        pytest.skip(f"no compiled library: {library.WHY_NOT}")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Hundreds of small cases: threads that wait for each other cost more than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes backend "planted": the CPU's ops, the results of one of them changed."""

    def planted(op: str, change: Callable[..., Any]) -> None:
        plain = backends.native("cpu")
        right = plain[op]

        def wrong(*arguments: Any, **options: Any) -> Any:
            return change(right(*arguments, **options), *arguments)

        kernels = {**plain, op: wrong}
        monkeypatch.setitem(backends._BACKENDS, "planted", backends.Backend(("cpu",), kernels))

    return planted
