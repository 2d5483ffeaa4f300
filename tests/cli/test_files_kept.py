"""Files of the user's, and devices, where an output was to go: they stay what they are."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

EVALUATE = "evaluate set --attacks none --defences none,jpeg --localizer builtin"
ATTACK = "attack set --attack fgsm --localizer builtin -o out"


@pytest.mark.parametrize("option", ["json", "csv", "markdown"])
def test_what_is_no_file_is_not_replaced_by_one(forgeries, run, option) -> None:
    os.mkfifo("pipe")
    result = run(f"{EVALUATE} --{option} pipe")
    assert result.code == 2 and stat.S_ISFIFO(os.stat("pipe").st_mode)
    expected = f"cannot write pipe: it is a named pipe; give --{option} a file"
    assert result.err == [f"ansm-fast: error: {expected}"]


@pytest.mark.parametrize("option", ["json", "csv"])
@pytest.mark.parametrize("content", [b"my own", b'{"rows": 1}', b"\x89PNG\r\n"])
def test_a_file_that_no_evaluation_wrote_is_not_written_over(
    forgeries, run, option, content
) -> None:
    Path("own").write_bytes(content)
    result = run(f"{EVALUATE} --{option} own")
    assert result.code == 2 and Path("own").read_bytes() == content
    expected = f"own is no --{option} file of an earlier evaluation, and is not written over; give"
    assert expected in result.err[-1]


def test_links_stay_links(forgeries, run) -> None:
    Path("real").mkdir()
    for name in ("e.json", "e.md"):
        Path(name).symlink_to(Path("real") / name)
    for _ in range(2):
        assert run(f"{EVALUATE} --json e.json --markdown e.md").code == 0
    assert Path("e.json").is_symlink() and Path("e.md").is_symlink()
    assert json.loads(Path("real/e.json").read_text())["rows"]


@pytest.mark.parametrize(
    "line",
    [
        f"{EVALUATE} --json loop",
        f"{EVALUATE} --cache loop",
        "attack set -o loop --localizer builtin",
        "defend --batch set/images -o loop --weights tiny",
        "defend --batch set/images -o d --masks loop --weights tiny",
        "evaluate loop --attacks none",
    ],
)
def test_a_link_to_itself_is_one_line(forgeries, run, line) -> None:
    Path("loop").symlink_to("loop")
    result = run(line)
    assert result.code == 2 and "loop" in result.err[-1]
    assert "fault of ansm_fast" not in result.err[-1]


def test_pictures_of_sets_with_similar_names_are_all_there(forgeries, run) -> None:
    pytest.importorskip("matplotlib")
    shutil.copytree("set", "other")
    options = "--attacks none,fgsm --eps 4/255 --defences none --localizer builtin --plots plots"
    for names, files in (
        (("ü", "漢"), ["robustness-ü.png", "robustness-漢.png"]),
        (("a b", "a+b"), ["robustness-a_b-2.png", "robustness-a_b.png"]),
    ):
        shutil.rmtree("plots", ignore_errors=True)
        result = run(f"evaluate set other --name '{names[0]}' --name '{names[1]}' {options}")
        assert result.code == 0 and sorted(os.listdir("plots")) == files


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_changed_file_of_a_set_is_told_and_not_certified(forgeries, run, part) -> None:
    assert run(ATTACK).code == 0
    whole = Path(f"out/{part}/a.png").read_bytes()
    Path(f"out/{part}/a.png").write_bytes(Path("set/images/a.png").read_bytes())
    result = run(ATTACK)
    assert result.code == 2
    assert f"out/{part}/a.png was changed since it was written; remove it to" in result.err[-1]
    assert run("data verify out").code == 2
    Path(f"out/{part}/a.png").unlink()
    assert run(ATTACK).code == 0 and run("data verify out").code == 0
    assert Path(f"out/{part}/a.png").read_bytes() == whole


def test_a_changed_file_of_a_cache_gives_no_figures(forgeries, run) -> None:
    line = "evaluate set --attacks fgsm --eps 4/255 --defences none --localizer builtin --cache c"
    assert run(line).code == 0
    attacked = next(Path("c").glob("fgsm*/images/a.png"))
    attacked.write_bytes(Path("set/images/a.png").read_bytes())
    result = run(line)
    assert result.code == 2 and f"{attacked} was changed since it was written" in result.err[-1]


def test_names_that_are_no_utf_8(forgeries, run) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for part in ("images", "masks"):
        shutil.copy(f"set/{part}/a.png", f"set/{part}/{name}")
    assert run(ATTACK).code == 0 and run("data verify out").code == 0
    checked = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd="out", check=False)
    assert checked.returncode == 0
    line = "defend --batch set/images --weights tiny --json -o"
    result = run(f"{line} {os.fsdecode(b'd%c' % 0xE9)}")
    assert result.code == 0 and json.loads(result.out)["output"] == "d\udce9"


def test_the_card_of_a_synthesis_is_written_once(forgeries, run, monkeypatch) -> None:
    """A run that is killed while it writes the card anew would leave it cut short."""
    line = "data synthesize set/images -n 2 --size 64 -o out"
    assert run(line).code == 0
    before = os.stat("out/synthesis.json")
    assert run(line).code == 0
    assert os.stat("out/synthesis.json").st_mtime_ns == before.st_mtime_ns
    shutil.rmtree("out")

    def killed(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(os, "replace", killed)
        assert run(line).code == 130
    assert not Path("out/synthesis.json").exists() and run(line).code == 0


def test_a_full_disk_names_the_file(forgeries, run, monkeypatch) -> None:
    def full(self: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = run("data synthesize set/images -n 1 --size 64 -o out")
    assert result.err == [
        "ansm-fast: error: cannot write out/synthesis.json (No space left on device); make room "
        "and give the same command again"
    ]
    result = run(f"{EVALUATE} --plots plots --attacks none,fgsm --eps 4/255")
    assert result.code == 2 and not list(Path("plots").iterdir())


TRAIN = (
    "train ansm --config ansm -o run --set data.train=set --set data.validation=set "
    "--set attack_cache=attacks "
    "--set steps=1 --set attack_cache_size=2 --set crop=32 --set batch_size=2 --set detect.steps=0 "
    "--set ffa.steps=0 --set warm_start=false --set validation_attacks=[] --set localizer=builtin "
    "--set 'attacks=[{name: noise}]' --set 'logs=[csv]'"
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ansm.safetensors", "run holds another ansm.safetensors and no state.safetensors of its"),
        ("localizer.safetensors", "run holds another localizer.safetensors and no state.safet"),
        ("metrics.csv", "run/metrics.csv holds no metrics of a training; give another output"),
    ],
)
def test_a_training_writes_over_no_other_checkpoint_or_table(forgeries, run, name, words) -> None:
    Path("run").mkdir()
    Path("run", name).write_text("my own")
    result = run(TRAIN)
    assert result.code == 2 and words in result.err[-1]
    assert Path("run", name).read_text() == "my own"
    Path("run", name).unlink()
    assert run(TRAIN).code == 0 and run(TRAIN).code == 0


def test_forgeries_are_not_written_among_the_photographs(forgeries, run) -> None:
    result = run("data synthesize set/images -n 1 --size 64 -o set/images/made")
    assert result.code == 2 and not Path("set/images/made").exists()
    assert "set/images/made holds the originals or lies among them; give" in result.err[-1]


@pytest.mark.parametrize("cache", ["", "--cache c"])
def test_sets_alike_in_names_and_sizes_of_files(forgeries, run, cache) -> None:
    """Files of BMP of one shape have one size, whatever they show."""
    for number, folder in enumerate(("one", "two")):
        for part in ("images", "masks"):
            Path(folder, part).mkdir(parents=True)
        image = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        cv2.imwrite(f"{folder}/images/a.bmp", image)
        shutil.copy("set/masks/a.png", f"{folder}/masks/a.png")
    options = "--attacks fgsm --eps 4/255 --defences none --localizer builtin --csv e.csv"
    figures = []
    for sets in ("one two", "two one", "two"):
        result = run(f"evaluate {sets} {options} {cache}")
        assert result.code == 0, result.err
        rows = Path("e.csv").read_text().splitlines()[1:]
        figures.append(sorted(row for row in rows if "-marked," not in row))  # without floors
    assert figures[0] == figures[1] and figures[2] == figures[0][1:]
    assert len({line.split(",", 1)[1] for line in figures[0]}) == 2


def test_forgeries_for_training_and_validation(forgeries, run) -> None:
    result = run("data synthesize set/images -n 2 --validation 1 --size 64 -o out")
    assert result.code == 0
    assert result.out == "2 forgeries in out/train\n1 forgeries in out/validation\n"
    assert len(list(Path("out/train/images").iterdir())) == 2
    result = run("data synthesize set/images -n 2 --size 64 --seed 3 -o out/train")
    assert result.code == 2 and "holds forgeries made with other settings" in result.err[-1]
