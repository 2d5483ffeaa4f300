"""Several processes, by torchrun as a user would start them; and batches computed in parts."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from ansm_fast.errors import InputError
from ansm_fast.models import load_ansm
from ansm_fast.training.ansm import train_ansm
from ansm_fast.training.config import parse_run
from ansm_fast.training.processes import check_batch_sizes, make_accelerator, share
from ansm_fast.training.state import read_state, scatter_state

SHARDED = Path(__file__).with_name("sharded_state.py")
FLOAT64 = Path(__file__).with_name("float64_train.py")


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


def python(*arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,  # only so that nothing hangs for ever
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").open()]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(workspace, tmp_path):
    """Batch normalization over both, gradients averaged: the same up to the order of sums."""
    _, _, values = workspace
    values = values | {
        "steps": 8, "validate_every": 4, "batch_size": 4, "attack_cache": str(tmp_path / "attacks"),
        "detect": {"steps": 3, "crop": 32, "batch_size": 4}, "ffa": {"steps": 2},
        "transplant_share": 0.5,
    }  # fmt: skip
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    command = ("-m", "ansm_fast.cli.main", "train", "ansm", "--config", config, "--processes", "2")
    printed = python(*command, "-o", tmp_path / "two")
    assert printed.count("checkpoint") == 1

    run = parse_run(values, "test")
    path = train_ansm(run, tmp_path / "one")
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in two] == list(range(1, 9))
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=5e-3)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        load_ansm(tmp_path / "two" / "ansm.safetensors").defend(image),
        load_ansm(path).defend(image),
        rtol=0, atol=0.5 / 255,
    )  # fmt: skip


@pytest.fixture
def float64(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_two_processes_compute_in_float64_what_one_does(workspace, tmp_path, float64):
    """Adaptive attacks and all stages; see ``float64_train.py`` for why in float64."""
    _, _, values = workspace
    values = values | {
        "steps": 8, "validate_every": 8, "batch_size": 4, "attack_cache": str(tmp_path / "attacks"),
        "detect": {"steps": 2, "crop": 32, "batch_size": 4}, "ffa": {"steps": 2},
        "detail": 8, "jpeg_quality": 75, "curriculum": {"ramp": 0.5}, "validation_attacks": [],
        "online": {"share": 0.5, "attacks": [{"name": "pgd", "steps": 2, "adaptive": True}]},
    }  # fmt: skip
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    run = parse_run(values, "test")
    train_ansm(run, tmp_path / "one")
    command = (FLOAT64, "train", "ansm", "--config", config, "-o", tmp_path / "two")
    python(*TORCHRUN, *command)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in two] == list(range(1, 9))
    for row, other in zip(one, two, strict=True):
        for key in ("loss", "grad_norm", "auxiliary"):  # logged with nine digits
            assert other[key] == pytest.approx(row[key], rel=2e-8), (row["step"], key)
    assert two[-1]["attack_share"] > 0
    # Running statistics as well, which only eval mode looks at.
    left, right = (read_state(tmp_path / out / "state.safetensors")[0] for out in ("one", "two"))
    assert left.keys() == right.keys() and any("running_var" in name for name in left)
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.slow
def test_state_of_sharded_modules_goes_on_in_any_number_of_processes(tmp_path):
    python(*TORCHRUN, SHARDED, tmp_path)
    script = runpy.run_path(str(SHARDED))
    network, optimizer = script["make"]()
    script["train"](network, optimizer, 0, 3)
    unbroken = script["train"](network, optimizer, 3, 6)
    network, optimizer = script["make"]()
    scatter_state(read_state(tmp_path / "state.safetensors")[0], network, optimizer)
    assert script["train"](network, optimizer, 3, 6) == pytest.approx(unbroken, rel=1e-5)


def several(processes, turns, index=0):
    return SimpleNamespace(
        num_processes=processes, gradient_accumulation_steps=turns, process_index=index,
        device=torch.device("cpu"),
    )  # fmt: skip


def test_shares_cut_a_batch_without_loss():
    batch = (torch.arange(12), torch.arange(12) * 2)
    parts = [share(batch, several(3, 2, index), turn) for index in range(3) for turn in range(2)]
    assert torch.equal(torch.cat([part[0] for part in parts]), batch[0])
    assert torch.equal(torch.cat([part[1] for part in parts]), batch[1])


def test_batch_that_cannot_be_cut_is_refused(workspace):
    check_batch_sizes({"batch_size": 12}, 2, 3)
    words = (
        r"batch_size must be a multiple of 6 \(3 processes x accumulate 2\), got 8; give 6 or 12"
    )
    with pytest.raises(InputError, match=words):
        check_batch_sizes({"batch_size": 8}, 2, 3)
    root, _, values = workspace
    run = parse_run(values | {"accumulate": 2}, "test")
    with pytest.raises(InputError, match=r"batch_size must be a multiple of 2 .* got 3"):
        train_ansm(run, root / "accumulate")


def test_missing_accelerate_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"pip install 'ansm-fast\[train\]'"):
        make_accelerator()
