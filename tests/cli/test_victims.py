"""A user's own localizer of a wrong kind ends every command that meets it in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

CODE = """\
import torch
from torch import nn
from ansm_fast.localizers import WrappedLocalizer


def network(channels=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, channels, 1),
    )


class Sizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, image):
        if image.shape[2] % 64:
            raise ValueError("height must be a multiple of 64")
        return self.inner(image)


def fine():
    return WrappedLocalizer(network().train(), taps=("0",))

def padded():
    return WrappedLocalizer(Sizes(), stride=64, taps=("inner.0",))

def sigmoid():
    return WrappedLocalizer(nn.Sequential(network(), nn.Sigmoid()), taps=("0.0",))

def said():
    return WrappedLocalizer(
        nn.Sequential(network(), nn.Sigmoid()), logits_from="probabilities", taps=("0.0",)
    )

def rounds():
    return WrappedLocalizer(network(), postprocess=lambda z: (8 * z).round(), taps=("0",))

def saturated():
    return WrappedLocalizer(
        network(), postprocess=lambda z: torch.logit(torch.sigmoid(500 * z)), taps=("0",)
    )

def classes():
    return WrappedLocalizer(network(2), taps=("0",))

def sized():
    return WrappedLocalizer(Sizes(), taps=("inner.0",))

class Tokens(nn.Module):
    def forward(self, features):
        return features.flatten(2).transpose(1, 2)

class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.tokens, self.head = network(4), Tokens(), nn.Linear(4, 1)

    def forward(self, image):
        return self.head(self.tokens(self.inner(image))).transpose(1, 2).view(image[:, :1].shape)

def tokens():
    return WrappedLocalizer(Transformer(), taps=("tokens",))
"""

KINDS = [
    ("sigmoid", "which look like probabilities; logits are needed"),
    ("rounds", "have a gradient of 0 everywhere"),
    ("saturated", "must give finite logits, got values from -inf to inf; logits from torch.logit"),
    ("classes", "got (2, 2, 32, 32); give WrappedLocalizer(model, logits_from='two_class')"),
    ("sized", "Sizes failed on images of 32 x 32 (ValueError: height must be a multiple of 64)"),
]
ATTACK = "attack set -o out --steps 1 --attack fgsm --localizer their_victim:"
EVALUATE = "evaluate set --attacks none,fgsm --defences none --eps 4/255 --localizer their_victim:"


@pytest.fixture
def victims(forgeries: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (forgeries.parent / "their_victim.py").write_text(CODE, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "their_victim", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return forgeries


def train_config(folder: Path, steps: int = 1) -> str:
    config = {
        "kind": "ansm", "steps": steps, "attack_cache": "attacks", "attack_cache_size": 2,
        "photographs": "none",
        "data": {"train": "set", "validation": "set"}, "batch_size": 2, "crop": 32,
        "attacks": [{"name": "fgsm", "steps": 1}], "validation_attacks": [],
        "ffa": {"steps": 1}, "detect": {"steps": 0},
    }  # fmt: skip
    (folder.parent / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return "train ansm --config run.yaml -o trained --set localizer=their_victim:"


@pytest.mark.parametrize(("kind", "words"), KINDS, ids=[kind for kind, _ in KINDS])
@pytest.mark.parametrize("command", ["attack", "evaluate", "train"])
def test_one_line_and_exit_code_2(victims, run, command, kind, words) -> None:
    if command == "train":
        pytest.importorskip("accelerate")
    line = {"attack": ATTACK, "evaluate": EVALUATE, "train": train_config(victims)}[command]
    result = run(line + kind)
    errors = [one for one in result.err if one.startswith("ansm-fast: error: ")]
    assert result.code == 2 and len(errors) == 1 and errors[0] == result.err[-1]
    if command == "train" and "(2, 2," in words:  # crops and batches of its own
        words = "give WrappedLocalizer(model, logits_from='two_class')"
    if command == "evaluate":
        words = words.replace("(2, 2,", "(1, 2,")
    assert words in errors[0]
    assert "Traceback" not in "\n".join(result.err)


@pytest.mark.parametrize("kind", ["fine", "padded", "said"])
def test_the_ways_out_work(victims, run, kind) -> None:
    assert run(ATTACK + kind).code == 0
    assert run(EVALUATE + kind).code == 0


def test_masks_of_defended_images_want_logits_too(victims, run) -> None:
    line = "defend --batch set/images -o defended --masks marks --localizer their_victim:"
    result = run(line + "sigmoid")
    assert result.code == 2 and "which look like probabilities" in result.err[-1]
    assert run(line + "fine").code == 0


def test_tokens_are_named_before_they_are_aligned(victims, run) -> None:
    pytest.importorskip("accelerate")
    result = run(train_config(victims) + "tokens")
    assert result.code == 2
    assert "the tap module.tokens gives (2, 1024, 4)" in result.err[-1]
    assert "tap_layout='channels_last'" in result.err[-1]
