"""The training loop: exact resume, refusal of foreign state, schedule."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from ansm_fast.errors import InputError
from ansm_fast.training.logs import MetricsLog
from ansm_fast.training.loop import Loop, Task, learning_rate
from ansm_fast.training.run_config import OptimizerConfig, Run
from ansm_fast.training.state import read_state, write_tensors

OPTIMIZER = OptimizerConfig(lr=1e-2, warmup=2, ema_decay=0.9)


def make_loop(out, scale=1.0, **changes):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    extra = nn.Linear(1, 1)

    def batch(step):
        return (torch.randn(16, 4, generator=torch.Generator().manual_seed(step)),)

    def loss(step, x):
        return {"loss": scale * (extra(module(x)) - x.sum(1, keepdim=True)).square().mean()}

    def validate(averaged, averaged_extra):
        return {"output": float(averaged(torch.ones(1, 4)))}

    values = {
        "steps": 10, "validate_every": 5, "save_every": 3, "optimizer": OPTIMIZER,
        "data": {"train": "none", "validation": "none"}, "photographs": "none",
    }  # fmt: skip
    return Loop(Run(**values | changes), Task(module, batch, loss, validate, extra), out)


def weights(loop):
    return {k: v.clone() for k, v in loop.model.state_dict().items()} | {
        f"ema.{k}": v.clone() for k, v in loop.ema.module.state_dict().items()
    }


def test_a_run_that_ends_early_can_go_on(tmp_path):
    whole = make_loop(tmp_path / "whole")
    whole.run()
    ended = make_loop(tmp_path / "ended", stop_after=8)
    ended.run()
    assert ended.saved_step == 8 and weights(ended).keys() == weights(whole).keys()
    more = make_loop(tmp_path / "ended", threads=1)
    more.run()
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(more)[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "ended/metrics.jsonl").open()]
    assert steps == [5, 8, 10]


@pytest.mark.parametrize("settings", ["no JSON", "[1]", "{}"])
def test_a_state_of_unknown_settings_is_refused(tmp_path, settings):
    make_loop(tmp_path, stop_after=3).run()
    path = tmp_path / "state.safetensors"
    tensors, metadata = read_state(path)
    write_tensors(path, tensors, metadata | {"settings": settings}, "")
    with pytest.raises(InputError, match="another configuration"):
        make_loop(tmp_path).run()


def test_resume_after_a_kill_equals_an_unbroken_run(tmp_path):
    whole = make_loop(tmp_path / "whole")
    whole.run()
    # Killed after step 8, its last saved state is that of step 6: steps 7 and 8 run again.
    killed = make_loop(tmp_path / "broken")
    update = killed._update

    def until_step_8(batch):
        if killed.step == 8:
            raise KeyboardInterrupt
        return update(batch)

    killed._update = until_step_8
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert killed.saved_step == 6
    resumed = make_loop(tmp_path / "broken")
    resumed.run()
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken/metrics.jsonl").open()]
    assert steps == [5, 10]


def test_a_finished_run_is_not_trained_further(tmp_path):
    first = make_loop(tmp_path)
    first.run()
    again = make_loop(tmp_path)
    again.run()
    assert again.step == 10
    for name, value in weights(first).items():
        assert torch.equal(value, weights(again)[name]), name


def test_state_of_another_configuration_is_refused(tmp_path):
    make_loop(tmp_path).run()
    with pytest.raises(InputError, match="another configuration"):
        make_loop(tmp_path, seed=1).run()


def test_truncated_state_is_refused_and_kept(tmp_path):
    make_loop(tmp_path).run()
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        make_loop(tmp_path).run()
    assert state.exists()


def test_non_finite_gradient_stops_with_the_step(tmp_path):
    with pytest.raises(InputError, match="not finite at step 0"):
        make_loop(tmp_path, scale=float("nan")).run()


def test_learning_rate_warms_up_and_decays():
    config = OptimizerConfig(lr=1.0, warmup=10, final_lr_share=0.1)
    assert learning_rate(config, 0, 100) == pytest.approx(0.1)
    assert learning_rate(config, 99, 100) == pytest.approx(0.1, abs=1e-3)
    rates = [learning_rate(config, step, 100) for step in range(10, 100)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("line", [b"\0\0\n", b'{"loss": 1.0}\n', b"\xff\n", b"[1]\n"])
def test_a_damaged_line_of_metrics_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n' + line)
    with pytest.raises(InputError, match=r"metrics\.jsonl is damaged in line 2; take that line"):
        MetricsLog(tmp_path).start(1)


def test_a_line_of_metrics_that_was_cut_short_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    MetricsLog(tmp_path).start(1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'
