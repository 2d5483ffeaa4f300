"""Attacks and figures on another device than the CPU."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ansm_fast.attacks import Attack
from ansm_fast.cli import main
from ansm_fast.cli.attack import command as attack_command
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import write_attacked_set
from ansm_fast.errors import InputError
from ansm_fast.evaluation.scoring import probability

ALL = (
    "none,pgd,fgsm,mifgsm,difgsm,tifgsm,segpgd,cw,pgd-l2,square,hide,wrong-mask,own-prediction,"
    "universal,noise,adaptive,adaptive-transfer"
)


def test_a_device_that_is_not_there(run, small_set, checkpoints, tmp_path) -> None:
    result = run(small_set, checkpoints, "--device", "cuda:99")
    assert isinstance(result.exception, InputError) and "try cpu" in str(result.exception)
    for device in ("nowhere", "meta"):  # the second holds no numbers
        given = [str(small_set), "-o", str(tmp_path / "attacked"), "--device", device]
        result = CliRunner().invoke(attack_command, given)
        assert isinstance(result.exception, InputError) and repr(device) in str(result.exception)
        assert not (tmp_path / "attacked").exists()


def test_what_memory_cannot_hold_ends_in_one_line(monkeypatch, capsys) -> None:
    def full(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. Much more")

    monkeypatch.setattr(main, "cli", full)
    with pytest.raises(SystemExit, match="2"):
        main.main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "(CUDA out of memory); give smaller batches" in said


class _Seen(Exception):
    pass


@pytest.mark.parametrize("name", ["fgsm", "universal"])
def test_images_are_attacked_where_the_localizer_is(small_set, tmp_path, name) -> None:
    def localizer(image: torch.Tensor) -> torch.Tensor:
        raise _Seen(image.device.type)

    dataset = FolderDataset(small_set / "images", small_set / "masks")
    attack = Attack(name, 4 / 255, steps=1)
    with pytest.raises(_Seen, match="meta"):
        write_attacked_set(
            dataset, localizer, attack, tmp_path, localizer_fingerprint="f", device="meta"
        )


def test_images_are_judged_where_the_localizer_is() -> None:
    def localizer(image: torch.Tensor) -> torch.Tensor:
        raise _Seen(image.device.type)

    with pytest.raises(_Seen, match="meta"):
        probability(localizer, np.zeros((4, 4, 3), np.uint8), "meta")


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
