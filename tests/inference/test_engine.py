from __future__ import annotations

import numpy as np
import pytest
import torch

from ansm_fast.errors import LocalizerError
from ansm_fast.images.photograph import Photograph
from ansm_fast.inference.engine import Engine
from ansm_fast.inference.optimize import for_inference
from ansm_fast.inference.tiling import tiles
from ansm_fast.localizers import BuiltinLocalizer
from ansm_fast.models import ANSM, load_ansm


def photograph(rng: np.random.Generator, *shape: int, dtype: type = np.uint8) -> Photograph:
    high = np.iinfo(dtype).max
    return Photograph(rng.integers(0, high, shape, dtype, endpoint=True))


def by_hand(ansm: ANSM, pixels: np.ndarray) -> np.ndarray:
    full = np.iinfo(pixels.dtype).max
    image = torch.from_numpy(pixels.astype(np.float64) / full).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        delta = ansm(image.expand(1, 3, -1, -1))
    if pixels.shape[2] == 1:
        delta = delta.mean(1, keepdim=True)
    return ((image + delta).clamp(0, 1) * full)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("shape", [(48, 64, 3), (37, 53, 3), (33, 20, 1), (1, 1, 3)])
def test_equals_the_formula(ansm: ANSM, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    image = photograph(rng, *shape)
    (result,) = Engine(ansm).defend([image])
    assert result.pixels.shape == shape and result.pixels.dtype == np.uint8
    assert np.abs(result.pixels - by_hand(ansm, image.pixels)).max() <= 0.51
    assert (result.pixels != image.pixels).any()


def test_sixteen_bits_keep_their_precision(ansm: ANSM, rng: np.random.Generator) -> None:
    image = photograph(rng, 32, 48, 3, dtype=np.uint16)
    (result,) = Engine(ansm).defend([image])
    assert result.pixels.dtype == np.uint16
    # Far finer than the 257 levels that one 8-bit level spans.
    assert np.abs(result.pixels - by_hand(ansm, image.pixels)).max() < 3
    assert len(np.unique(result.pixels % 257)) > 100


def test_batch_equals_single_images(ansm: ANSM, rng: np.random.Generator) -> None:
    batch = [photograph(rng, 40, 60, 3), photograph(rng, 48, 64, 3), photograph(rng, 41, 49, 1)]
    engine = Engine(ansm)
    for image, together in zip(batch, engine.defend(batch), strict=True):
        (alone,) = engine.defend([image])
        assert np.abs(together.pixels.astype(int) - alone.pixels).max() <= 1
        assert (together.pixels == alone.pixels).mean() > 0.999


def test_batch_must_agree_in_size(ansm: ANSM, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="agree in padded size"):
        Engine(ansm).defend([photograph(rng, 16, 16, 3), photograph(rng, 64, 16, 3)])


@pytest.mark.parametrize("shape", [(300, 333, 3), (64, 400, 1)])
def test_tiled_equals_whole_within_one_level(
    ansm: ANSM, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    image = photograph(rng, *shape)
    (whole,) = Engine(ansm, tile=1024).defend([image])
    cut = Engine(ansm, tile=96)
    assert cut.is_tiled(image)
    (tiled,) = cut.defend([image])
    assert np.abs(tiled.pixels.astype(int) - whole.pixels).max() <= 1


def test_tiles_of_the_robust_ansm_equal_the_whole(rng: np.random.Generator) -> None:
    # Its blocks of 8 x 8 and its rounding must not depend on where a tile begins.
    robust = load_ansm("robust")
    for image in (photograph(rng, 300, 333, 3), photograph(rng, 200, 210, 3, dtype=np.uint16)):
        (whole,) = Engine(robust, tile=1024).defend([image])
        (tiled,) = Engine(robust, tile=96).defend([image])
        level = np.iinfo(image.pixels.dtype).max / 255
        assert np.abs(tiled.pixels.astype(int) - whole.pixels).max() <= level
        assert (whole.pixels != image.pixels).any()


def test_too_small_a_halo_shows(ansm: ANSM, rng: np.random.Generator) -> None:
    image = photograph(rng, 300, 333, 3)
    (whole,) = Engine(ansm, tile=1024).defend([image])
    cut = Engine(ansm, tile=96)
    cut.halo = 0
    (tiled,) = cut.defend([image])
    assert np.abs(tiled.pixels.astype(int) - whole.pixels).max() > 1


def test_cores_cover_once_and_windows_lie_on_the_grid() -> None:
    covered = np.zeros((100, 230), int)
    for tile in tiles(100, 230, core=48, halo=20, stride=16):
        covered[tile.core] += 1
        assert all(side.start % 16 == 0 for side in tile.window)
        for core, window, inner, size in zip(
            tile.core, tile.window, tile.inner, covered.shape, strict=True
        ):
            assert window.start <= max(core.start - 20, 0)
            assert window.stop >= min(core.stop + 20, size)
            assert inner.stop - inner.start == core.stop - core.start
    assert (covered == 1).all()


@pytest.mark.parametrize(("core", "halo"), [(0, 8), (50, 8), (48, -1)])
def test_tiles_refuse_bad_sizes(core: int, halo: int) -> None:
    with pytest.raises(ValueError, match="must"):
        list(tiles(100, 100, core, halo, 16))


def test_optimized_network_gives_the_same(ansm: ANSM) -> None:
    image = torch.rand(2, 3, 64, 48)
    before = {name: value.clone() for name, value in ansm.state_dict().items()}
    fast = for_inference(ansm)
    torch.testing.assert_close(fast(image), ansm(image), atol=1e-5, rtol=0)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    for name, value in ansm.state_dict().items():
        assert torch.equal(value, before[name])


def test_masks_before_and_after(ansm: ANSM, rng: np.random.Generator) -> None:
    torch.manual_seed(1)
    localizer = BuiltinLocalizer().eval()
    image = photograph(rng, 50, 70, 3)
    (result,) = Engine(ansm, localizer).defend([image])
    assert result.mask_before is not None and result.mask_after is not None
    tensor = torch.from_numpy(image.pixels).permute(2, 0, 1)[None].float() / 255
    expected = localizer(tensor).sigmoid()[0, 0].detach().numpy() * 255
    assert np.abs(result.mask_before - expected).max() <= 0.6
    assert result.mask_after.shape == (50, 70)
    tiled = Engine(ansm, localizer, tile=32).mask(image.pixels)
    assert tiled.shape == (50, 70) and tiled.dtype == np.uint8


def test_engine_without_localizer_makes_no_mask(ansm: ANSM) -> None:
    with pytest.raises(ValueError, match="no localizer"):
        Engine(ansm).mask(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="multiple of 16"):
        Engine(ansm, tile=100)


def test_pixels_and_localizers_of_another_kind(ansm: ANSM, rng: np.random.Generator) -> None:
    image = photograph(rng, 16, 24, 3)
    with pytest.raises(TypeError, match=r"uint8 or uint16, got float64 \(16, 24, 3\); bring"):
        Engine(ansm).defend([Photograph(image.pixels / 255)])
    squeezed = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.Sigmoid())
    with pytest.raises(LocalizerError, match="look like probabilities"):
        Engine(ansm, squeezed).defend([image])
    with pytest.raises(LocalizerError, match=r"got \(1, 2, 16, 24\); give WrappedLocalizer"):
        Engine(ansm, torch.nn.Conv2d(3, 2, 1)).mask(image.pixels)


def test_what_is_no_ansm_and_no_photograph_is_named() -> None:
    with pytest.raises(TypeError, match="ansm must be an ANSM, got Conv2d"):
        Engine(torch.nn.Conv2d(3, 3, 1))
    engine = Engine(ANSM())
    for given, words in (
        ([np.zeros((4, 4, 3), np.uint8)], r"got one of ndarray; write Photograph\(pixels\)"),
        (torch.zeros(1, 3, 4, 4), "images must be a list of Photograph, got Tensor"),
        (Photograph(np.zeros((4, 4, 3), np.uint8)), "must be a list of Photograph, got Photograph"),
    ):
        with pytest.raises(TypeError, match=words):
            engine.defend(given)


def test_idle_streams_take_tiles_and_change_nothing(ansm: ANSM, rng: np.random.Generator) -> None:
    image, localizer = photograph(rng, 200, 230, 3), BuiltinLocalizer().eval()
    (alone,) = Engine(ansm, localizer, tile=48).defend([image])
    (helped,) = Engine(ansm, localizer, tile=48, streams=3).defend([image])
    assert np.array_equal(alone.pixels, helped.pixels)
    assert np.array_equal(alone.mask_after, helped.mask_after)


def test_a_fault_in_a_tile_is_raised_whoever_took_it(ansm: ANSM, rng: np.random.Generator) -> None:
    engine = Engine(ansm, torch.nn.Conv2d(3, 2, 1), tile=48, streams=3)
    for _ in range(3):
        with pytest.raises(LocalizerError):
            engine.defend([photograph(rng, 200, 230, 3)])
    assert engine._idle.acquire(blocking=False)  # and no stream is lost


def test_a_smaller_tile_for_one_call(ansm: ANSM, rng: np.random.Generator) -> None:
    image = photograph(rng, 100, 130, 3)
    engine = Engine(ansm, tile=256)
    (whole,), (tiled,) = engine.defend([image]), engine.defend([image], tile=48)
    assert np.abs(whole.pixels.astype(int) - tiled.pixels).max() <= 1
    with pytest.raises(ValueError, match="multiple of 16"):
        engine.defend([image], tile=50)


def test_masks_of_a_batch_equal_those_of_each(ansm: ANSM, rng: np.random.Generator) -> None:
    engine = Engine(ansm, BuiltinLocalizer().eval())
    batch = [photograph(rng, 40, 60, 3), photograph(rng, 48, 64, 3), photograph(rng, 41, 49, 1)]
    for image, found in zip(batch, engine.defend(batch), strict=True):
        assert found.mask_before is not None
        assert np.abs(found.mask_before.astype(int) - engine.mask(image.pixels)).max() <= 1
