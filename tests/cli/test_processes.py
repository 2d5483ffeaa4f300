"""Several processes: what is wrong is seen before they start, and one of them says it."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest
import torch.distributed.launcher.api as launcher
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from ansm_fast.cli import speaker

TRAIN = "train ansm --config ansm -o out --set data.train=set --set data.validation=set"


@pytest.fixture
def launched(monkeypatch) -> SimpleNamespace:
    """What the launcher was asked for, and how the processes end."""
    seen = SimpleNamespace(command=None, raises=None)

    def launch(config, executable):
        def call(*command):
            seen.command, seen.count = command, config.nproc_per_node
            if seen.raises is not None:
                raise seen.raises

        return call

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(launcher, "elastic_launch", launch)
    return seen


def test_a_batch_that_cannot_be_shared_starts_nothing(forgeries, run, launched) -> None:
    result = run(f"{TRAIN} --processes 2 --set batch_size=3")
    assert result.code == 2 and launched.command is None
    assert result.err == [
        "ansm-fast: error: batch_size must be a multiple of 2 (2 processes x accumulate 1), got 3; "
        "give 2 or 4, or another number of processes"
    ]


def test_under_torchrun_it_is_seen_before_anything_is_loaded(forgeries, run, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run(f"{TRAIN} --set batch_size=3")
    assert result.code == 2 and len(result.err) == 1
    assert "batch_size must be a multiple of 2" in result.err[0]
    result = run(f"{TRAIN} --processes 2")
    assert result.code == 2 and "leave it out under torchrun" in result.err[0]


def test_the_other_processes_leave_the_word_to_the_first(forgeries, run, monkeypatch) -> None:
    monkeypatch.setattr(speaker, "_PATIENCE", 0.01)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    # Still there after a while: the launcher has not ended it, the error is its own.
    assert "got 3" in run(f"{TRAIN} --set batch_size=3").err[0]

    def ended(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ended)
    assert run(f"{TRAIN} --set batch_size=3").err == []


def test_the_processes_get_the_same_command(forgeries, run, launched) -> None:
    assert run(f"--debug {TRAIN} --processes 2 --set seed=4").code == 0
    assert launched.count == 2 and launched.command[0] == "-c"
    assert launched.command[2:] == (
        "train", "ansm", "-o", "out", "--config", "ansm", "--set", "data.train=set",
        "--set", "data.validation=set", "--set", "seed=4", "--set", "report=false",
    )  # fmt: skip


def failed(code: int) -> ChildFailedError:
    failure = SimpleNamespace(
        exitcode=code, timestamp=0, error_file="<N/A>", local_rank=0, pid=1, message="",
        timestamp_isoformat=lambda: "", signal_name=lambda: "",
    )  # fmt: skip
    return ChildFailedError("ansm-fast", {0: failure})


ENDS = [
    (failed(2), 2, None),
    (failed(-9), 2, "one of the 2 processes was ended by SIGKILL; was the memory full?"),
    (SignalException("", signal.SIGINT), 130, None),
    (SignalException("", signal.SIGTERM), 143, "terminated in 2 processes; the last checkpoint"),
]


@pytest.mark.parametrize(("raised", "code", "words"), ENDS)
def test_the_end_of_a_process_is_the_end_of_the_command(
    forgeries, run, launched, raised, code, words
) -> None:
    launched.raises = raised
    result = run(f"{TRAIN} --processes 2")
    assert result.code == code
    assert (words is None and result.err == []) or words in result.err[-1]
