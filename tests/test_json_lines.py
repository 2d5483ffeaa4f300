from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from ansm_fast.json_lines import Appender, line_of, parse, read, text_of


def test_what_was_appended_is_read(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    assert read(path) == []
    records = [{"name": "a\nb"}, {"name": "caf\udce9"}, {"name": "\u2028", "x": 1.5}]
    for readable in (False, True):
        path.unlink(missing_ok=True)
        for record in records:  # each in a file opened anew
            with Appender(path, readable=readable) as file:
                file.add(record)
        text = path.read_bytes().decode(errors="surrogateescape")
        assert list(parse(text)) == records and text.count("\n") == 3
    assert list(parse(text_of(records))) == records


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_cut_last_line_is_passed_over_and_the_next_record_is_whole(tmp_path, cut) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n'[:-cut] if cut > 1 else b'{"n": 1}\n{"n": 2}')
    before, damaged = read(path, pytest.fail), []
    assert before == [{"n": 1}, {"n": 2}][: 2 if cut == 1 else 1]
    with Appender(path) as file:
        file.add({"n": 3})
        file.add({"n": 4})
    assert read(path, damaged.append) == [*before, {"n": 3}, {"n": 4}]
    assert damaged == ([2] if len(before) == 1 else [])


def test_damage_is_told_by_its_line(tmp_path) -> None:
    path, found = tmp_path / "a.jsonl", []
    path.write_bytes(b'{"n": 1}\n\xff\n[1]\n{"n": 2}\n\n')
    assert read(path, found.append) == [{"n": 1}, {"n": 2}]
    assert found == [2, 3, 5]


def test_threads_do_not_mix_their_lines(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    with Appender(path) as file:
        threads = [
            threading.Thread(target=lambda n=n: [file.add({"n": n, "k": k}) for k in range(50)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = path.read_text().splitlines()
    assert len({line for line in lines if json.loads(line)}) == 400


def test_a_new_file_is_never_one_that_was_there(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        Appender(path, new=True)
    assert path.read_text() == "mine"


# Whatever some reader takes for the end of a line, and a byte that is no UTF-8.
SEPARATORS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("readable", [False, True])
def test_no_name_splits_a_line(tmp_path, readable) -> None:
    path, record = tmp_path / "a.jsonl", {"name": f"é{SEPARATORS}\udce9\ud800", "n": 1}
    with Appender(path, readable=readable) as file:
        file.add(record)
        file.add({"n": 2})
    text = path.read_text(encoding="utf-8")  # every byte of it is UTF-8
    assert len(text.splitlines()) == 2 and ("é" in text) == readable
    assert read(path) == [record, {"n": 2}]
    assert os.fsencode(read(path)[0]["name"][-2]) == b"\xe9"
    assert len(line_of(record).splitlines()) == 1


def test_what_a_full_disk_cut_is_taken_back(tmp_path) -> None:
    path = tmp_path / "a.jsonl"

    class Full:
        """A disk with room for five more bytes."""

        def __init__(self, file) -> None:
            self.file, self.room = file, 5

        def write(self, content: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written, self.room = self.file.write(content[: self.room]), 0
            return written

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    with Appender(path) as file:
        file.add({"n": 1})
        real, file._file = file._file, Full(file._file)
        with pytest.raises(OSError, match="No space left") as caught:
            file.add({"n": 2})
        assert caught.value.filename == str(path)
        assert path.read_text() == '{"n": 1}\n'
        file._file = real
        file.add({"n": 3})
    assert read(path, pytest.fail) == [{"n": 1}, {"n": 3}]
