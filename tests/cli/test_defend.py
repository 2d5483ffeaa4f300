from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ansm_fast.cli.defend import command
from ansm_fast.errors import InputError
from ansm_fast.inference.engines import fastest
from ansm_fast.localizers import BuiltinLocalizer, save_localizer
from ansm_fast.models import ANSM, ansm_path, load_ansm, save_ansm


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.png"):
        Image.fromarray(rng.integers(0, 255, (32, 48, 3), np.uint8)).save(root / name)
    return root


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def refused(result: Result, words: str) -> None:
    """An InputError of one line; `main` turns it into stderr and status 2."""
    assert isinstance(result.exception, InputError), result.output
    assert words in str(result.exception) and "\n" not in str(result.exception)


def test_folder(tmp_path: Path, folder: Path, weights: Path) -> None:
    out = tmp_path / "out"
    first = run("--batch", folder, "-o", out, "--weights", weights)
    assert first.exit_code == 0 and "2 defended, 0 already done, 0 failed of 2" in first.stdout
    assert (out / "a.png").is_file() and (out / "sub" / "b.png").is_file()
    again = run("--batch", folder, "-o", out, "--weights", weights, "--json")
    summary = json.loads(again.stdout)
    assert again.exit_code == 0 and (summary["defended"], summary["skipped"]) == (0, 2)


