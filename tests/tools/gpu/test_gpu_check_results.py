"""Result files and docs/gpu_results.md."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ansm_fast.ops import backends
from tools import facts, gpu_check
from tools.gpu import results, targets
from tools.gpu.correctness import FAILED, PASSED, Outcome
from tools.results import write_json

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, measure: Callable[..., Any]) -> None:
    """Backends "cuda" and "triton" that are the CPU's, called a GPU's by the script."""
    cpu = backends.Backend(("cpu", "cuda"), backends.native("cpu"))
    monkeypatch.setattr(targets, "no_gpu", lambda: None)
    for name in ("cuda", "triton"):
        monkeypatch.setitem(backends._BACKENDS, name, cpu)
    monkeypatch.setattr(backends, "_no_code_for", lambda index: None)
    # Every part in turn, but on the CPU; what is written around it asks for the device, too.
    device = {"now": torch.device("cuda", 0)}
    monkeypatch.setattr(targets, "device_of", lambda backend: device["now"])
    check = gpu_check.check

    def check_and_switch(*arguments: Any) -> list[list[Outcome]]:
        device["now"] = CPU
        found = list(check(*arguments))
        device["now"] = torch.device("cuda", 0)
        return found

    monkeypatch.setattr(gpu_check, "check", check_and_switch)
    monkeypatch.setattr(facts, "gpu", lambda: {"name": "A (pretended) GPU"})
    monkeypatch.setattr(results, "FOLDER", folder)
    monkeypatch.setattr(results.path_for, "__defaults__", (folder,))
    monkeypatch.setattr(gpu_check.suite, "measure_all", measure)


MEASURED = {
    "copy_gb_per_s": 5.0,
    "rows": [{"case": "x", "implementation": "cuda", "mode": "calls"}],
}


def test_result_files_of_a_gpu(monkeypatch, tmp_path, capsys) -> None:
    pretend(monkeypatch, tmp_path, lambda names, **_: MEASURED)
    for _ in range(2):
        assert gpu_check.main(["--quick", "--ops", "image_pack"]) == 0
    first, second = sorted(tmp_path.glob("*.json"), key=lambda path: len(path.name))
    assert re.fullmatch(r"a-pretended-gpu-\d{4}-\d\d-\d\d\.json", first.name)
    assert second.name == first.stem + "-2.json" and first.with_suffix(".csv").exists()
    content = json.loads(first.read_text())
    assert content["benchmark"] == MEASURED and content["facts"]["backends"] == ["cuda", "triton"]
    assert "--update-page" in capsys.readouterr().out


def test_a_benchmark_that_fails_fails_the_run(monkeypatch, tmp_path, capsys) -> None:
    def broken(names: Any, keep: Any, **_: Any) -> None:
        keep(MEASURED)
        raise RuntimeError("out of memory")

    pretend(monkeypatch, tmp_path, broken)
    assert gpu_check.main(["--quick", "--ops", "image_pack"]) == 1
    assert "RuntimeError: out of memory" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    assert content["finished"] and content["benchmark"] == MEASURED  # what came before is kept


def test_what_was_found_before_a_run_is_cut_off_is_kept(monkeypatch, tmp_path) -> None:
    def cut_off(names: Any, keep: Any, peers: Any, **_: Any) -> None:
        assert peers == ["eager", "liger"]
        keep(MEASURED)
        raise KeyboardInterrupt

    pretend(monkeypatch, tmp_path, cut_off)
    with pytest.raises(KeyboardInterrupt):
        gpu_check.main(["--quick", "--ops", "image_pack", "--peers", "eager", "liger"])
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    assert not content["finished"] and content["benchmark"] == MEASURED and content["checks"]
    content["facts"] |= {"torch": "2", "torch_cuda": "13", "triton": "3"}
    content["benchmark"] = None
    assert "It was cut off" in results.page_text({path.name: content})


def recorded() -> dict[str, Any]:
    row = {
        "case": "pgd_step_ 2x3", "dtype": "float32", "implementation": "cuda", "mode": "graph",
        "p20_ms": 1.0, "p50_ms": 2.0, "p80_ms": 3.0, "gb_per_s": 50.0, "share_of_copy": 0.5,
        "peak_bytes": 2**20,
    }  # fmt: skip
    copy = row | {"implementation": "copy", "p50_ms": 1.25, "share_of_copy": 0.8}
    failed = {k: row[k] for k in ("case", "dtype", "mode")} | {"implementation": "liger"}
    return {
        "date": "a day",
        "facts": {
            "gpu": {"name": "A GPU", "driver_version": "1"}, "torch": "2", "torch_cuda": "13",
            "triton": "3", "commit": "0123456789abcdef", "changed": False,
        },
        "checks": [Outcome("values", "cuda", "pgd_step_", "x", PASSED).as_json()],
        "benchmark": {"copy_gb_per_s": 100.0, "rows": [row, copy, failed | {"error": "not there"}]},
    }  # fmt: skip


def test_page_shows_what_a_file_holds() -> None:
    text = results.page_text({"a-gpu.json": recorded()})
    assert "### A GPU, a day" in text and "commit 0123456789ab." in text
    assert "| cuda | values | 1 | 0 | 0 |" in text
    assert "| case | dtype | cuda | liger | copy |" in text
    assert "| pgd_step_ 2x3 | float32 | 2 (50 %) | – | 1.25 (80 %) |" in text
    assert "Not measured: pgd_step_ 2x3 float32, liger, graph: not there." in text


def test_page_names_what_failed_once_for_each_reason() -> None:
    reason = "Unsupported: it cannot " + "at all " * 20
    ops = ("image_pack", "pgd_step_", "pgd_step_")
    found = [Outcome("compile", "cuda", op, "x", FAILED, reason).as_json() for op in ops]
    text = results.page_text({"a-gpu.json": recorded() | {"checks": found}})
    assert text.count("failed:") == 1
    assert "- failed: cuda, compile, image_pack, pgd_step_: `Unsupported: it cannot at all" in text


def test_page_is_made_of_committed_files_alone(tmp_path) -> None:
    folder, page = tmp_path / "results" / "gpu", tmp_path / "page.md"
    page.write_text("# x\n<!-- table:gpu_results -->\n<!-- /table:gpu_results -->\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "page"]):
        subprocess.run([*git, *command], check=True)
    write_json(folder / "a-gpu.json", recorded())
    results.update_page(page, tmp_path)
    assert results.NOTHING in page.read_text()
    for command in (["add", "."], ["commit", "-qm", "result"]):
        subprocess.run([*git, *command], check=True)
    write_json(folder / "a-gpu.json", recorded() | {"date": "changed since"})
    results.update_page(page, tmp_path)
    assert "### A GPU, a day" in page.read_text()


def test_unknown_peers_are_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--peers", "eager", "apex"])
    assert "choose from" in capsys.readouterr().err
