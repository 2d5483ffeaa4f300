from __future__ import annotations

import json
import threading

import pytest

from ansm_fast.json_lines import Appender, parse, read, text_of


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
