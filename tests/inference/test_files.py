from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from ansm_fast.errors import InputError
from ansm_fast.inference.batcher import Batcher
from ansm_fast.inference.files import (
    FileSource,
    from_files,
    output_names,
)
from ansm_fast.inference.manifest import Manifest
from ansm_fast.inference.search import from_folder
from ansm_fast.inference.stores import LocalPlace, LocalStore, prepare_folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_of(
    sources: list[FileSource], output: Path, claimed: dict[str, str] | None = None
) -> dict:
    named = output_names(sources, output, claimed or {})
    return {str(source.relative): str(name) for source, name in named.items()}


def test_folder_is_searched_in_depth(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/c.webp", "a/notes.txt", ".hidden.png", "x.heic", "out/done.png")
    found = from_folder(tmp_path, tmp_path / "out")
    assert [str(source.relative) for source in found] == ["b.JPG", "x.heic", "a/c.webp"]


def test_names_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "A.tif", "b.jpg", "c.jpg", "c.webp", "d/a.jpg", "c.jpg.png")
    named = names_of(from_folder(tmp_path, tmp_path / "o"), tmp_path / "o")
    assert named["a.png"] == "a.png" and named["b.jpg"] == "b.png" and named["d/a.jpg"] == "d/a.png"
    assert named["a.jpg"] == "a.jpg.png" and named["A.tif"] == "A.tif.png"
    assert named["c.webp"] == "c.webp.png"
    assert len({name.casefold() for name in named.values()}) == len(named)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png", "z/a.png")
    paths = [tmp_path / side / "a.png" for side in "xyz"]
    named = output_names(from_files([*paths, paths[0]]), tmp_path / "o", {})
    assert sorted(map(str, named.values())) == ["a-2.png", "a.png", "a.png.png"]


def test_names_of_earlier_runs_stay(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")
    claimed = {str((tmp_path / "a.jpg").resolve()): "a.png"}
    named = names_of(from_folder(tmp_path, tmp_path / "o"), tmp_path / "o", claimed)
    assert named == {"a.jpg": "a.png", "a.png": "a.png.png"}


def test_no_output_takes_the_place_of_an_input(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    source = FileSource(tmp_path / "in" / "a.png", PurePosixPath("a.png"))
    assert names_of([source], tmp_path / "in") == {"a.png": "a.png.png"}


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        from_folder(tmp_path / "none", tmp_path / "o")
    with pytest.raises(InputError, match="no image in"):
        from_folder(tmp_path, tmp_path / "o")
    with pytest.raises(InputError, match="is the input folder"):
        from_folder(tmp_path, tmp_path / "o" / "..")
    with pytest.raises(InputError, match="no such file"):
        from_files([tmp_path / "none.png"])
    with pytest.raises(InputError, match="give it to --batch"):
        from_files([tmp_path])
    touch(tmp_path, "file")
    with pytest.raises(InputError, match="cannot write to"):
        prepare_folder(tmp_path / "file" / "o", "-o")


def test_manifest_survives_a_cut_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "o.png").write_bytes(b"content")
    source = FileSource(tmp_path / "a.png", PurePosixPath("a.png"))
    record = {"input": source.key, "status": "done", "output": "o.png", "mark": "m"}
    manifest = Manifest(tmp_path)
    manifest.add(record | source.identity())
    manifest.close()
    with manifest.path.open("a") as file:
        file.write('{"input": "/else')
    again = Manifest(tmp_path)
    needed: list[LocalPlace] = [LocalStore(tmp_path).place("o.png")]
    assert again.is_done(source, {"mark": "m"}, needed)
    assert again.claimed() == {source.key: "o.png"}
    assert not again.is_done(source, {"mark": "other"}, needed)
    assert not again.is_done(source, {"mark": "m"}, [LocalStore(tmp_path).place("gone.png")])
    again.add({"input": "later", "status": "failed"})
    again.close()
    assert json.loads(manifest.path.read_text().splitlines()[-1])["input"] == "later"
    source.path.write_bytes(b"changed")
    assert not again.is_done(source, {"mark": "m"}, needed)


def test_batcher_fills_by_items_and_by_pixels() -> None:
    batcher: Batcher[int] = Batcher(max_items=3, max_pixels=100)
    assert [batcher.add(i, "small", 10) for i in range(3)] == [[], [], [0, 1, 2]]
    assert batcher.add(3, "large", 60) == [3]
    assert batcher.add(4, "small", 10) == [] and batcher.add(5, "other", 10) == []
    assert batcher.add(6, "other", 10) == []
    assert batcher.flush() == [5, 6] and batcher.flush() == [4] and batcher.flush() == []
