"""Inputs and outputs at addresses, by stores that need no network."""

from __future__ import annotations

import builtins
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from ansm_fast.errors import InputError
from ansm_fast.inference import Engine, Summary, defend_files, url_store
from ansm_fast.inference.form import Form
from ansm_fast.inference.gather import from_list, gather
from ansm_fast.inference.stores import LocalStore
from ansm_fast.inference.url_store import UrlStore
from ansm_fast.inference.urls import is_url, local_path, open_url
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


@pytest.fixture(scope="session")
def engine(ansm: ANSM) -> Engine:
    return Engine(ansm)


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    """An empty store, and a machine that has seen none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    return found


def content(seed: int = 0, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def defend(source: str, out: str | Path, engine: Engine, **options: Any) -> Summary:
    store = LocalStore(out) if isinstance(out, Path) else UrlStore(out)
    store.prepare("-o")
    sources = gather([], source, store)
    return defend_files(sources, store, engine, **({"fingerprint": "f"} | options))


def names(memory: MemoryFileSystem, folder: str) -> set[str]:
    return {path.removeprefix(folder + "/") for path in memory.find(folder)}


def test_names_of_addresses() -> None:
    assert all(is_url(name) for name in ("s3://b/a", "zip://a.png::x.zip", "abfs+x://c"))
    assert not any(is_url(name) for name in ("a.png", "C:\\a.png", "c://a", "a::b.png", "/a://b"))
    assert local_path("file:///a/b") == Path("/a/b") and local_path("memory://a") is None
    assert local_path("zip://a::file:///x.zip") is None


def test_a_store_as_input(tmp_path: Path, engine: Engine, memory: MemoryFileSystem) -> None:
    memory.pipe({"/in/a.jpg": content(0, "JPEG"), "/in/sub/b.png": content(1), "/in/x.txt": b"x"})
    memory.pipe({"/in/.hidden.png": content(2), "/in/cut.png": content(3)[:500]})
    out = tmp_path / "out"
    summary = defend("memory://in", out, engine)
    assert (summary.defended, summary.failed) == (2, 1)
    assert summary.failures[0]["input"] == "memory:///in/cut.png"
    assert Image.open(out / "sub" / "b.png").size == (24, 16) and (out / "a.png").is_file()
    assert defend("memory://in", out, engine).skipped == 2
    memory.pipe("/in/a.jpg", content(7, "JPEG"))
    assert defend("memory://in", out, engine).defended == 1


def test_a_store_as_output(tmp_path: Path, engine: Engine, memory: MemoryFileSystem) -> None:
    memory.pipe({"/in/a.jpg": content(), "/in/a.png": content(1), "/out/sub/b.png": b"mine"})
    memory.pipe("/in/sub/b.jpg", content(2))
    assert defend("memory://in", "memory://out", engine).defended == 3
    expected = {"a.jpg.png", "a.png", "sub/b.png", "sub/b.jpg.png", "manifest.jsonl"}
    assert names(memory, "/out") == expected and memory.cat("/out/sub/b.png") == b"mine"
    assert defend("memory://in", "memory://out", engine).skipped == 3
    # The very same bytes as into a folder.
    defend("memory://in", tmp_path / "out", engine)
    assert memory.cat("/out/a.png") == (tmp_path / "out" / "a.png").read_bytes()
    # Ours is replaced, changed by others it stays.
    memory.pipe("/out/a.png", b"changed")
    assert defend("memory://in", "memory://out", engine, fingerprint="g").defended == 3
    assert names(memory, "/out") == expected | {"a.png.png"}
    assert memory.cat("/out/a.png") == b"changed"


def test_another_machine_goes_on(
    tmp_path: Path, engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe({"/in/a.png": content(), "/in/b.png": content(1)})
    defend("memory://in", "memory://out", engine)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    memory.pipe("/in/c.png", content(2))
    summary = defend("memory://in", "memory://out", engine)
    assert (summary.defended, summary.skipped) == (1, 2)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # the first again
    assert defend("memory://in", "memory://out", engine).skipped == 3
    lines = memory.cat("/out/manifest.jsonl").splitlines()
    assert len(lines) == 3 and all(json.loads(line)["status"] == "done" for line in lines)


def test_two_machines_keep_what_both_did(
    engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/in/a.png", content())
    defend("memory://in", "memory://out", engine)
    theirs = b'{"input": "memory:///else/z.png", "status": "done", "output": "z.png"}\n'
    put = UrlStore.put_manifest

    def meanwhile(store: UrlStore) -> None:
        memory.pipe("/out/manifest.jsonl", memory.cat("/out/manifest.jsonl") + theirs)
        put(store)

    memory.pipe("/in/b.png", content(1))
    with monkeypatch.context() as patch:
        patch.setattr(UrlStore, "put_manifest", meanwhile)
        assert defend("memory://in", "memory://out", engine).defended == 1
    manifest = memory.cat("/out/manifest.jsonl")
    assert theirs in manifest and len(manifest.splitlines()) == 3


def test_a_run_that_was_killed_before_its_manifest_was_put(
    tmp_path: Path, engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/in/a.png", content())
    with monkeypatch.context() as patch:
        patch.setattr(UrlStore, "put_manifest", lambda self: None)
        defend("memory://in", "memory://out", engine)
    assert names(memory, "/out") == {"a.png", "manifest.jsonl"}
    assert memory.cat("/out/manifest.jsonl") == b""
    assert defend("memory://in", "memory://out", engine).skipped == 1  # this machine knows
    # One that doesn't finds the same bytes and takes them for its own.
    memory.rm("/out/manifest.jsonl")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    created = memory.info("/out/a.png")["created"]
    assert defend("memory://in", "memory://out", engine).defended == 1
    assert names(memory, "/out") == {"a.png", "manifest.jsonl"}
    assert memory.info("/out/a.png")["created"] == created


def test_an_object_that_appears_meanwhile_stays(
    engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/in/a.png", content())
    real = MemoryFileSystem.pipe_file

    def pipe_file(self: MemoryFileSystem, path: str, value: bytes, **options: Any) -> None:
        if path.endswith("out/a.png"):
            real(self, path, b"mine")
        real(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    assert defend("memory://in", "memory://out", engine).defended == 1
    assert memory.cat("/out/a.png") == b"mine"
    assert names(memory, "/out") == {"a.png", "a.png.png", "manifest.jsonl"}


def test_a_foreign_manifest_stays(engine: Engine, memory: MemoryFileSystem) -> None:
    memory.pipe({"/in/a.png": content(), "/out/manifest.jsonl": b'{"images": []}\n'})
    with pytest.raises(InputError, match="another program's file"):
        defend("memory://in", "memory://out", engine)
    assert names(memory, "/out") == {"manifest.jsonl"}
    assert memory.cat("/out/manifest.jsonl") == b'{"images": []}\n'


def test_two_runs_of_one_machine(engine: Engine, memory: MemoryFileSystem) -> None:
    memory.pipe("/in/a.png", content())
    first = UrlStore("memory://out")
    first.begin()
    assert names(memory, "/out") == {"manifest.jsonl"}
    with pytest.raises(InputError, match="another run is writing to memory://out"):
        defend("memory://in", "memory://out", engine)
    first.end()
    assert defend("memory://in", "memory://out", engine).defended == 1


def test_the_manifest_is_put_from_time_to_time(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url_store, "_INTERVAL", 0.01)
    monkeypatch.setattr(url_store, "_SHARE", 0.0)
    store = UrlStore("memory://out")
    store.begin()
    (store.state / "manifest.jsonl").write_text('{"input": "a"}\n{"input": "cut')
    for _ in range(500):
        if memory.cat("/out/manifest.jsonl"):
            break
        store._over.wait(0.01)
    assert memory.cat("/out/manifest.jsonl") == b'{"input": "a"}\n'
    store.end()


def test_masks_and_copies_in_a_store(ansm: ANSM, memory: MemoryFileSystem) -> None:
    class Unattacked(Engine):
        def defend(self, images: Any) -> Any:
            results = super().defend(images)
            for result in results:
                result.attack_score = 0.1
            return results

    engine, masks = Unattacked(ansm, BuiltinLocalizer()), UrlStore("memory://masks", "--masks")
    memory.pipe("/in/a.jpg", content(0, "JPEG"))
    options: dict[str, Any] = {"masks": masks, "form": Form("webp", copy_below=0.5)}
    assert defend("memory://in", "memory://out", engine, **options).copied == 1
    assert memory.cat("/out/a.jpg") == memory.cat("/in/a.jpg")
    assert names(memory, "/masks") == {"a.before.png", "a.after.png"}
    options["masks"] = UrlStore("memory://masks", "--masks")
    assert defend("memory://in", "memory://out", engine, **options).skipped == 1


def test_outputs_below_the_input_are_none(engine: Engine, memory: MemoryFileSystem) -> None:
    memory.pipe("/in/a.png", content())
    for expected in ((1, 0), (0, 1)):
        summary = defend("memory://in", "memory://in/out", engine)
        assert (summary.defended, summary.skipped) == expected
    with pytest.raises(InputError, match="is the input folder"):
        defend("memory://in", "memory://in/", engine)


def test_an_input_that_vanishes_or_fails(
    tmp_path: Path, engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe({"/in/a.png": content(), "/in/b.png": content(1), "/in/c.png": content(2)})
    real = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, path: str, *args: Any, **options: Any) -> bytes:
        if path.endswith("b.png"):
            raise FileNotFoundError(path)
        if path.endswith("c.png"):
            raise RuntimeError("the store is\non fire")
        return real(self, path, *args, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    summary = defend("memory://in", tmp_path / "out", engine)
    assert (summary.defended, summary.failed) == (1, 2)
    reasons = {failure["input"][-5:]: failure["error"] for failure in summary.failures}
    assert "No such file" in reasons["b.png"] and reasons["c.png"].endswith("the store is")


def test_a_store_that_fails_to_write(
    engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe({"/in/a.png": content(), "/in/b.png": content(1)})
    real = MemoryFileSystem.pipe_file

    def pipe_file(self: MemoryFileSystem, path: str, value: bytes, **options: Any) -> None:
        if path.endswith("out/b.png"):
            raise RuntimeError("denied")
        real(self, path, value, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
        summary = defend("memory://in", "memory://out", engine)
    assert (summary.defended, summary.failed) == (1, 1)
    assert summary.failures[0]["error"] == "cannot be written: denied"

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", denied)
        with pytest.raises(InputError, match="cannot write to memory://new: Access Denied"):
            defend("memory://in", "memory://new", engine)
    assert defend("memory://in", "memory://out", engine).defended == 1


def archive(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for index, member in enumerate(members):
            file.writestr(member, content(index))
    return path


@pytest.mark.parametrize("form", ["zip://{}", "zip://::{}", "zip://::file://{}"])
def test_a_zip_as_input(tmp_path: Path, engine: Engine, form: str) -> None:
    members = ("a.png", "sub/b.png", "../up.png", "/abs.png", "notes.txt")
    path, out = archive(tmp_path / "x.zip", *members), tmp_path / "out"
    # fsspec lists a member of an absolute name, and does not find it.
    summary = defend(form.format(path), out, engine)
    assert (summary.defended, summary.failed) == (3, 1)
    assert {one.relative_to(out).as_posix() for one in out.rglob("*.png")} == {
        "a.png",
        "sub/b.png",
        "up.png",
    }
    assert not (tmp_path / "up.png").exists()
    assert defend(form.format(path), out, engine).skipped == 3
    one = gather([f"zip://sub/b.png::{path}"], None, LocalStore(out))
    assert [str(source.relative) for source in one] == ["b.png"]
    assert len(gather([f"zip://*.png::{path}"], None, LocalStore(out))) >= 1


def test_a_zip_in_a_store(tmp_path: Path, engine: Engine, memory: MemoryFileSystem) -> None:
    memory.pipe("/x.zip", archive(tmp_path / "x.zip", "a.png").read_bytes())
    assert defend("zip://::memory://x.zip", tmp_path / "out", engine).defended == 1
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["input"] == "zip://a.png::memory://x.zip"


def test_files_and_patterns_of_a_store(memory: MemoryFileSystem) -> None:
    memory.pipe({"/in/a.png": b"", "/in/sub/b.png": b"", "/in/c.jpg": b""})

    def found(*given: str) -> list[str]:
        return [str(one.relative) for one in gather(list(given), None, LocalStore(Path("o")))]

    assert found("memory://in/sub/b.png") == ["b.png"]
    assert found("memory://in/**/*.png", "memory://in/a.png") == ["a.png", "sub/b.png"]
    for name, words in (
        ("memory://in/none.png", "no such file"),
        ("memory://in/*.gif", "no file matches"),
        ("memory://in/sub", "is a folder; give it to --batch"),
    ):
        with pytest.raises(InputError, match=words):
            found(name)


def test_lists_of_addresses_keep_the_tree(
    tmp_path: Path, engine: Engine, memory: MemoryFileSystem
) -> None:
    memory.pipe({"/in/x/a.png": content(), "/in/y/a.png": content(1)})
    (tmp_path / "list").write_text("memory://in/x/a.png\nmemory://in/y/a.png\nmemory://in/z.png")
    store = LocalStore(tmp_path / "out")
    store.prepare("-o")
    sources = from_list(str(tmp_path / "list"))
    summary = defend_files(sources, store, engine, fingerprint="f")
    assert (summary.defended, summary.failed) == (2, 1)
    assert (tmp_path / "out" / "x" / "a.png").is_file()
    assert (tmp_path / "out" / "y" / "a.png").is_file()
    assert summary.failures[0]["error"] == "cannot be read: No such file"

    archive(tmp_path / "x.zip", "a.png")
    (tmp_path / "mixed").write_text(f"memory://in/x/a.png\nzip://a.png::{tmp_path}/x.zip\n")
    mixed = from_list(str(tmp_path / "mixed"))
    assert [str(one.relative) for one in mixed] == ["in/x/a.png", "a.png"]


def test_a_store_that_tells_no_sizes(
    tmp_path: Path, engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a web server may."""
    memory.pipe("/in/a.png", content())
    real = MemoryFileSystem.info

    def info(self: MemoryFileSystem, path: str, **options: Any) -> dict[str, Any]:
        return real(self, path, **options) | {"size": None}

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    store = LocalStore(tmp_path / "out")
    store.prepare("-o")
    for expected in ((1, 0), (0, 1)):
        sources = gather(["memory://in/a.png"], None, store)
        summary = defend_files(sources, store, engine, fingerprint="f")
        assert (summary.defended, summary.skipped) == expected


