"""Inputs as files, patterns and lists."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from ansm_fast.errors import InputError
from ansm_fast.inference.files import output_names
from ansm_fast.inference.gather import beside, from_list, gather, store_of
from ansm_fast.inference.stores import LocalStore


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relatives(sources: list) -> list[str]:
    return [str(source.relative) for source in sources]


def named(*names: str | Path) -> list[str]:
    return relatives(gather([str(name) for name in names], None, LocalStore(Path("o"))))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    touch(tmp_path, "p/a.jpg", "p/q/b.jpg", "p/q/c.png", "p/[x].jpg", "p/x.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_and_patterns(tree: Path) -> None:
    assert named("p/a.jpg", tree / "p" / "q" / "b.jpg") == ["a.jpg", "b.jpg"]
    assert named("p/*.jpg") == ["[x].jpg", "a.jpg", "x.jpg"]
    assert named("p/**/*.jpg") == ["[x].jpg", "a.jpg", "q/b.jpg", "x.jpg"]
    assert named(tree / "p" / "*" / "?.png") == ["q/c.png"]
    # A file of the very name, and each file once.
    assert named("p/[x].jpg") == ["[x].jpg"]
    assert named("p/*.jpg", "p/a.jpg", "./p/a.jpg") == ["[x].jpg", "a.jpg", "x.jpg"]
    assert named(f"file://{tree}/p/a.jpg") == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("p/*.gif", "no file matches p/.*quote it"),
        ("p/none.jpg", "no such file"),
        ("p/q", "is a folder; give it to --batch"),
        ("file:///no/such.jpg", "no such file"),
        ("p/q*", "no file matches"),
    ],
)
def test_what_is_not_there(tree: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        named(name)


def test_lists_keep_the_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "list").write_text("p/a.jpg\n\np/q/b.jpg\np/./a.jpg\n")
    assert relatives(from_list("list")) == ["a.jpg", "q/b.jpg"]
    (tree / "windows").write_bytes(b"\xef\xbb\xbfp/a.jpg\r\np/q/b.jpg")
    assert relatives(from_list("windows")) == ["a.jpg", "q/b.jpg"]
    absolute = "\0".join(str(tree / "p" / name) for name in ("a.jpg", "q/b.jpg")) + "\0"
    standard = io.TextIOWrapper(io.BytesIO(absolute.encode()))
    monkeypatch.setattr("sys.stdin", standard)
    assert relatives(from_list("-", null=True)) == ["a.jpg", "q/b.jpg"]


def test_odd_names_in_a_list(tree: Path) -> None:
    odd = [b"p/new\nline.jpg", b"p/\xff\xfe.jpg", b"p/ space .jpg", b"p/../p/q/up.jpg"]
    for name in odd:
        path = Path(os.fsdecode(name))
        path.touch()
    (tree / "list").write_bytes(b"\0".join(odd))
    sources = from_list("list", null=True)
    assert [os.fsencode(source.path.name) for source in sources] == [
        name.rpartition(b"/")[2] for name in odd
    ]
    names = output_names(sources, tree / "o", {})
    assert all(".." not in name.parts and not name.is_absolute() for name in names.values())


def test_a_list_that_names_some_missing_files_is_read(tree: Path) -> None:
    (tree / "list").write_text("p/a.jpg\np/none.jpg\np/q\n")
    assert relatives(from_list("list")) == ["a.jpg", "none.jpg", "q"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "names no file"),
        ("\n \n", "names no file"),
        ("none/a.jpg\nnone/b.jpg", "no file of --list list is there .first: 'none/a.jpg'"),
        ("p/a.jpg\0p/x.jpg", "separates names by NUL; add -0"),
    ],
)
def test_bad_lists(tree: Path, content: str, words: str) -> None:
    (tree / "list").write_text(content)
    with pytest.raises(InputError, match=words):
        from_list("list")
    with pytest.raises(InputError, match="cannot read --list nothing"):
        from_list("nothing")


def test_folders_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert beside("out/", "-masks") == "out-masks"
    assert Path(beside(".", "-masks")).name == f"{tmp_path.name}-masks"
    assert beside("s3://bucket/out/", "-masks") == "s3://bucket/out-masks"
    assert str(store_of(f"file://{tmp_path}/o", "-o")) == f"{tmp_path}/o"
