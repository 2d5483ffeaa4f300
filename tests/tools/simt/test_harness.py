"""The harness itself: every kind of mistake is found, and correct kernels are left alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools.simt import harness
from tools.simt.examples import Examples, N

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen() -> Examples:
    return Examples("seen")


@pytest.fixture(scope="module")
def plain() -> Examples:
    return Examples("plain")


def block_wise(function):
    return lambda x: np.concatenate([function(row) for row in x.reshape(-1, 256)])


CORRECT = {
    "copy": lambda x: x,
    "copy in vectors": lambda x: x,
    "reverse": block_wise(lambda row: row[::-1]),
    "rotate": block_wise(lambda row: np.roll(row, -3)),
    "swap in warp": lambda x: x.reshape(-1, 2)[:, ::-1].reshape(-1),
    "bytes": lambda x: block_wise(lambda row: row[::-1])(x.view(np.uint8)[:N]),
}


@pytest.mark.parametrize("variant", ["plain", "seen"])
@pytest.mark.parametrize("schedule", harness.SCHEDULES)
@pytest.mark.parametrize("name", [*CORRECT, "sums", "last block"])
def test_correct_kernels(name, schedule, variant, request):
    examples = request.getfixturevalue(variant)
    given, out, room, error = examples.run(name, schedule)
    assert error == "" and harness.findings(examples.library.report()) == []
    if name == "sums":
        np.testing.assert_allclose(out[:4], given.reshape(4, 256).sum(1), atol=1e-4)
    elif name == "last block":
        np.testing.assert_allclose(out[0], given.sum(), atol=1e-4)
        assert room.view(np.uint32)[0] == 0
    else:
        truth = CORRECT[name](given)
        np.testing.assert_array_equal(out.view(truth.dtype)[: truth.size], truth)


@pytest.mark.parametrize("schedule", harness.SCHEDULES)
@pytest.mark.parametrize(
    ("name", "message", "counter"),
    [
        ("reverse without barrier", "race on shared array room", "races"),
        ("rotate without barrier", "race on shared array room", "races"),
        ("swap in warp without order", "race on shared array room", "races"),
        ("one word of all blocks", r"race on buffer 1\[0\]", "races"),
        ("one word of two warps", r"race on buffer 1\[0\]", "races"),
        ("one word of two lanes", r"race on buffer 1\[0\]", "races"),
        ("shift in place", "race on buffer 1", "races"),
        ("last block without fence", "race on buffer 2", "races"),
        ("half initialized", "uninitialized shared array room", "uninitialized"),
        ("load beyond", "load of 4 bytes .* 0 bytes after the end of buffer", "out_of_range"),
        ("store beyond", "store of 4 bytes .* 0 bytes after the end of buffer", "out_of_range"),
        ("load before", "out of range: load of 4 bytes by thread .0,0,0.", "out_of_range"),
        ("unknown memory", "out of range: load of 4 bytes", "out_of_range"),
        ("shared load beyond", "load .* 0 bytes after the end of the shared", "out_of_range"),
        ("shared store beyond", "store .* 0 bytes after the end of the shared", "out_of_range"),
        ("shared store before", "store .* 4 bytes before the start of the", "out_of_range"),
        ("misaligned", "misaligned load of 16 bytes .* 4 bytes off", "misaligned"),
    ],
)
def test_mistakes_in_memory(seen, name, message, counter, schedule):
    error = seen.run(name, schedule)[3]
    launch = seen.launch()
    assert error
    assert launch[counter] > 0
    found = "\n".join(launch["findings"])
    assert re.search(message, found), found
    assert found.count("examples/kernels.cuh:") >= len(launch["findings"])  # where in the source


@pytest.mark.parametrize("variant", ["plain", "seen"])
@pytest.mark.parametrize("schedule", harness.SCHEDULES)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("early exit", "barrier divergence"),
        ("two barriers", "barrier divergence"),
        ("exited lane", "exited lane"),
        ("disagreeing masks", "disagreeing masks|wrong mask"),
        ("other intrinsics", "different intrinsics"),
        ("too much shared memory", "more than 48 KiB of shared memory with room"),
    ],
)
def test_mistakes_in_waiting(name, message, schedule, variant, request):
    error = request.getfixturevalue(variant).run(name, schedule)[3]
    assert re.search(message, error), error
    if "shared" not in message:
        assert "thread (" in error and "block (" in error and "kernels.cuh:" in error


@pytest.mark.parametrize("name", ["empty grid", "huge grid", "huge block"])
def test_impossible_launches(plain, name):
    assert "simt: " in plain.run(name)[3]


def test_a_missing_barrier_shows_in_results(plain):
    """Without any watching, under the schedules in which warps run ahead."""
    truth = CORRECT["rotate"](plain.run("rotate")[0])
    wrong = [
        s for s in harness.SCHEDULES if (plain.run("rotate without barrier", s)[1] != truth).any()
    ]
    assert {"lifo", "rev"} & set(wrong)


def test_traffic(seen):
    seen.run("copy")
    launch = seen.launch()
    for direction in ("read", "written"):
        assert launch[direction] == {
            "bytes": 4 * N,
            "sectors": N // 8,
            "accesses": N // 32,
            "access_sectors": N // 8,
            "ideal_sectors": N // 8,
            "unaligned": 0,
        }
    assert launch["kernel"] == "copy<1>" and launch["instance"].startswith("void examples::copy<1>")
    assert launch["grid"] == [4, 1, 1] and launch["block"] == [256, 1, 1]
    assert [b["bytes_written"] for b in launch["buffers"]] == [0, 4 * N]


def test_a_vector_is_one_access(seen):
    seen.run("copy in vectors")
    launch = seen.launch()
    for direction in ("read", "written"):
        assert launch[direction]["bytes"] == 4 * N
        assert launch[direction]["accesses"] == N // 4 // 32
        assert launch[direction]["access_sectors"] == launch[direction]["ideal_sectors"] == N // 8


def test_a_stride_costs_sectors(seen):
    seen.run("strided")
    launch = seen.launch()
    assert launch["read"]["access_sectors"] == 4 * launch["read"]["ideal_sectors"] == N // 8
    assert launch["written"]["access_sectors"] == launch["written"]["ideal_sectors"] == N // 32


@pytest.mark.parametrize("schedule", harness.SCHEDULES)
def test_intrinsics(plain, schedule):
    given, out, _, error = plain.run("intrinsics", schedule, n=256, out_size=2560)
    assert error == ""
    lane = np.arange(256) % 32
    warp = np.arange(256) - lane
    value = lambda source: given[warp + source]  # noqa: E731
    positive = (given > 0).reshape(-1, 4)
    truth = [
        value(np.full(256, 5)),
        value(lane // 8 * 8 + 3),
        value(lane ^ 4),
        value(np.where(lane + 3 < 32, lane + 3, lane)),
        value(np.where(lane % 16 >= 2, lane - 2, lane)),
        value(lane ^ 2),
        np.repeat((given > 0).reshape(-1, 32)[:, :16] @ 2.0 ** np.arange(16), 32),
        np.repeat(positive @ 2.0 ** np.arange(4), 4),
        np.repeat(positive.any(1), 4),
        np.repeat(positive.all(1), 4),
    ]
    np.testing.assert_array_equal(out.reshape(10, 256), np.array(truth, np.float32))


def test_half_conversions(plain):
    n = 65536
    given, widened, narrowed, error = plain.run("halves", n=n, out_size=n)
    assert error == ""
    np.testing.assert_array_equal(widened, np.arange(n, dtype=np.uint16).view(np.float16))
    np.testing.assert_array_equal(narrowed.view(np.float16)[:n], given.astype(np.float16))


def test_schedules_are_checked(plain):
    with pytest.raises(ValueError, match="no schedule is called 'fastest'"):
        plain.library.set_schedule("fastest")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*CORRECT, "sums", "last block"], "clean"),
        (["shared load beyond"], "use-after-poison"),
        (["shared store beyond"], "use-after-poison"),
        (["misaligned"], "misaligned address"),
    ],
)
def test_sanitizers(names, message):
    result = subprocess.run(
        [sys.executable, "-m", "tools.simt.examples", "address", *names],
        cwd=ROOT,
        env=harness.address_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert message in result.stdout + result.stderr, result.stderr
    assert (result.returncode == 0) == (message == "clean")
