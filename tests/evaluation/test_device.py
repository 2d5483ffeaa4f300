"""Attacks and figures on another device than the CPU."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from ansm_fast.cli.attack import command as attack_command
from ansm_fast.errors import InputError

ALL = (
    "none,pgd,fgsm,mifgsm,difgsm,tifgsm,segpgd,cw,pgd-l2,square,hide,wrong-mask,own-prediction,"
    "universal,noise,adaptive,adaptive-transfer"
)


def test_a_device_that_is_not_there(run, small_set, checkpoints, tmp_path) -> None:
    result = run(small_set, checkpoints, "--device", "cuda:99")
    assert isinstance(result.exception, InputError) and "try cpu" in str(result.exception)
    given = [str(small_set), "-o", str(tmp_path / "attacked"), "--device", "nowhere"]
    result = CliRunner().invoke(attack_command, given)
    assert isinstance(result.exception, InputError) and "'nowhere'" in str(result.exception)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_what_the_cpu_finds(run, small_set, checkpoints, tmp_path) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        file = tmp_path / f"{device}.json"
        result = run(
            small_set, checkpoints, "--device", device, "--json", file, "--plots",
            tmp_path / device, attacks=ALL, defences="none,jpeg,ansm",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        document = json.loads(file.read_text())
        assert (document["device"] == "cpu") == (device == "cpu")
        found[device] = document["rows"]
    for one, other in zip(found["cpu"], found["cuda"], strict=True):
        assert (one["attack"], one["defence"]) == (other["attack"], other["defence"])
        if one["attack"] == "none":
            assert other["f1"] == pytest.approx(one["f1"], abs=0.01)
            assert other["auc"] == pytest.approx(one["auc"], abs=0.01)
        assert other["psnr_attacked"] == pytest.approx(one["psnr_attacked"], abs=1.5)
