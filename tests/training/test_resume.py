"""A training killed at any moment, on a full disk or with a broken image: nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from ansm_fast.errors import InputError
from ansm_fast.models import checkpoint, load_ansm
from ansm_fast.training import state
from ansm_fast.training.ansm import train_ansm
from ansm_fast.training.attack_cache import load_attack_cache
from ansm_fast.training.config import parse_run

TIMES = {"seconds", "attack_share"}


def rows(out):
    found = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


def train(values, out):
    run = parse_run(values, "test")
    return train_ansm(run, out)


# Kills itself the moment the 11th row is written: a kill from outside would be a race.
KILLED = """
import os, signal
from ansm_fast.cli.main import main
from ansm_fast.training.logs import MetricsLog

write = MetricsLog.write
def write_and_die(self, row):
    write(self, row)
    if row["step"] == 11:
        os.kill(os.getpid(), signal.SIGKILL)
MetricsLog.write = write_and_die
main()
"""


@pytest.mark.slow
def test_killed_run_goes_on_as_if_nothing_had_happened(workspace, tmp_path):
    _, _, values = workspace
    values = values | {
        "steps": 24, "validate_every": 12, "save_every": 3, "threads": 1,
        "detect": {"steps": 4, "crop": 32, "batch_size": 4}, "ffa": {"steps": 6},
        "transplant_share": 0.5, "curriculum": {"ramp": 0.5}, "batch_size": 2,
        "online": {"share": 0.5, "attacks": [{"name": "pgd", "steps": 2, "adaptive": True}]},
    }  # fmt: skip
    # Processes of their own, all three: what other tests left in this one (thread pools, caches of
    # compiled kernels) may change the order of a sum, and with it the last bit.
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))

    def start(out, *python):
        return subprocess.run(
            [sys.executable, *python, "train", "ansm", "--config", str(config), "-o", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def finish(out):
        done = start(out, "-m", "ansm_fast.cli.main")
        assert done.returncode == 0, done.stdout

    whole, out = tmp_path / "whole", tmp_path / "killed"
    finish(whole)
    assert start(out, "-c", KILLED).returncode == -signal.SIGKILL
    _, metadata = state.read_state(out / "state.safetensors")
    assert metadata["step"] == "9"

    finish(out)
    assert rows(out) == rows(whole)
    assert [row["step"] for row in rows(out)] == list(range(1, 25))
    fingerprints = [load_ansm(one / "ansm.safetensors").fingerprint for one in (out, whole)]
    assert fingerprints[0] == fingerprints[1]


def full_disk(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", ["no space", "file too large"])
def test_full_disk_leaves_the_last_checkpoint(workspace, tmp_path, monkeypatch, how):
    _, _, values = workspace
    out = tmp_path / "run"
    longer = values | {"steps": 6}
    real, written = state.save_file, []

    def second_fails(tensors, path, metadata):
        if "state.safetensors" in path.name:  # and not the attack cache, if this test makes it
            written.append(path)
        if len(written) < 2:
            return real(tensors, path, metadata)
        if how == "no space":
            return full_disk()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            return real(tensors, path, metadata)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(state, "save_file", second_fails)
    message = r"cannot write .*state\.safetensors.*checkpoint, of step 2 .* is intact"
    with pytest.raises(InputError, match=message):
        train(longer, out)
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []
    monkeypatch.undo()
    assert state.read_state(out / "state.safetensors")[1]["step"] == "2"
    train(longer, out)
    assert [row["step"] for row in rows(out)] == [1, 2, 3, 4, 5, 6]


def test_full_disk_at_the_end_keeps_the_finished_run(workspace, tmp_path, monkeypatch):
    _, _, values = workspace
    monkeypatch.setattr(checkpoint, "write_bytes", full_disk)
    with pytest.raises(InputError, match=r"cannot write .*ansm\.safetensors.*state .* is intact"):
        train(values, tmp_path)
    monkeypatch.undo()
    before = rows(tmp_path)
    assert load_ansm(train(values, tmp_path)).fingerprint
    assert rows(tmp_path) == before


def test_full_disk_while_attacking_keeps_what_is_made(workspace, tmp_path, monkeypatch):
    _, _, values = workspace
    values = values | {"attack_cache": str(tmp_path / "attacks")}
    real, written = state.save_file, []

    def second_fails(tensors, path, metadata):
        written.append(path)
        return real(tensors, path, metadata) if len(written) < 2 else full_disk()

    monkeypatch.setattr(state, "save_file", second_fails)
    with pytest.raises(InputError, match=r"00001\.safetensors.*attacked before is intact"):
        train(values, tmp_path / "run")
    monkeypatch.undo()
    train(values, tmp_path / "run")
    cache = load_attack_cache(tmp_path / "attacks", 16)
    assert len(cache) == len(cache.eps) == len(cache.attacks) == 16
    assert set(cache.attacks) <= {"pgd_hide", "fgsm_wrong-mask"}
    assert ((cache.eps >= 2) & (cache.eps <= 8)).all() and cache.seconds > 0


def test_unreadable_image_is_named_and_the_checkpoint_stays(workspace, tmp_path):
    root, _, values = workspace
    broken = tmp_path / "set"
    shutil.copytree(root / "set", broken)
    values = values | {
        "data": {"train": str(broken), "validation": str(root / "set")},
        "attack_cache": str(tmp_path / "attacks"),
    }
    train(values, tmp_path / "run")
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    victim = sorted((broken / "images").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:20])
    with pytest.raises(InputError, match=f"cannot decode image .*{victim.name}"):
        train(values, tmp_path / "run")
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before
