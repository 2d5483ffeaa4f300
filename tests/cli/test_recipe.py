"""An ANSM for a localizer of one's own, in one command: looked at, trained, measured, judged."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from ansm_fast.cli.train_arguments import PRESETS
from ansm_fast.localizers import load_localizer
from ansm_fast.models import load_ansm
from ansm_fast.training.config import parse_run
from ansm_fast.training.networks import make_network
from ansm_fast.training.resume import STATE

CODE = """\
import torch
from torch import nn
from ansm_fast.localizers import WrappedLocalizer


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Upsample(scale_factor=2)

    def forward(self, image):
        return 8 * (image.mean(1, keepdim=True) - 0.5) + 0.1 * self.head(self.body(image))[:, :1]


def make():
    return WrappedLocalizer(Network(), stride=2)


def blind():
    return WrappedLocalizer(Network(), postprocess=lambda z: z.detach())


def one_size():
    return WrappedLocalizer(nn.Sequential(Network(), nn.LayerNorm((32, 32))))
"""
# As little work as there can be.
SMALL = (
    "--set steps=3 --set detect.steps=1 --set ffa.steps=1 --set attack_cache_size=8 --set crop=32 "
    "--set detect.crop=32 --set detect.batch_size=2 --set batch_size=2 --set save_every=1 "
    "--set initial=null --set variant=tiny --set validate_every=3 --set validation_attacks=[] "
    "--set data.validation_count=4 --set 'attacks=[{name: fgsm, objective: hide}]'"
)
TRAIN = f"train ansm --localizer mine:make --data set -o run --preset quick {SMALL}"


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of bright squares on dark images of two sizes, and mine.py, in the working folder."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for number in range(40):
        side = 48 if number % 9 == 0 else 40
        mask = np.zeros((side, side), np.uint8)
        if number % 4:
            mask[8:20, 8:24] = 255
        image = rng.integers(60, 120, (side, side, 3), np.uint8)
        image[mask > 0] += 60
        for part, pixels in (("images", image), ("masks", mask)):
            cv2.imwrite(str(tmp_path / "set" / part / f"{number:02d}.png"), pixels)
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    return tmp_path / "set"


def test_a_new_user_gets_a_verdict(photographs, run) -> None:
    result = run(TRAIN)
    assert result.code == 0, result.err
    told = result.out
    assert "localizer mine:make (fingerprint " in told and "sizes: any" in told
    assert "taps for FFA: module.body" in told
    assert "windows of 32x32 pixels cut from" in told
    assert "verdict: " in told and "all marked forged" in told
    document = json.loads(Path("run/verdict.json").read_text())
    # Within 4 levels nothing happens to squares that are 60 brighter.
    assert document["verdict"]["word"] == "does not work"
    assert "nothing is to be restored" in document["verdict"]["reason"]
    assert document["command"].startswith("ansm-fast train ansm --localizer mine:make")
    assert document["verdict"]["advice"] in Path("run/verdict.md").read_text()
    looked = json.loads(Path("run/inspection.json").read_text())
    assert looked["taps"] == ["module.body"]
    assert list(looked["seconds"]) == ["this run", *(f"--preset {name}" for name in PRESETS)]
    assert 0 < looked["seconds"]["this run"] < looked["seconds"]["--preset quick"]
    assert looked["seconds"]["--preset quick"] < looked["seconds"]["--preset standard"]
    assert "  --preset thorough: about " in told
    assert Path("run/attack_cache/attack_cache.json").exists()
    # The same command says the same again, and looks at nothing.
    again = run(TRAIN)
    assert again.code == 0 and "fingerprint" not in again.out
    assert again.out.split("| attack |")[1] == told.split("| attack |")[1]


def test_it_goes_on_after_an_interruption_of_the_verdict(photographs, run, monkeypatch) -> None:
    with monkeypatch.context() as one:
        one.setattr("ansm_fast.evaluation.verdict.judge", lambda *_: (_ for _ in ()).throw(
            KeyboardInterrupt))  # fmt: skip
        assert run(TRAIN).code == 130
    made = {path: path.stat().st_mtime_ns for path in Path("run/validation").rglob("*.png")}
    assert len(made) > 8
    assert run(TRAIN).code == 0 and Path("run/verdict.json").exists()
    assert made == {path: path.stat().st_mtime_ns for path in made}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--localizer mine:blind", "have no gradient"),
        ("--localizer mine:one_size --set crop=24", "Sequential failed on images of 24 x 24"),
        ("--set initial=mine.py", "mine.py is truncated or no safetensors"),
        ("--set batch_size=3 --set accumulate=2", "batch_size must be a multiple of 2"),
        ("--set steps=300 --set detect.steps=10000", "steps is 300, yet detect.steps and ffa.st"),
        ("--data nowhere", "--data nowhere is no folder; give one that does, or make one with"),
        ("--data set/images", "--data set/images holds neither images/ and masks/ nor train/"),
        ("--config ansm", "--config ansm and --preset quick are both given; leave one out"),
        ("--device cuda", "device cuda: torch sees no GPU here"),
    ],
)
def test_what_is_wrong_is_told_before_the_training_set_is_read(
    photographs, run, monkeypatch, options, words
) -> None:
    if "cuda" in options:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def read(*_arguments: object) -> None:
        raise AssertionError("the training set is read")

    monkeypatch.setattr("ansm_fast.training.batches.MemorySet.training", read)
    result = run(f"{TRAIN} {options}")
    assert result.code == 2 and words in result.err[-1], result.err
    assert not Path("run/state.safetensors").exists()


def test_another_run_is_told_before_anything_is_read(photographs, run, monkeypatch) -> None:
    assert run(f"{TRAIN} --set report=false").code == 0
    assert not Path("run/verdict.json").exists()

    def read(*_arguments: object) -> None:
        raise AssertionError("the images are read")

    monkeypatch.setattr("ansm_fast.training.batches.MemorySet.__init__", read)
    result = run(f"{TRAIN} --set optimizer.lr=1")
    assert result.code == 2 and "run with another configuration (optimizer.lr" in result.err[-1]
    assert (Path("run") / STATE).exists()


@pytest.mark.parametrize("name", ["quick", "standard", "thorough", "ansm"])
def test_a_printed_config_is_taken_back(photographs, run, name) -> None:
    printed = run(f"train ansm --config {name} --localizer mine:make --data set --print-config")
    assert printed.code == 0 and not printed.err
    values = yaml.safe_load(printed.out)
    assert values["localizer"] == "mine:make"
    assert values["data"]["train"] == "set" and values["data"]["validation"] is None
    assert ("attack_cache" in values) == (name == "ansm")
    Path("mine.yaml").write_text(printed.out)
    again = run("train ansm --config mine.yaml --print-config -o run")
    assert again.out == printed.out


def test_a_folder_of_training_and_validation(photographs, run) -> None:
    for part in ("train", "validation"):
        (Path("both") / part).mkdir(parents=True)
        (Path("both") / part / "images").symlink_to(photographs / "images")
    result = run("train localizer --data both --print-config")
    assert yaml.safe_load(result.out)["data"] | {"validation_count": 0} == {
        "train": "both/train", "validation": "both/validation", "validation_count": 0,
        "window": None, "memory": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_report_and_hold_their_memory(name) -> None:
    import ansm_fast

    path = Path(ansm_fast.__file__).parent / "training" / "configs" / f"{name}.yaml"
    run = parse_run(yaml.safe_load(path.read_text()) | {"attack_cache": "a"}, name)
    assert run.report and run.localizer is None
    network, _ = make_network(run, load_localizer("builtin"))  # what it begins with is there
    detector = load_ansm("two_view").detector.state_dict()
    found = network.detector.state_dict()
    assert all(torch.equal(found[name], value) for name, value in detector.items())
    assert run.data.window is not None and run.data.memory is not None


def test_without_a_folder_nothing_is_trained(photographs, run) -> None:
    result = run("train ansm --preset quick --data set")
    assert result.code == 2 and "Missing option '-o' / '--output'" in result.err[-1]