def test_single_files_and_a_bad_one(tmp_path: Path, folder: Path, weights: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    out = tmp_path / "out"
    arguments = (folder / "a.jpg", bad, "-o", out, "--weights", weights)
    result = run(*arguments)
    assert result.exit_code == 1 and (out / "a.png").is_file()
    assert f"failed: {bad} is not a JPEG" in result.stderr
    summary = json.loads(run(*arguments, "--json").stdout)
    assert summary["failures"][0]["input"] == str(bad) and summary["skipped"] == 1


def test_masks(tmp_path: Path, folder: Path, weights: Path) -> None:
    localizer = tmp_path / "localizer.safetensors"
    save_localizer(localizer, BuiltinLocalizer())
    arguments = ("--batch", folder, "--weights", weights, "--localizer", localizer)
    assert run(*arguments, "-o", tmp_path / "o", "--masks", tmp_path / "m").exit_code == 0
    assert (tmp_path / "m" / "sub" / "b.before.png").is_file()
    assert run(*arguments, "-o", tmp_path / "p").exit_code == 0
    assert (tmp_path / "p-masks" / "a.after.png").is_file()
    refused(run(*arguments, "-o", tmp_path / "o", "--masks", tmp_path / "o"), "cannot share")
    refused(run(*arguments, "-o", tmp_path / "o", "--masks", folder), "input folder")


def test_weights_for_another_localizer_are_told(tmp_path: Path, folder: Path, ansm: ANSM) -> None:
    localizer, weights = tmp_path / "localizer.safetensors", tmp_path / "ansm.safetensors"
    own = save_localizer(localizer, BuiltinLocalizer())
    arguments = ("--batch", folder, "--weights", weights, "--localizer", localizer)
    for trained_for, warned in ((own, False), ("another", True), ([1], False)):
        save_ansm(weights, ansm, {"localizer": trained_for})
        result = run(*arguments, "-o", tmp_path / "o")
        assert result.exit_code == 0
        assert ("trained for another localizer" in result.stderr) == warned


def test_a_bundled_localizer_brings_its_ansm(tmp_path: Path, folder: Path) -> None:
    for name, weights, warned in (
        ("robust", (), False), ("builtin", (), False), ("robust", ("--weights", "tiny"), True),
    ):  # fmt: skip
        out = tmp_path / "-".join((name, *weights))
        result = run(folder / "a.jpg", "-o", out, "--localizer", name, *weights)
        assert result.exit_code == 0, result.output
        assert ("trained for another localizer" in result.stderr) == warned
        (record,) = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        expected = load_ansm(weights[1] if weights else ansm_path(None, name)).fingerprint
        assert expected in record


def test_output_inside_the_input_is_not_taken_for_input(folder: Path, weights: Path) -> None:
    for expected in ((2, 0), (0, 2)):
        result = run("--batch", folder, "-o", folder / "out", "--weights", weights, "--json")
        summary = json.loads(result.stdout)
        assert (summary["defended"], summary["skipped"]) == expected


def test_bad_input_is_one_line(tmp_path: Path, folder: Path, weights: Path) -> None:
    out = tmp_path / "out"
    refused(run("-o", out), "either FILES or --batch")
    refused(run("--batch", tmp_path / "none", "-o", out), "no such folder")
    (tmp_path / "bare").mkdir()
    refused(run("--batch", tmp_path / "bare", "-o", out), "no image in")
    refused(run("--batch", folder, "-o", folder), "is the input folder")
    refused(run(tmp_path / "none.png", "-o", out), "no such file")
    (tmp_path / "file").touch()
    refused(run("--batch", folder, "-o", tmp_path / "file", "--weights", weights), "cannot write")
    refused(run("--batch", folder, "-o", out, "--weights", weights, "--device", "no"), "device")
    assert not out.exists()


def test_bad_weights_are_one_line(tmp_path: Path, folder: Path, weights: Path) -> None:
    def defend(path: Path) -> Result:
        return run("--batch", folder, "-o", tmp_path / "out", "--weights", path)

    cut, pickled, other = (tmp_path / name for name in ("cut.st", "pickled.pt", "other.st"))
    cut.write_bytes(weights.read_bytes()[:1000])
    pickled.write_bytes(pickle.dumps({"a": 1}))
    save_localizer(other, BuiltinLocalizer())
    refused(defend(tmp_path / "none.st"), "no such checkpoint")
    refused(defend(cut), "truncated")
    refused(defend(pickled), "pickled")
    refused(defend(other), "'localizer' checkpoint")
    assert not (tmp_path / "out").exists()


def test_inputs_of_every_kind(
    tmp_path: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    out, names = tmp_path / "out", f"{folder}/a.jpg\0{folder}/sub/b.png\0"
    options = ("-o", out, "--weights", weights)
    listed = CliRunner().invoke(
        command, ["--list", "-", "-0", *map(str, options)], input=names.encode()
    )
    assert listed.exit_code == 0 and "2 defended" in listed.stdout
    assert (out / "a.png").is_file() and (out / "sub" / "b.png").is_file()
    assert "1 already done" in run(f"{folder}/*.jpg", *options).stdout
    assert "2 already done" in run("--batch", f"file://{folder}", *options).stdout
    far = run("--batch", folder, "-o", "memory://cli/out", "--weights", weights)
    assert far.exit_code == 0 and "memory://cli/out/manifest.jsonl" in far.stdout
    masked = run(folder / "a.jpg", "-o", "memory://cli/out", "--localizer", "builtin")
    assert masked.exit_code == 0, masked.output
    import fsspec

    found = set(fsspec.filesystem("memory").find("/cli"))
    assert found >= {"/cli/out/sub/b.png", "/cli/out-masks/a.after.png"}


def test_bad_names_of_inputs_and_outputs(tmp_path: Path, folder: Path, weights: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "list").write_text("none.jpg\n")
    refused(run("--batch", folder, "--list", "x", "-o", out), "either FILES or --batch DIR or")
    refused(run(folder / "a.jpg", "--list", "x", "-o", out), "either FILES or --batch DIR or")
    refused(run("--batch", folder, "-0", "-o", out), "give --list")
    refused(run("--list", tmp_path / "list", "-o", out), "is there")
    refused(run("--list", tmp_path / "no", "-o", out), "cannot read --list")
    refused(run(f"{folder}/*.gif", "-o", out), "no file matches")
    refused(run("nosuch://a", "-o", out), "unknown scheme")
    refused(run(folder / "a.jpg", "-o", "nosuch://a"), "unknown scheme")
    refused(run(folder / "a.jpg", "-o", "zip://a::b.zip"), "is read here and not written to")
    arguments = (folder / "a.jpg", "-o", out, "--weights", weights)
    refused(run(*arguments, "--only-attacked"), "gives no attack score")
    assert run(*arguments, "--format", "gif").exit_code == 2
    assert not out.exists()


def test_formats_and_copies(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--batch", folder, "-o", out, "--weights", "robust")
    assert run(*arguments, "--format", "webp", "--compression", "small").exit_code == 0
    assert (out / "a.webp").is_file() and (out / "sub" / "b.webp").is_file()
    # Of every score that there is, less than 1.
    result = run(*arguments, "--only-attacked", "--attacked-threshold", "1")
    assert result.exit_code == 0 and "0 defended, 2 copied, 0 already done" in result.stdout
    assert (out / "a.jpg").read_bytes() == (folder / "a.jpg").read_bytes()


def test_shards(tmp_path: Path, folder: Path, weights: Path) -> None:
    out = tmp_path / "out"
    with tarfile.open(tmp_path / "s-0.tar", "w") as tar:
        tar.add(folder / "a.jpg", "a.jpg")
        tar.add(weights, "a.json")
    path = tmp_path / "s-{0..0}.tar"
    result = run("--batch", path, "-o", out, "--weights", weights)
    assert result.exit_code == 0 and "1 defended" in result.stdout
    assert "1 already done" in run(path, "-o", out, "--weights", weights).stdout
    masked = run(path, "-o", tmp_path / "m", "--localizer", "builtin", "--members", "*.jpg")
    assert masked.exit_code == 0, masked.output
    with tarfile.open(tmp_path / "m" / "s-0.tar") as tar:
        assert tar.getnames() == ["a.png", "a.before.png", "a.after.png", "a.json"]
    refused(run(path, folder / "a.jpg", "-o", out), "a tar file among images")
    refused(run(path, "-o", out, "--masks", tmp_path / "x"), "give --localizer alone")
    refused(run(folder / "a.jpg", "-o", out, "--members", "*"), "is for tar files")


def test_what_is_left_out_is_said(
    tmp_path: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansm_fast.images import walk

    (folder / ".hidden.png").write_bytes((folder / "sub" / "b.png").read_bytes())
    (folder / "photo.dat").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "link").symlink_to(folder / "sub")
    arguments = ("--batch", folder, "-o", tmp_path / "out", "--weights", weights)
    result = run(*arguments)
    lines = [line for line in result.stdout.splitlines() if line.startswith("left out: ")]
    assert result.exit_code == 0 and len(lines) == 3
    assert any("link (a linked folder; --follow-links" in line for line in lines)
    summary = json.loads(run(*arguments, "--json").stdout)
    assert (summary["total"], summary["skipped"]) == (2, 2)
    assert {one["count"] for one in summary["left_out"]} == {1} and len(summary["left_out"]) == 3
    real = walk.os.scandir

    def scandir(path: object) -> object:
        if path == folder / "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(walk.os, "scandir", scandir)
    assert run(*arguments).exit_code == 1  # there may be images that nobody saw


def test_a_name_that_the_output_cannot_encode(
    tmp_path: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stdout of another encoding JSON stays JSON."""
    import io
    import sys

    name = "日本é\u2028.png"
    (folder / "a.jpg").rename(folder / name)
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="cp1252", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", out)
    arguments = ("--batch", folder, "-o", tmp_path / "out", "--weights", weights, "--json")
    (folder / "bad日.png").write_bytes(b"")
    with pytest.raises(SystemExit) as left:
        command.main([str(one) for one in arguments], standalone_mode=False)
    out.flush()
    assert left.value.code == 1 and len(raw.getvalue().splitlines()) == 1
    summary = json.loads(raw.getvalue().decode("cp1252"))
    assert summary["failures"][0]["input"].endswith("bad日.png")


def test_a_terminal_that_is_gone_ends_no_run(
    tmp_path: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansm_fast.progress import Progress

    class Gone:
        def print(self, *_text: object, **_options: object) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Progress, "console", Gone(), raising=False)
    monkeypatch.setattr(Progress, "__init__", lambda self, *a, **b: None)
    monkeypatch.setattr(Progress, "start", lambda self, *a, **b: None)
    monkeypatch.setattr(Progress, "__enter__", lambda self: self)
    monkeypatch.setattr(Progress, "__exit__", lambda self, *a: None)
    monkeypatch.setattr(Progress, "advance", lambda self: Gone().print())
    (folder / "bad.png").write_bytes(b"")
    result = run("--batch", folder, "-o", tmp_path / "out", "--weights", weights)
    assert result.exit_code == 1 and "2 defended" in result.stdout


def test_of_many_images_the_fastest_engine_is_found_by_trying(
    tmp_path: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def measured(ansm: ANSM, names: list[str], streams: int) -> dict[str, float]:
        tried.append(names)
        return {"eager": 2.0, "compile": 1.0}

    monkeypatch.setattr(fastest, "candidates", lambda: ["eager", "compile"])
    monkeypatch.setattr(fastest, "measured", measured)
    few = run("--batch", folder, "-o", tmp_path / "few", "--weights", weights)
    assert "images/s, eager)" in few.stdout and not tried
    monkeypatch.setattr(fastest, "WORTHWHILE", 2)
    many = run("--batch", folder, "-o", tmp_path / "many", "--weights", weights, "--json")
    assert tried == [["eager", "compile"]] and json.loads(many.stdout)["engine"] == "eager"
    assert "engine eager; megapixels/s of a short trial: eager 2.0, compile 1.0" in many.stderr
    again = run("--batch", folder, "-o", tmp_path / "many", "--weights", weights)
    assert "2 already done" in again.stdout and len(tried) == 1
    named = ("-o", tmp_path / "named", "--weights", weights, "--engine", "eager")
    assert run("--batch", folder, *named).exit_code == 0 and len(tried) == 1


def test_what_another_precision_made_is_made_again(
    tmp_path: Path, folder: Path, weights: Path
) -> None:
    arguments = ("--batch", folder, "-o", tmp_path / "out", "--weights", weights)
    reduced = run(*arguments, "--precision", "bf16")
    assert reduced.exit_code == 0 and "2 defended" in reduced.stdout
    assert "2 already done" in run(*arguments, "--precision", "bf16").stdout
    assert "2 defended" in run(*arguments).stdout
    wrong = run(*arguments, "--precision", "fp8")
    assert isinstance(wrong.exception, InputError)
    assert "precision must be one of fp32, bf16, fp16" in str(wrong.exception)