def test_other_stores_get_whole_files_by_renaming(
    tmp_path: Path, engine: Engine, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of SFTP, where a file grows while it is written."""
    monkeypatch.setattr(url_store, "_WHOLE", frozenset())
    memory.pipe({"/in/a.png": content(), "/in/sub/b.png": content(1)})
    seen: list[str] = []
    real = MemoryFileSystem.pipe_file

    def pipe_file(self: MemoryFileSystem, path: str, value: bytes, **options: Any) -> None:
        seen.append(path)
        real(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    assert defend("memory://in", "memory://out", engine).defended == 2
    assert names(memory, "/out") == {"a.png", "sub/b.png", "manifest.jsonl"}
    assert sum(path.endswith(".tmp") for path in seen) == 2


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://a/b", "unknown scheme in nosuch://a/b"),
        ("zip://a::b.zip", "zip:// is read here and not written to"),
        ("http://a/b", "is read here and not written to"),
    ],
)
def test_addresses_that_take_no_outputs(tmp_path: Path, monkeypatch, url: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "b.zip", "a")
    with pytest.raises(InputError, match=words):
        UrlStore(url)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("memory://nothing", "no such folder, or nothing in it: memory://nothing"),
        ("memory://bare", "no image in memory://bare"),
        ("zip://none.zip", "cannot open|cannot list"),
        ("zip://::torn.zip", "cannot open zip://::torn.zip"),
        ("nosuch://a", "unknown scheme"),
    ],
)
def test_addresses_without_inputs(
    tmp_path: Path, monkeypatch, memory: MemoryFileSystem, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.zip").write_bytes(archive(tmp_path / "x.zip", "a.png").read_bytes()[:-30])
    memory.pipe("/bare/a.txt", b"")
    with pytest.raises(InputError, match=words):
        gather([], name, LocalStore(tmp_path / "o"))


def test_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError("No module named 'fsspec'")
        return real(name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", missing)
        with pytest.raises(InputError, match=r"needs fsspec: pip install 'ansm-fast\[urls\]'"):
            open_url("s3://bucket/a")
    import fsspec.core

    def no_s3fs(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", no_s3fs)
    with pytest.raises(InputError, match="Install s3fs to access S3, with pip"):
        open_url("s3://a")
