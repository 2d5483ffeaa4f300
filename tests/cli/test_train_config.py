"""Configurations and --set with every mistake: one line that names the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

import ansm_fast
from ansm_fast.training.config import MODELS, load_run, parse_run
from ansm_fast.training.field_table import field_rows, field_text
from ansm_fast.training.overrides import apply_override
from ansm_fast.training.yaml_file import read_yaml

CONFIGS = Path(ansm_fast.__file__).parent / "training" / "configs"
RECIPES = Path(__file__).parents[2] / "recipes"
COMMITTED = sorted(CONFIGS.iterdir()) + sorted(RECIPES.glob("*/*.yaml"))
FIELDS = "`ansm-fast train ansm --fields` lists the fields"

SET = [
    ("steps.x=3", "--set steps.x=3: steps is '12550' and has no fields of its own"),
    ("data.train.x=1", "data.train is 'data/train' and has no fields of its own"),
    ("attacks.0.name=bim", "attacks.0.name: attack 'bim' was removed; use 'pgd'"),
    ("attacks.0.name=pgdd", "attacks.0.name: attack must be one of fgsm, pgd, mifgsm"),
    ("attacks.9.name=x", "attacks has 7 items; give a number from 0 to 6 (or -1 for the last)"),
    ("attacks.-8.name=x", "attacks has 7 items"),
    ("attacks.x=1", "attacks has 7 items; give a number from 0 to 6 (or -1 for the last)"),
    ("online.attacks.0.name=x", "give the whole list, --set 'online.attacks=[...]'"),
    ("=3", "--set wants KEY=VALUE, got '=3'; give --set KEY=VALUE, e.g."),
    ("steps", "--set wants KEY=VALUE, got 'steps'"),
    ("a..b=3", "--set wants KEY=VALUE, got 'a..b=3'"),
    ("a=[", "--set a=[: the value is not valid YAML (expected the node content"),
    ("steps={a: 1, a: 2}", "the key 'a' stands twice, in lines 1 and 1"),
    ("seed=2020-99-99", "--set seed=2020-99-99: the value is not valid YAML (month must be"),
    ("steps=0", f"--set steps=0: steps: Input should be greater than 0 (given: 0); {FIELDS}"),
    ("steps=", "--set steps=: steps: Input should be a valid integer (given: None)"),
    ("steps=many", "Input should be a valid integer"),
    ("lr=3", f"--set lr=3: lr: no such field; did you mean optimizer.lr?; {FIELDS}"),
    ("optimiser.lr=1", "optimiser: no such field; did you mean optimizer?"),
    ("optimizer.lrr=1", "optimizer.lrr: no such field; did you mean optimizer.lr?"),
    ("attacks.0.epss=1", "attacks.0.epss: no such field; did you mean attacks.0.eps?"),
    ("attacks.-1.wieght=2", "attacks.6.wieght: no such field; did you mean attacks.6.weight?"),
    ("quite_another_thing=1", f"quite_another_thing: no such field; {FIELDS}"),
    ("mgr=3", "--set mgr=3: mgr: Input should be a valid dictionary"),
    ("kind=localizer", "--set kind=localizer: kind must be ansm here; leave it out"),
]


@pytest.mark.parametrize(("given", "words"), SET, ids=[given for given, _ in SET])
def test_a_bad_override_is_one_line(run, tmp_path, given, words) -> None:
    result = run(f"train ansm --config ansm -o {tmp_path / 'out'} --set '{given}'")
    assert result.code == 2 and len(result.err) == 1, result.err
    assert result.err[0].startswith("ansm-fast: error: ") and words in result.err[0]
    assert not (tmp_path / "out").exists()


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)
)
FILES = [
    (b"kind: [", "is not valid YAML (expected the node content, but found '<stream end>', line 1"),
    (b"kind: ansm\n\tsteps: 3\n", "is not valid YAML (found character '\\t' that cannot start"),
    ("kind: ansm\nphotographs: \xfc\n".encode("latin-1"), "is not UTF-8 (byte 0xfc in line 2)"),
    ("kind: ansm\n".encode("utf-16"), "is not UTF-8 (byte 0xff in line 1); save it as UTF-8"),
    (b"", "is empty; configs that work are in"),
    (b"\xef\xbb\xbf \r\n", "is empty"),
    (b"# nothing\n", "is not a config of kind 'ansm'; give one that is"),
    (b"- kind: ansm\n", "is not a config of kind 'ansm'"),
    (b"kind: localizer\n", "is not a config of kind 'ansm'; ansm-fast train localizer takes it"),
    (b"kind: ansm\nsteps: 3\nsteps: 4\n", "the key 'steps' stands twice, in lines 2 and 3"),
    (b"kind: ansm\ndata:\n  train: a\n  train: b\n", "the key 'train' stands twice, in lines 3"),
    (BOMB.encode(), "more than 10000 values, aliases written out"),
    (MERGES.encode(), "more than 10000 values, aliases written out"),
    (b"kind: ansm\na: &a [*a]\n", "an alias stands inside its own anchor"),
    (b"[" * 20000, "nested too deeply"),
    (b"kind: !!python/object:os.system x\n", "could not determine a constructor"),
    (b"kind: ansm\x00\n", "is not valid YAML (unacceptable character"),
    (b"{1: 2, [a]: 3}", "is not valid YAML (found unhashable key"),
    (b"x" * 1_000_001, "it holds more than a megabyte"),
    (b"kind: ansm\nsteps: 3\n", "data: this field is required; "),
]


@pytest.mark.parametrize(("content", "words"), FILES, ids=[words[:40] for _, words in FILES])
def test_a_bad_file_is_one_line(run, tmp_path, content, words) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    result = run(f"train ansm -o {tmp_path / 'out'} --config {path}")
    assert result.code == 2 and len(result.err) == 1, result.err
    assert str(path) in result.err[0] and words in result.err[0]


def test_a_folder_is_no_config(run, tmp_path) -> None:
    result = run(f"train ansm -o {tmp_path / 'out'} --config {tmp_path}")
    assert result.code == 2 and f"config {tmp_path} is a folder; configs" in result.err[-1]


def test_windows_line_ends_and_a_byte_order_mark(tmp_path) -> None:
    plain = (CONFIGS / "ansm.yaml").read_text(encoding="utf-8")
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode())
    assert load_run(path) == load_run(CONFIGS / "ansm.yaml")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_committed_files_say_nothing_twice(path) -> None:
    assert read_yaml(path, "")["kind"] in MODELS


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        ("optimizer.lr=1e-3", "optimizer.lr", "1e-3"),
        ("attacks.0.name=fgsm", "attacks.0.name", "fgsm"),
        ("attacks.-1.eps.1=4", "attacks.6.eps.1", 4),
        ("validation_attacks.1.steps=3", "validation_attacks.1.steps", 3),
        ("ffa.taps=[a, b]", "ffa.taps", ["a", "b"]),
        ("photographs=a = b", "photographs", "a = b"),
    ],
)
def test_fields_and_items_are_set(given, path, value) -> None:
    values = read_yaml(CONFIGS / "ansm.yaml", "")
    assert apply_override(values, given, MODELS["ansm"]) == path
    found = values
    for part in path.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert found == value
    run = parse_run(values, "test")
    assert len(run.attacks) == 7 and len(run.validation_attacks) == 2


@pytest.mark.parametrize("kind", MODELS)
def test_the_fields_are_printed(run, kind) -> None:
    result = run(f"train {kind} --fields")
    assert result.code == 0 and result.out == field_text(MODELS[kind])
    assert "optimizer.lr: number > 0 = 0.002\n    learning rate after the warm-up\n" in result.out
    assert "steps: integer > 0, required\n" in result.out


@pytest.mark.parametrize("kind", MODELS)
def test_every_field_has_a_meaning(kind) -> None:
    assert [row.path for row in field_rows(MODELS[kind]) if not row.meaning] == []


def test_the_page_of_the_fields_is_up_to_date() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "training_fields.md").read_text(encoding="utf-8")
    for kind, model in MODELS.items():
        assert f"## {kind}\n\n```text\n{field_text(model)}```" in page
