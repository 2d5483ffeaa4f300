"""What a command writes it finds again; where it cannot write, it says so before the work."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

EVALUATE = "evaluate set --attacks none --defences none,jpeg --localizer builtin"
FILES = "--json e.json --csv e.csv --markdown e.md --plots plots --cache cache"


def test_an_evaluation_is_repeated_into_the_same_files(forgeries, run) -> None:
    contents = []
    for _ in range(2):
        result = run(f"{EVALUATE} {FILES}")
        assert result.code == 0, result.err
        contents.append({p.name: p.read_bytes() for p in Path().glob("e.*")})
    assert contents[0] == contents[1] and len(contents[0]) == 3
    text = contents[0]["e.md"].decode()
    assert text.startswith("<!-- table:evaluation -->\nF1 at 0.5")
    assert text.endswith("<!-- /table:evaluation -->\n")


def test_an_empty_document_becomes_the_table_and_its_text_stays(forgeries, run) -> None:
    Path("e.md").write_text("\n")
    assert run(f"{EVALUATE} --markdown e.md").code == 0
    made = Path("e.md").read_text()
    Path("e.md").write_text(f"# Mine\n\n{made}\nThe end.\n")
    assert run(f"{EVALUATE} --markdown e.md").code == 0
    assert Path("e.md").read_text() == f"# Mine\n\n{made}\nThe end.\n"


def test_two_options_do_not_share_a_file(forgeries, run) -> None:
    result = run(f"{EVALUATE} --json e.txt --csv ./e.txt")
    assert result.code == 2
    assert result.err[-1] == "ansm-fast: error: --json and --csv name one file; give two: e.txt"


def test_a_disk_that_fills_up_at_the_end_costs_no_figures(forgeries, run, monkeypatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ansm_fast.evaluation.report.write_text", full)
    result = run(f"{EVALUATE} --json e.json")
    assert result.code == 2 and "no attack" in result.out
    assert result.err[-1].endswith(
        "cannot write e.json (No space left on device); give another file"
    )
    assert not Path("e.json").exists()


COMMANDS = {
    "attack": "attack set --steps 1 --localizer builtin -o {}",
    "synthesize": "data synthesize set/images -n 1 --size 64 -o {}",
    "defend": "defend --batch set/images --weights tiny -o {}",
    "train": "train localizer --set data.train=set --set data.validation=set -o {}",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("output", ["file", "file/below", "/proc/nothing/here"])
def test_an_output_that_cannot_be_is_one_line(forgeries, run, command, output) -> None:
    Path("file").write_text("in the way")
    result = run(COMMANDS[command].format(output))
    assert result.code == 2, result.err
    assert result.err[-1].startswith("ansm-fast: error: ")
    assert output.split("/here")[0] in result.err[-1]
    assert Path("file").read_text() == "in the way"


@pytest.mark.parametrize("command", ["attack", "defend"])
@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "mars:1", "cpu:x"])
def test_a_device_that_is_not_there_is_one_line(forgeries, run, command, device) -> None:
    result = run(COMMANDS[command].format("out") + f" --device '{device}'")
    assert result.code == 2
    assert f"device {device!r} is not available (" in result.err[-1]
    assert result.err[-1].endswith("; try cpu") and not Path("out").exists()


def test_a_training_folder_that_cannot_be_written_to(forgeries, run, monkeypatch) -> None:
    monkeypatch.setattr("ansm_fast.cli.train.os.access", lambda *_arguments: False)
    result = run(COMMANDS["train"].format("out"))
    assert result.code == 2
    assert result.err == ["ansm-fast: error: cannot write to out; give another folder to -o"]


def test_full_disks(forgeries, run, monkeypatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ansm_fast.data.synthesis.writer._make_chunk", full)
    result = run(COMMANDS["synthesize"].format("out"))
    assert result.code == 2 and "No space left on device" in result.err[-1]
    monkeypatch.setattr("ansm_fast.data.attacked_set.write_png", full)
    result = run(COMMANDS["attack"].format("attacked"))
    assert result.code == 2
    assert "No space left on device); what is complete is intact" in result.err[-1]


def test_a_budget_that_is_empty_is_not_the_default(forgeries, run) -> None:
    result = run("evaluate set --eps ''")
    assert result.code == 2 and "eps must be a number like 4/255 or 0.0157" in result.err[-1]


def test_a_damaged_card_of_a_set(forgeries, run) -> None:
    Path("out").mkdir()
    Path("out/synthesis.json").write_text("{")
    result = run(COMMANDS["synthesize"].format("out"))
    assert result.code == 2
    assert result.err[-1].endswith(
        "synthesis.json is damaged; give another output folder or remove out"
    )


def test_processes_of_a_synthesis_that_are_ended(forgeries, run, monkeypatch) -> None:
    """Its processes are forked: they see what is patched here."""
    monkeypatch.setattr("ansm_fast.data.synthesis.writer.make_forgery", die)
    result = run(COMMANDS["synthesize"].format("out") + " --workers 2")
    assert result.code == 2
    assert "one of the 2 processes was ended by the system; was the memory full?" in result.err[-1]


def die(*_arguments: object) -> None:
    os._exit(9)


def _opencv() -> None:
    cv2.resize(np.zeros((2, 2, 3), np.uint8), (1 << 24, 1 << 24))


def _torch() -> None:
    torch.empty(1 << 60)


def _python() -> None:
    raise MemoryError


def _gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has more")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (_opencv, "the computer has too little memory (Failed to allocate "),
        (_torch, "the computer has too little memory (can't allocate memory: you tried to all"),
        (_python, "the computer has too little memory (out of memory); give"),
        (_gpu, "the device has too little memory (CUDA out of memory); give smaller batches or"),
    ],
)
@pytest.mark.parametrize("where", ["ours", "user"])
def test_too_little_memory_is_no_fault_of_ours(
    forgeries, run, monkeypatch, ask, words, where
) -> None:
    line = COMMANDS["attack"].format("out")
    if where == "ours":
        monkeypatch.setattr("ansm_fast.data.FolderDataset.check", lambda *_: ask())
    else:
        code = "class Model(torch.nn.Module):\n    def forward(self, image):\n        ask()\n"
        code += "def make():\n    return WrappedLocalizer(Model(), taps=())\n"
        head = "import torch\nfrom ansm_fast.localizers import WrappedLocalizer\n"
        Path("hungry.py").write_text(head + code)
        monkeypatch.delitem(sys.modules, "hungry", raising=False)
        monkeypatch.setattr("builtins.ask", ask, raising=False)
        line = line.replace("builtin", "hungry:make")
    result = run(line)
    assert result.code == 2 and words in result.err[-1]
