"""How far it is, where it was interrupted, and how to go on; without a terminal as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ansm_fast import progress
from ansm_fast.errors import Interrupted
from ansm_fast.progress import Progress, duration

TRAIN = (
    "train ansm --config ansm -o run --set data.train=set --set data.validation=set "
    "--set attack_cache=attacks "
    "--set steps=8 --set save_every=2 --set validate_every=8 --set attack_cache_size=8 "
    "--set crop=32 "
    "--set batch_size=2 --set detect.steps=0 --set ffa.steps=0 --set warm_start=false "
    "--set validation_attacks=[] --set attacks=[{name: noise}] --set localizer=builtin "
    "--set threads=1"
)
TRAIN = TRAIN.replace("--set attacks=[{name: noise}]", "--set 'attacks=[{name: noise}]'")


class Clock:
    """Time that passes by what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found)
    return found


def after(count: int, function: Callable[..., object], do: Callable[[], None]) -> Callable:
    """``function``, and at the end of its ``count``-th call ``do``."""
    calls = []

    def wrapped(*arguments: object, **options: object) -> object:
        result = function(*arguments, **options)
        calls.append(1)
        if len(calls) == count:
            do()
        return result

    return wrapped


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # which the signal ends


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(5)


WAYS = [(interrupt, 130, "interrupted"), (terminate, 143, "terminated")]


def test_without_a_terminal_a_line_now_and_then(clock, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a CI does whose log is no terminal
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress("attack", 100) as shown:
        for seconds in (3, 8, 5, 6, 100, 10):
            clock.now += seconds
            shown.advance(5, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "attack: 10 of 100 images, 0:11 passed, loss 0.5, about 1:39 left",
        "attack: 20 of 100 images, 0:22 passed, loss 0.5, about 1:28 left",
        "attack: 25 of 100 images, 2:02 passed, loss 0.5, about 6:06 left",
    ]


def test_an_earlier_run_does_not_make_it_look_fast(clock, capsys) -> None:
    with Progress("train", 100, done=80, unit="steps") as shown:
        clock.now += 20
        shown.advance()
    assert capsys.readouterr().err == "train: 81 of 100 steps, 0:20 passed, about 6:20 left\n"


def test_a_fast_or_silent_work_says_nothing(clock, capsys, monkeypatch) -> None:
    with Progress("attack", 3) as shown:
        shown.advance(3)
    with Progress("attack", 3, silent=True) as shown:
        clock.now += 1000
        shown.advance()
    monkeypatch.setenv("RANK", "1")  # another process speaks
    with Progress("attack", 3) as shown:
        clock.now += 1000
        shown.advance()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (67, "1:07"), (3599.6, "1:00:00"), (3723, "1:02:03")]
)
def test_durations(seconds, text) -> None:
    assert duration(seconds) == text


def test_an_interruption_says_where_it_was() -> None:
    def work() -> None:
        with Progress("attack", 9, advice="do it again") as shown:
            shown.advance(2)
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="at attack: 2 of 9 images") as caught:
        work()
    assert caught.value.advice == "do it again"


@pytest.mark.parametrize(("how", "code", "word"), WAYS, ids=["SIGINT", "SIGTERM"])
def test_attack(forgeries, run, monkeypatch, how, code, word) -> None:
    from ansm_fast.data import attacked_set

    line = "attack set -o out --steps 1 --batch-size 1 --localizer builtin"
    monkeypatch.setattr(attacked_set, "_attack", after(2, attacked_set._attack, how))
    result = run(line)
    assert result.code == code
    assert result.err[-1] == f"{word} at attack: 1 of 2 images; go on with: ansm-fast {line}"
    assert len(list(Path("out/images").iterdir())) == 1
    monkeypatch.undo()
    monkeypatch.chdir(forgeries.parent)
    assert run(line).code == 0 and len(list(Path("out/images").iterdir())) == 2


@pytest.mark.parametrize("cache", ["", " --cache cache"])
def test_evaluate(forgeries, run, monkeypatch, cache) -> None:
    from ansm_fast.data import attacked_set

    line = "evaluate set --attacks fgsm --eps 4/255 --defences none --batch-size 1"
    line += f" --localizer builtin{cache}"
    monkeypatch.setattr(attacked_set, "_attack", after(2, attacked_set._attack, interrupt))
    result = run(line)
    assert result.code == 130
    if cache:
        assert result.err[-1].endswith(f"1 of 2 images; go on with: ansm-fast {line}")
    else:
        assert "nothing is kept without --cache DIR" in result.err[-1]
    assert result.err[-1].startswith("interrupted at ") and "fgsm" in result.err[-1].lower()


def test_synthesize(forgeries, run, monkeypatch) -> None:
    from ansm_fast.data.synthesis import writer

    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    cv2.imwrite("photos/a.png", rng.integers(0, 256, (96, 96, 3), np.uint8))
    monkeypatch.setattr(writer, "_CHUNK", 2)
    monkeypatch.setattr(writer, "_make_chunk", after(2, writer._make_chunk, interrupt))
    line = "data synthesize photos -o out -n 6 --size 64"
    result = run(line)
    assert result.code == 130
    assert result.err[-1] == (
        f"interrupted at synthesize: 2 of 6 forgeries; go on with: ansm-fast {line}"
    )


