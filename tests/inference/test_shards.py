"""Tar files in, tar files out: what is an image is defended, and the rest is as it was."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ansm_fast.errors import InputError
from ansm_fast.images.photograph import BadImage
from ansm_fast.inference import DefendOptions, Engine, Summary, shard_run
from ansm_fast.inference.form import Form
from ansm_fast.inference.gather import expand, gather
from ansm_fast.inference.manifest import Manifest
from ansm_fast.inference.shard_run import ShardOptions, defend_shards
from ansm_fast.inference.shards import members_of
from ansm_fast.inference.stores import LocalStore, Store
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM


@pytest.fixture(scope="session")
def engine(ansm: ANSM) -> Engine:
    return Engine(ansm)


def image(seed: int = 0, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def shard(path: Path, members: list[tuple[str, bytes]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1700000000
            tar.addfile(info, io.BytesIO(content))
    return path


SAMPLES = [
    ("0001.jpg", image(1, "JPEG")), ("0001.json", b"{}"), ("d/0002.png", image(2)),
    ("d/0002.cls", b"7"),
]  # fmt: skip


def contents(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(one.name, file.read() if (file := tar.extractfile(one)) else b"") for one in tar]


def defend(given: str | Path | list[Path], out: Path | Store, engine: Engine, **options: Any
    ) -> Summary:  # fmt: skip
    store = LocalStore(out) if isinstance(out, Path) else out
    store.prepare("-o")
    if isinstance(given, list):
        shards = gather([str(path) for path in given], None, store)
    else:
        shards = gather([], str(given), store)
    return defend_shards(shards, store, engine, **({"fingerprint": "f"} | options))  # type: ignore[arg-type]


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {"manifest.jsonl"}


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_a_shard_keeps_its_order_and_all_else(tmp_path: Path, engine: Engine) -> None:
    path, out = shard(tmp_path / "in" / "s-000.tar", SAMPLES), tmp_path / "out"
    summary = defend(path, out, engine)
    assert (summary.total, summary.defended, summary.failed) == (2, 2, 0)
    assert files(out) == {"s-000.tar"}
    made = contents(out / "s-000.tar")
    assert [name for name, _ in made] == ["0001.png", "0001.json", "d/0002.png", "d/0002.cls"]
    assert made[1][1] == b"{}" and made[3][1] == b"7"
    assert Image.open(io.BytesIO(made[0][1])).size == (24, 16) and made[2][1] != SAMPLES[2][1]
    first, second, whole = records(out)
    assert first["input"] == f"tar://0001.jpg#0::{path.resolve()}" and first["status"] == "done"
    assert second["member"] == "d/0002.png" and second["shard"] == "s-000.tar"
    assert whole["output"] == "s-000.tar" and whole["images"] == 2
    again = defend(path, out, engine)
    assert (again.total, again.skipped, again.defended) == (2, 2, 0)
    # The same bytes whenever it is made.
    defend(path, tmp_path / "other", engine)
    assert (tmp_path / "other" / "s-000.tar").read_bytes() == (out / "s-000.tar").read_bytes()


def test_folders_patterns_and_braces_of_shards(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        shard(tmp_path / "in" / "sub" / f"s-{index:03d}.tar", [(f"{index}.png", image(index))])
    monkeypatch.chdir(tmp_path)
    assert defend("in", tmp_path / "a", engine).defended == 3
    assert files(tmp_path / "a") == {f"sub/s-00{index}.tar" for index in range(3)}
    assert defend("in/sub/s-{000..002}.tar", tmp_path / "b", engine).defended == 3
    named = gather(["in/sub/s-*.tar", "in/sub/s-{001,002}.tar"], None, LocalStore(Path("o")))
    assert [str(one.relative) for one in named] == ["s-000.tar", "s-001.tar", "s-002.tar"]
    assert expand("a{1..3}") == ["a1", "a2", "a3"] and expand("a{08..10}{x,y}")[:2] == [
        "a08x", "a08y",
    ]  # fmt: skip
    assert expand("{}.tar") == ["{}.tar"] and expand("a{2..1}") == ["a2", "a1"]
    with pytest.raises(InputError, match="more than a million"):
        expand("a{0..99999999}")
    with pytest.raises(InputError, match="no such file"):
        defend("in/sub/s-{003..004}.tar", tmp_path / "b", engine)


ODD = [
    ("../../up.png", image(0)), ("/abs.png", image(1)), ("new\nline.png", image(2)),
    ("\udcff\udcfe.png", image(3)), ("same.png", image(4)), ("same.png", image(5)),
    ("x" * 300 + ".png", image(6)), ("win\\x.png", image(7)), ("./dot.png", image(8)),
]  # fmt: skip


def test_odd_names_lead_nowhere(tmp_path: Path, engine: Engine) -> None:
    path, out = shard(tmp_path / "in" / "s.tar", ODD), tmp_path / "deep" / "er" / "out"
    before = set(tmp_path.rglob("*"))
    assert defend(path, out, engine).defended == len(ODD)
    assert set(tmp_path.rglob("*")) - before == {
        tmp_path / "deep", tmp_path / "deep" / "er", out, out / "s.tar", out / "manifest.jsonl",
    }  # fmt: skip
    made = contents(out / "s.tar")
    assert [name for name, _ in made] == [name for name, _ in ODD]
    assert len({content for _, content in made}) == len(ODD)
    assert defend(path, out, engine).skipped == len(ODD)


def test_links_and_folders_of_a_shard_stay_entries(tmp_path: Path, engine: Engine) -> None:
    path, out = tmp_path / "s.tar", tmp_path / "out"
    (tmp_path / "secret.png").write_bytes(image(9))
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (
            ("d", tarfile.DIRTYPE, ""), ("link.png", tarfile.SYMTYPE, "../secret.png"),
            ("hard.png", tarfile.LNKTYPE, "a.png"), ("pipe.png", tarfile.FIFOTYPE, ""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = len(image())
        tar.addfile(info, io.BytesIO(image()))
    assert defend(path, out, engine).defended == 1
    with tarfile.open(path) as old, tarfile.open(out / "s.tar") as new:
        assert [(one.name, one.type, one.linkname) for one in old] == [
            (one.name, one.type, one.linkname) for one in new
        ]


def test_an_entry_of_an_impossible_size_ends(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", SAMPLES)
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1]
    content = bytearray(path.read_bytes())
    header = bytearray(content[second.offset : second.offset + 512])
    header[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")  # a negative size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[second.offset : second.offset + 512] = header
    path.write_bytes(content)
    with pytest.raises(BadImage, match="damaged"):
        members_of(path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cut in a member", "truncated or damaged|unexpected end of data"),
        ("cut in a header", "truncated or damaged"),
        ("overwritten", "truncated or damaged"),
        ("empty", "is no tar file, or damaged"),
        ("text", "is no tar file, or damaged"),
        ("gzip", "is packed, and so cannot be read here and there; gunzip it"),
    ],
)
def test_damaged_shards(tmp_path: Path, engine: Engine, damage: str, words: str) -> None:
    good = shard(tmp_path / "good.tar", SAMPLES)
    path, content = tmp_path / "bad.tar", good.read_bytes()
    with tarfile.open(good) as tar:
        last = tar.getmembers()[2]
    path.write_bytes({
            "cut in a member": content[: last.offset_data + 100],
            "cut in a header": content[: last.offset + 100],
            "overwritten": content[: last.offset] + b"x" * 512 + content[last.offset + 512 :],
            "empty": b"",
            "text": b"no tar file\n" * 100,
            "gzip": gzip.compress(content),
        }[damage])  # fmt: skip
    summary = defend([good, path], tmp_path / "out", engine)
    assert (summary.defended, summary.failed) == (2, 1)
    with pytest.raises((BadImage, OSError)):
        members_of(path)
    import re

    assert re.search(words, summary.failures[0]["error"]), summary.failures
    assert files(tmp_path / "out") == {"good.tar"}


def test_a_bad_image_is_left_out_and_told_each_time(tmp_path: Path, engine: Engine) -> None:
    large = Image.new("RGB", (200, 200))
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    members = [
        *SAMPLES,
        ("0003.png", b"no image"),
        ("0003.txt", b"t"),
        ("4.png", buffer.getvalue()),
    ]
    path, out = shard(tmp_path / "s.tar", members), tmp_path / "out"
    options = {"options": DefendOptions(max_pixels=1000)}
    for defended, skipped in ((2, 0), (0, 2)):
        summary = defend(path, out, engine, **options)
        assert (summary.defended, summary.skipped, summary.failed) == (defended, skipped, 2)
        assert summary.failures[0]["input"] == f"{path.resolve()}: 0003.png"
    assert [name for name, _ in contents(out / "s.tar")] == [
        "0001.png", "0001.json", "d/0002.png", "d/0002.cls", "0003.txt",
    ]  # fmt: skip
    # Another bound lets one of them in.
    summary = defend(path, out, engine)
    assert summary.failed == 1 and len(contents(out / "s.tar")) == 6


def test_several_images_of_a_sample(tmp_path: Path, engine: Engine) -> None:
    """One may be a label, which a defence would falsify."""
    members = [("1.jpg", image(0, "JPEG")), ("1.seg.png", image(1)), ("2.jpg", image(2, "JPEG"))]
    path, out = shard(tmp_path / "s.tar", members), tmp_path / "out"
    summary = defend(path, out, engine)
    assert summary.failed == 1 and "by --members which are photographs" in str(summary.failures)
    assert defend(path, out, engine, shard_options=ShardOptions("*.jpg")).defended == 2
    made = dict(contents(out / "s.tar"))
    assert set(made) == {"1.png", "1.seg.png", "2.png"} and made["1.seg.png"] == members[1][1]
    assert defend(path, out, engine, shard_options=ShardOptions("*")).defended == 3


def test_an_interrupted_run_goes_on_in_the_middle_of_a_shard(
    tmp_path: Path, ansm: ANSM, engine: Engine
) -> None:
    class Interrupted(Engine):
        calls = 0

        def defend(self, images: Any) -> Any:
            Interrupted.calls += 1
            if Interrupted.calls == 6:
                raise KeyboardInterrupt
            return super().defend(images)

    members = [(f"{index}.png", image(index)) for index in range(4)]
    for name in ("a", "b", "c"):
        shard(tmp_path / "in" / f"{name}.tar", members)
    out = tmp_path / "out"
    options = DefendOptions(batch_size=1, readers=1, writers=1)
    summary = defend(tmp_path / "in", out, Interrupted(ansm), options=options)
    assert summary.interrupted and summary.defended >= 4
    assert {name for name in files(out) if not name.startswith(".")} == {"a.tar"}
    again = defend(tmp_path / "in", out, engine)
    assert again.skipped == summary.defended and again.defended == 12 - summary.defended
    assert files(out) == {"a.tar", "b.tar", "c.tar"}


@pytest.mark.parametrize("moment", ["packing", "recording"])
def test_a_killed_run_packs_again(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    path, out = shard(tmp_path / "s.tar", SAMPLES), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(
            "ansm_fast.inference.journal.Journal.close", lambda self, keep=False: self._file.close()
        )
        if moment == "packing":
            patch.setattr(shard_run, "repack", kill)
        else:
            patch.setattr(Manifest, "confirm", kill)
            real = Manifest.add

            def add(self: Manifest, record: dict[str, Any]) -> None:
                if "shard" in record:
                    raise Killed
                real(self, record)

            patch.setattr(Manifest, "add", add)
        with pytest.raises(Killed):
            defend(path, out, engine)
    summary = defend(path, out, engine)
    assert (summary.skipped, summary.defended) == (2, 0)
    assert files(out) == {"s.tar"} and defend(path, out, engine).skipped == 2


def test_an_output_that_is_not_ours_stays(tmp_path: Path, engine: Engine) -> None:
    path, out = shard(tmp_path / "in" / "s.tar", SAMPLES), tmp_path / "out"
    out.mkdir()
    (out / "s.tar").write_bytes(b"mine")
    assert defend(path, out, engine).defended == 2
    assert (out / "s.tar").read_bytes() == b"mine" and files(out) == {"s.tar", "s.tar.tar"}
    assert defend(path, out, engine, fingerprint="g").defended == 2
    assert files(out) == {"s.tar", "s.tar.tar"}
    (out / "s.tar.tar").write_bytes(b"changed")
    assert defend(path, out, engine).defended == 2
    assert (out / "s.tar.tar").read_bytes() == b"changed"
    # Two shards of one name.
    other = shard(tmp_path / "other" / "s.tar", [("x.png", image(9))])
    assert defend([path, other], tmp_path / "two", engine).defended == 3
    assert len(files(tmp_path / "two")) == 2


def test_a_full_disk_leaves_what_was_done(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = shard(tmp_path / "s.tar", SAMPLES), tmp_path / "out"

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard_run, "repack", full)
        summary = defend(path, out, engine)
    assert "No space left" in summary.failures[0]["error"]
    assert not (out / "s.tar").exists()
    assert defend(path, out, engine).skipped == 2 and files(out) == {"s.tar"}


def test_a_shard_that_was_replaced_is_done_anew(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = shard(tmp_path / "s.tar", SAMPLES), tmp_path / "out"
    real = shard_run.repack

    def meanwhile(*arguments: Any) -> str:
        shard(path.with_suffix(".new"), [("x.png", image(9)), ("y.txt", b"y")])
        os.replace(path.with_suffix(".new"), path)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(shard_run, "repack", meanwhile)
        summary = defend(path, out, engine)
    assert summary.failed == 1 and not (out / "s.tar").exists()
    assert defend(path, out, engine).defended == 1
    assert [name for name, _ in contents(out / "s.tar")] == ["x.png", "y.txt"]


def test_a_moved_or_touched_shard_is_known(tmp_path: Path, engine: Engine) -> None:
    path, out = shard(tmp_path / "in" / "s.tar", SAMPLES), tmp_path / "out"
    defend(path, out, engine)
    os.utime(path, (1, 1))
    assert defend(path, out, engine).skipped == 2
    moved = tmp_path / "moved" / "s.tar"
    moved.parent.mkdir()
    os.rename(path, moved)
    assert defend(moved, out, engine).skipped == 2 and files(out) == {"s.tar"}
    changed = bytearray((out / "s.tar").read_bytes())
    changed[600] ^= 1
    (out / "s.tar").write_bytes(changed)
    assert defend(moved, out, engine).skipped == 2
    assert defend(moved, out, engine, options=DefendOptions(verify=True)).defended == 2


def test_copies_masks_and_formats_in_a_shard(tmp_path: Path, ansm: ANSM) -> None:
    class Scored(Engine):
        def defend(self, images: Any) -> Any:
            results = super().defend(images)
            for one, result in zip(images, results, strict=True):
                result.attack_score = 0.9 if one.pixels[0, 0, 0] else 0.1
            return results

    attacked = np.full((16, 24, 3), 255, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(attacked).save(buffer, "PNG")
    alone = io.BytesIO()
    Image.fromarray(np.zeros_like(attacked)).save(alone, "JPEG")
    members = [("1.png", buffer.getvalue()), ("1.json", b"{}"), ("2.JPG", alone.getvalue())]
    path, out = shard(tmp_path / "s.tar", members), tmp_path / "out"
    engine = Scored(ansm, BuiltinLocalizer())
    options: dict[str, Any] = {
        "form": Form("webp", copy_below=0.5),
        "shard_options": ShardOptions(masks=True),
        "localizer_fingerprint": "l",
    }
    summary = defend(path, out, engine, **options)
    assert (summary.defended, summary.copied, summary.attacked, summary.scored) == (1, 1, 1, 2)
    made = dict(contents(out / "s.tar"))
    assert list(made) == [
        "1.webp", "1.before.png", "1.after.png", "1.json", "2.JPG", "2.before.png", "2.after.png",
    ]  # fmt: skip
    assert made["2.JPG"] == alone.getvalue()
    again = defend(path, out, engine, **options)
    assert (again.skipped, again.attacked, again.scored) == (2, 1, 2)
    assert defend(path, out, engine, form=Form("webp")).defended == 2


def test_shards_in_stores(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    from ansm_fast.inference.url_store import UrlStore

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe("/in/s.tar", shard(tmp_path / "s.tar", SAMPLES).read_bytes())
    memory.pipe("/out/s.tar", b"mine")
    assert defend("memory://in", UrlStore("memory://out"), engine).defended == 2
    assert set(memory.find("/out")) == {"/out/s.tar", "/out/s.tar.tar", "/out/manifest.jsonl"}
    assert memory.cat("/out/s.tar") == b"mine"
    assert defend("memory://in/*.tar", UrlStore("memory://out"), engine).skipped == 2
    defend(tmp_path / "s.tar", tmp_path / "out", engine)
    assert memory.cat("/out/s.tar.tar") == (tmp_path / "out" / "s.tar").read_bytes()
    assert not list((tmp_path / "state").rglob("*.tar"))
