"""What libraries say is told once, with the file that it is about."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from ansm_fast.inference.messages import Messages


def warn(text: str) -> None:
    """A warning that looks as if Pillow gave it."""
    warnings.warn_explicit(text, UserWarning, "image.py", 1, "PIL.Image", {})


def test_a_kind_is_told_once_with_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with Messages(said.append) as messages:
        for index in range(3):
            with messages.about(f"{index}.tif") as found:
                warn(f"Skipping tag {index}")
                warn(f"Skipping tag {index}")
                logging.getLogger("tifffile").warning("no offset\nin tag %s", index)
            assert found == [f"Skipping tag {index}", f"no offset in tag {index}"]
        with messages.about("other.png"):
            warn("Corrupt EXIF data")
    assert said == [
        "warning: 0.tif: Skipping tag 0",
        "warning: 0.tif: no offset in tag 0",
        "warning: other.png: Corrupt EXIF data",
        "warning: as of 2 more files: Skipping tag 0",
        "warning: as of 2 more files: no offset in tag 0",
    ]
    assert capsys.readouterr().err == ""


def test_threads_tell_of_their_own_files() -> None:
    said: list[str] = []
    barrier = threading.Barrier(2)
    found: dict[str, list[str]] = {}

    def work(name: str) -> None:
        with messages.about(name) as here:
            barrier.wait(30)
            messages.add(f"about {name}")
            barrier.wait(30)
        found[name] = here

    with Messages(said.append) as messages:
        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {"a": ["about a"], "b": ["about b"]}


def test_what_is_about_no_file_is_shown_as_ever() -> None:
    said: list[str] = []
    with pytest.warns(UserWarning, match="not about a file"), Messages(said.append):
        warn("not about a file")
    assert said == []


CODE = """
import os, sys
from ansm_fast.inference.messages import Messages
with Messages(lambda line: print(line, file=sys.stderr)) as messages:
    with messages.about("a.png"):
        os.write(2, b"libpng warning: odd\\nlibpng error: odder\\n")
        os.write(2, b"x" * (1 << 20))  # more than a pipe holds
    print("ours", file=sys.stderr)
os.write(2, b"after\\n")
"""


def test_what_c_libraries_write_is_told_with_the_file() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, timeout=120)
    lines = ended.stderr.decode().splitlines()
    assert ended.returncode == 0
    assert lines[:2] == [
        "warning: a.png: libpng warning: odd", "warning: a.png: libpng error: odder",
    ]  # fmt: skip
    assert len(lines[2]) < 300 and lines[3:] == ["ours", "after"]


def test_the_command_tells_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner
    from PIL import Image

    from ansm_fast.cli.defend import command

    monkeypatch.chdir(tmp_path)
    Path("set/images").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save("set/images/a.png")
    for index in range(3):
        image = Image.new("P", (20, 20))
        image.putpalette([1, 2, 3] * 256)
        image.save(f"set/images/p{index}.tif", tiffinfo={305: "x" * 100})
        content = bytearray(Path(f"set/images/p{index}.tif").read_bytes())
        at = content.index(b"x" * 100)
        del content[at + 50 :]
        Path(f"set/images/p{index}.tif").write_bytes(bytes(content))
    line = "--batch set/images -o out --weights tiny"
    result = CliRunner().invoke(command, line.split())
    err = result.stderr.splitlines()
    told = [line for line in err if line.startswith("warning: ")]
    assert all("Warning:" not in line for line in err)
    assert len(told) <= 6 and any(line.startswith("warning: set/images/p") for line in told)
    lines = Path("out/manifest.jsonl").read_text().splitlines()
    assert any("warnings" in json.loads(line) for line in lines)
    assert os.path.exists("out/a.png")