@pytest.mark.parametrize(
    ("how", "code", "word"),
    [*WAYS, (hang_up, 129, "hung up")],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_defend(forgeries, run, monkeypatch, request, how, code, word) -> None:
    """In the thread that drives it, while the second image is read; the first is written."""
    from ansm_fast.inference import pipeline

    real = pipeline.Pipeline._drive

    def drive(self: object) -> None:
        monkeypatch.setattr(pipeline.Pipeline, "_drive", real)
        how()

    monkeypatch.setattr(pipeline.Pipeline, "_drive", drive)
    # Under nohup it is ignored, and stays so.
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, hung_up))
    line = "defend --batch set/images -o out --weights tiny --batch-size 1"
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = run(line)
    assert result.code == code
    assert result.err[-1] == (f"{word} at defend: 0 of 2 images; go on with: ansm-fast {line}")
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run(line).code == 0 and len(list(Path("out").glob("*.png"))) == 2


def test_what_was_begun_is_written(forgeries, run, monkeypatch) -> None:
    """An image that is just being written when a signal comes is not lost."""
    from ansm_fast.inference import pipeline

    entered, held = threading.Event(), threading.Event()
    drive, write = pipeline.Pipeline._drive, pipeline.write_result

    def slow(*arguments: object, **options: object) -> object:
        entered.set()
        assert held.wait(60)
        return write(*arguments, **options)

    def driven(self: pipeline.Pipeline) -> None:
        self._start(lambda: drive(self), 1, "driver")
        assert entered.wait(60)
        threading.Timer(0.2, held.set).start()
        interrupt()

    monkeypatch.setattr(pipeline, "write_result", slow)
    monkeypatch.setattr(pipeline.Pipeline, "_drive", driven)
    result = run("defend --batch set/images -o out --weights tiny --batch-size 1")
    assert result.code == 130 and result.err[-1].startswith("interrupted at defend: ")
    lines = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    assert {path.name for path in Path("out").iterdir()} == {
        "manifest.jsonl", *(line["output"] for line in lines),
    }  # fmt: skip
    assert lines


def test_a_second_signal_ends_at_once_and_ignored_ones_stay_so() -> None:
    """As by ``nohup``; each in a process of its own."""
    code = (
        "import os, signal, sys, time\n"
        "from ansm_fast.cli.signals import ending\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        # Ignored in what a shell runs in the background, as these tests may be.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ending():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        os.kill(os.getpid(), getattr(signal, sys.argv[1]))\n"
        "        time.sleep(60)\n"
    )
    for name in ("SIGINT", "SIGTERM"):
        ended = subprocess.run([sys.executable, "-c", code, name], timeout=60)
        assert ended.returncode == -getattr(signal, name)


@pytest.mark.parametrize(("how", "code", "word"), WAYS, ids=["SIGINT", "SIGTERM"])
def test_train(forgeries, run, monkeypatch, how, code, word) -> None:
    from ansm_fast.training.loop import Loop

    monkeypatch.setattr(Loop, "_update", after(6, Loop._update, how))
    result = run(TRAIN)
    assert result.code == code
    assert result.err[-1].startswith(
        f"{word} at train: 5 of 8 steps; the last checkpoint, of step 4 in run/state.safetensors, "
        "is intact; go on with: ansm-fast train ansm --config ansm -o run --set data.train=set"
    )
    monkeypatch.undo()
    monkeypatch.chdir(forgeries.parent)
    assert run(TRAIN).code == 0
    rows = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert rows == [8]


def test_another_configuration_is_told_before_anything_is_loaded(
    forgeries, run, monkeypatch
) -> None:
    assert run(f"{TRAIN} --set stop_after=2").code == 0

    def loaded(*_arguments: object) -> None:
        raise AssertionError("the images are read")

    monkeypatch.setattr("ansm_fast.training.ansm.MemorySet", loaded)
    monkeypatch.setattr("ansm_fast.training.ansm.load_localizer", loaded)
    result = run(f"{TRAIN} --set optimizer.lr=0.5 --set mgr.pos_weight=2")
    assert result.code == 2
    assert result.err[-1] == (
        "ansm-fast: error: run holds a run with another configuration (mgr.pos_weight 1.0 there, "
        "2.0 here; optimizer.lr 0.0005 there, 0.5 here); give another output folder or remove "
        "this one"
    )


def test_another_attack_cache_is_told_before_the_images_are_loaded(
    forgeries, run, monkeypatch
) -> None:
    Path("attacks").mkdir()
    Path("attacks/attack_cache.json").write_text("{}")

    def loaded(*_arguments: object) -> None:
        raise AssertionError("the images are read")

    monkeypatch.setattr("ansm_fast.training.ansm.MemorySet", loaded)
    result = run(TRAIN)
    assert result.code == 2 and "attacks holds attacks made with other settings" in result.err[-1]


def test_an_interruption_that_became_another_error(forgeries, run, monkeypatch) -> None:
    """As where a library that is being imported turns it into an ImportError of its own."""

    def broken(*_arguments: object, **_options: object) -> None:
        try:
            terminate()
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr("ansm_fast.inference.defend_files", broken)
    result = run("defend --batch set/images -o out --weights tiny")
    assert result.code == 143 and result.err[-1].startswith("terminated")
