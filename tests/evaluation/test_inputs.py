from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from ansm_fast.errors import InputError
from ansm_fast.evaluation import CATALOGUE
from ansm_fast.evaluation.inputs import image_sets, named_weights
from ansm_fast.evaluation.provenance import read_training, training
from ansm_fast.evaluation.score_store import ScoreStore, content_key
from ansm_fast.models import ansm_path


def test_sets_of_folders_and_of_pairs() -> None:
    found = image_sets([Path("a/real")], [Path("b/images"), Path("c")], [Path("m"), Path("n")], [])
    assert found == [
        ("real", Path("a/real/images"), Path("a/real/masks")),
        ("b", Path("b/images"), Path("m")),
        ("c", Path("c"), Path("n")),
    ]
    named = image_sets([Path("a")], [Path("b")], [Path("m")], ["one", "two"])
    assert [name for name, *_ in named] == ["one", "two"]


@pytest.mark.parametrize(
    ("folders", "images", "masks", "names", "words"),
    [
        ([], [], [], [], "give either DIR"),
        ([], ["a"], [], [], "Missing option '--masks'"),
        ([], [], ["a"], [], "Missing option '--images'"),
        (["a"], [], [], ["x", "y"], "--name must be given once for each of the 1"),
        (["a/set", "b/set"], [], [], [], "two image sets are called 'set'"),
    ],
)
def test_sets_that_make_no_sense(folders, images, masks, names, words) -> None:
    with pytest.raises(InputError, match=words):
        image_sets([Path(f) for f in folders], [Path(i) for i in images], [Path(m) for m in masks],
                   names)  # fmt: skip


def test_weights_by_name(tmp_path) -> None:
    assert named_weights(()) == named_weights((), "mine.st") == {"": ansm_path("robust")}
    assert named_weights((), "builtin") == named_weights(["bundled"], "builtin")
    assert named_weights((), "builtin") == {"": ansm_path("two_view")} != named_weights(())
    assert named_weights(["f"]) == {"": Path("f")}
    assert named_weights(["base=f", "robust=bundled"]) == {
        "base": Path("f"),
        "robust": ansm_path("robust"),
    }
    odd = tmp_path / "x=y"
    odd.touch()
    assert named_weights([str(odd)]) == {"": odd}
    for wrong in (["f", "g"], ["a=f", "a=g"], ["a=f", "g"]):
        with pytest.raises(InputError, match="NAME=FILE"):
            named_weights(wrong)


def test_what_training_saw_runs_through_all_earlier_runs(checkpoints) -> None:
    record = {
        "config": {
            "attacks": [
                {"name": "pgd", "objective": "hide", "weight": 1.0},
                {"name": "fgsm", "weight": 0.0},
            ],
            "online": {"share": 0.0, "attacks": [{"name": "segpgd"}]},
        },
        "initial": {
            "config": {
                "attacks": [{"name": "mifgsm"}],
                "online": {
                    "share": 0.5,
                    "attacks": [{"name": "pgd", "adaptive": True}, {"name": "square"}],
                },
            },
            "localizer": "abc",
        },
    }
    seen = training(record)
    saw = {name: seen.saw(entry) for name, entry in CATALOGUE.items()}
    assert {name for name, value in saw.items() if value} == {
        "hide",
        "mifgsm",
        "square",
        "adaptive",
    }
    assert saw["none"] is None and saw["pgd"] is False and saw["transfer-hide"] is False
    assert seen.localizer == "abc"
    assert training({}).saw(CATALOGUE["pgd"]) is None
    assert read_training(checkpoints["ansm"]).saw(CATALOGUE["pgd"]) is True
    assert read_training().saw(CATALOGUE["hide"]) is True  # the bundled one's record
    json.dumps(seen.document())


def test_a_transferred_attack_was_seen_if_its_localizers_noise_was() -> None:
    record = {
        "config": {"attacks": [{"name": "pgd", "objective": "hide"}]},
        "localizer": "mine",
        "other_localizers": ["theirs"],
        "initial": {"config": {}, "localizer": "an earlier one"},
    }
    seen = training(record)
    assert seen.document()["localizers_in_training"] == ["an earlier one", "mine", "theirs"]
    for surrogate in ("theirs", "an earlier one", "another", None):
        known = replace(seen, surrogate=surrogate)
        assert known.saw(CATALOGUE["transfer-hide"]) is (surrogate in seen.attacked)
        assert known.saw(CATALOGUE["transfer"]) is False  # no such attack on the true mask
        assert known.saw(CATALOGUE["hide"]) is True


def test_judged_figures_come_back_and_a_torn_line_does_not(tmp_path) -> None:
    scores = {"f1": 0.25, "auc": math.nan, "psnr": math.inf}
    store = ScoreStore(tmp_path, "a")
    store.put("k", scores)
    (file,) = tmp_path.iterdir()
    with file.open("a") as lines:
        lines.write('{"key": "torn", "sco')
    again = ScoreStore(tmp_path, "a")
    found = again.get("k")
    assert found is not None and found["f1"] == 0.25
    assert math.isnan(found["auc"]) and found["psnr"] == math.inf
    assert again.get("torn") is None and ScoreStore(tmp_path, "b").get("k") is None


def test_the_key_is_the_content(tmp_path) -> None:
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert content_key(a, c) == content_key(b, c) != content_key(c, a)


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "{",
        "7",
        '{"config": []}',
        '{"config": {"attacks": [{}]}}',
        '{"config": {"attacks": 3}}',
        '{"config": {"online": 3}}',
        "[" * 100_000,
    ],
)
def test_a_record_that_is_none_ends_in_one_line(checkpoints, tmp_path, record) -> None:
    """The fingerprint does not cover it: anyone may write anything there."""
    with safe_open(checkpoints["ansm"], framework="pt") as opened:
        metadata = opened.metadata() | {"provenance": record}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    with pytest.raises(InputError, match="unreadable record of its training"):
        read_training(tmp_path / "a.safetensors")
