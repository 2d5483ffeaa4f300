from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ansm_fast.errors import InputError
from ansm_fast.localizers import (
    BUNDLED_LOCALIZERS,
    BuiltinLocalizer,
    load_localizer,
    save_localizer,
)
from ansm_fast.models import ANSM, ANSMConfig, TwoViewANSM, ansm_path, load_ansm, save_ansm
from ansm_fast.models.bundled import BUNDLED_ANSMS, TRAINED_FOR
from ansm_fast.models.checkpoint import bundled, load_checkpoint, save_checkpoint


def trained(
    variant: str = "tiny", detail: int = 0, jpeg_quality: int = 0, jpeg_blur: float = 0.0
) -> ANSM:
    """Weights that use the whole range of the perturbation."""
    torch.manual_seed(0)
    ansm = ANSM(ANSMConfig(variant, 8 / 255, detail, jpeg_quality, jpeg_blur))
    torch.nn.init.normal_(ansm.head.weight, std=1.0)
    return ansm.eval()


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (17, 64), (33, 50)])
@pytest.mark.parametrize(("variant", "detail"), [("tiny", 0), ("tiny", 32), ("tiny", 8)])
def test_any_size_and_a_bounded_output(size, variant, detail) -> None:
    ansm, image = trained(variant, detail), torch.rand(2, 3, *size)
    with torch.no_grad():
        perturbation, defended = ansm(image), ansm.defend(image)
    assert perturbation.shape == image.shape == defended.shape
    assert perturbation.abs().max() <= ansm.eps_d
    assert defended.min() >= 0 and defended.max() <= 1
    torch.testing.assert_close(defended, (image + perturbation).clamp(0, 1))


def test_an_untrained_module_changes_nothing() -> None:
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(ANSM().eval().defend(image), image)


def test_the_head_sees_pixels_that_the_features_do_not_carry() -> None:
    """With its features silenced, a head with detail still follows the image; the other cannot."""
    image = torch.rand(1, 3, 32, 32)
    for detail in (0, 32):
        ansm = trained(detail=detail)
        with torch.no_grad():
            for parameter in ansm.body.parameters():
                parameter.zero_()
            noise = ansm(image)
        assert (noise.flatten(2).std(2) > 1e-4).any() == bool(detail)


@pytest.mark.parametrize(
    ("detail", "jpeg_quality", "jpeg_blur"),
    [(0, 0, 0), (32, 0, 0), (0, 75, 0), (8, 75, 0), (0, 80, 0.1)],
)
def test_nothing_beyond_the_receptive_field_matters(detail, jpeg_quality, jpeg_blur) -> None:
    """What the tiles of the defence rely on."""
    ansm = trained("tiny", detail, jpeg_quality, jpeg_blur)
    image = torch.rand(1, 3, 256, 384)
    changed = image.clone()
    changed[..., 0:16] = 1 - changed[..., 0:16]
    with torch.no_grad():
        before, after = ansm(image), ansm(changed)
    beyond = 16 + ansm.receptive_field
    assert torch.equal(before[..., beyond:], after[..., beyond:])
    assert not torch.equal(before[..., :16], after[..., :16])


def test_shifting_by_the_stride_shifts_the_output() -> None:
    ansm, image = trained(), torch.rand(1, 3, 256, 256)
    shifted = image.roll(ansm.stride, -1)
    inside = slice(ansm.receptive_field + ansm.stride, -ansm.receptive_field)
    with torch.no_grad():
        one, other = ansm(image).roll(ansm.stride, -1), ansm(shifted)
    torch.testing.assert_close(
        one[..., inside, inside], other[..., inside, inside], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("detail", [0, 32])
def test_gradients_reach_every_weight(detail) -> None:
    ansm = trained(detail=detail).train()
    ansm.defend(torch.rand(2, 3, 32, 32) * 0.8 + 0.1).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in ansm.parameters())


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (torch.rand(1, 1, 8, 8), ValueError),
        (torch.rand(3, 8, 8), ValueError),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError),
    ],
)
def test_bad_images(image, kind) -> None:
    with pytest.raises(kind, match="image"):
        ANSM()(image)


def test_bad_configurations() -> None:
    for arguments in ({"variant": "huge"}, {"eps_d": 0.0}, {"eps_d": 2.0}, {"detail": -1}):
        with pytest.raises(ValueError, match="must be"):
            ANSMConfig(**arguments)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    ansm = trained("tiny", 8)
    mark = save_ansm(tmp_path / "a.safetensors", ansm, {"config": {"seed": 3}})
    loaded = load_ansm(tmp_path / "a.safetensors")
    assert loaded.config == ansm.config and loaded.fingerprint == mark and not loaded.training
    image = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(loaded(image), ansm(image))
    _, _, metadata = load_checkpoint(tmp_path / "a.safetensors", "ansm")
    assert '"seed": 3' in metadata["provenance"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_a_checkpoint_where_they_may_read_files(tmp_path: Path) -> None:
    path, plain = tmp_path / "ansm.safetensors", tmp_path / "plain"
    save_ansm(path, ANSM())
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    ansm = trained()
    one = save_ansm(tmp_path / "a.safetensors", ansm)
    ansm.head.bias.data[0] += 1e-6
    assert save_ansm(tmp_path / "b.safetensors", ansm) != one


def test_files_that_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_ansm(good, trained())
    content = good.read_bytes()
    altered = bytearray(content)
    altered[-1] ^= 1
    cases = {
        "truncated": (content[: len(content) // 2], "truncated"),
        "empty": (b"", "truncated"),
        "pickled": (pickle.dumps({"weights": 1}), "pickled"),
        "zipped": (b"PK\x03\x04rest", "pickled"),
        "altered": (bytes(altered), "altered"),
        "text": (b"this is no checkpoint at all", "truncated or no safetensors"),
    }
    for name, (data, words) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            load_ansm(path)
        assert words in str(caught.value), name
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    torch.save({"weights": torch.ones(2)}, tmp_path / "torch.pt")
    with pytest.raises(InputError, match="pickled"):
        load_ansm(tmp_path / "torch.pt")
    with pytest.raises(InputError, match="no such checkpoint"):
        load_ansm(tmp_path / "missing.safetensors")


def test_no_length_of_the_header_is_taken_for_a_pickle(tmp_path: Path) -> None:
    """A file begins with that length, and a pickle with the byte 0x80."""
    path, starts = tmp_path / "a.safetensors", set()
    for length in range(256):
        save_checkpoint(path, "ansm", {}, {"w": torch.zeros(1)}, {"note": "x" * length})
        starts.add(path.read_bytes()[0])
        assert load_checkpoint(path, "ansm")[1]["w"] == 0
    assert 0x80 in starts


@pytest.mark.parametrize("config", ["[1]", '"tiny"', "null", "7", "{", "[" * 100_000])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, config: str) -> None:
    path = tmp_path / "ansm.safetensors"
    metadata = {"format": "ansm_fast/1", "kind": "ansm", "config": config, "fingerprint": "0"}
    save_file({"weight": torch.zeros(1)}, path, metadata)
    with pytest.raises(InputError, match=r"no readable configuration; train it again"):
        load_ansm(path)


def test_a_gate_of_the_earlier_form_is_refused(tmp_path: Path) -> None:
    """Its tensors fit, and would do something else."""
    path, ansm = tmp_path / "ansm.safetensors", ANSM(ANSMConfig(jpeg_quality=75))
    save_ansm(path, ansm)
    assert load_ansm(path).config.jpeg_quality == 75
    config, state, _ = load_checkpoint(path, "ansm")
    del config["jpeg_blur"]
    save_checkpoint(path, "ansm", config, state)
    with pytest.raises(InputError, match=r"earlier form of the gate.*train it again"):
        load_ansm(path)
    save_checkpoint(path, "ansm", {"variant": "tiny"}, ANSM().state_dict())
    assert load_ansm(path).config == ANSMConfig()


def test_kinds_are_not_confused(tmp_path: Path) -> None:
    save_localizer(tmp_path / "l.safetensors", BuiltinLocalizer())
    with pytest.raises(InputError, match="holds a 'localizer' checkpoint, but 'ansm' is needed"):
        load_ansm(tmp_path / "l.safetensors")
    save_ansm(tmp_path / "a.safetensors", trained())
    with pytest.raises(InputError, match="holds a 'ansm' checkpoint, but 'localizer' is needed"):
        load_localizer(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", BUNDLED_LOCALIZERS)
def test_every_bundled_localizer_has_its_ansm(name) -> None:
    ansm = load_ansm(ansm_path(None, name))
    assert ansm.trained_for == load_localizer(name).fingerprint
    assert ansm.fingerprint == load_ansm(TRAINED_FOR[name]).fingerprint


@pytest.mark.parametrize("name", [*BUNDLED_ANSMS.values(), *BUNDLED_LOCALIZERS.values()])
def test_bundled_weights_name_no_path_of_the_machine_that_trained_them(name) -> None:
    with safe_open(bundled(name), "pt") as opened:
        record = opened.metadata()["provenance"]
    assert json.loads(record) and '"/' not in record and ":\\\\" not in record


def test_bundled_names_and_files() -> None:
    assert load_ansm().fingerprint == load_ansm("robust").fingerprint
    assert set(TRAINED_FOR) == set(BUNDLED_LOCALIZERS)
    assert set(TRAINED_FOR.values()) < set(BUNDLED_ANSMS)
    two_view = load_ansm("two_view")
    assert isinstance(two_view, TwoViewANSM)
    assert two_view.trained_for == load_localizer("builtin").fingerprint
    assert 0 < two_view.attack_threshold < 1
    assert ansm_path("bundled", "robust") == ansm_path("robust") == ansm_path(None, "robust")
    assert ansm_path(None, "builtin") == ansm_path("two_view") != ansm_path()
    assert ansm_path(None, "mine.safetensors") == ansm_path() == ansm_path("robust")
    assert ansm_path("mine.safetensors", "robust") == Path("mine.safetensors")


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({"localizer": "0123"}, "0123"),
        ({"localizer": ["0123"]}, ""),
        ({}, ""),
    ],
)
def test_what_an_ansm_was_trained_for(tmp_path: Path, provenance, expected) -> None:
    save_ansm(tmp_path / "a.safetensors", trained(), provenance)
    assert load_ansm(tmp_path / "a.safetensors").trained_for == expected


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("ansm", {"variant": "tiny", "detail": 10**10}),
        ("ansm", {"variant": "tiny", "detail": 2.5}),
        ("ansm", {"variant": "tiny", "detail": True}),
        ("localizer", {"widths": [10**7] * 4}),
        ("localizer", {"widths": [-1, 8, 8, 8]}),
        ("localizer", {"widths": [8, 8, 8]}),
        ("localizer", {"widths": "abcd"}),
        ("localizer", {"architecture": "segformer", "depths": [10**9, 1, 1, 1]}),
        ("localizer", {"architecture": "segformer", "decoder_width": 10**9}),
        ("localizer", {"architecture": "rgb", "dilated_blocks": 10**9}),
    ],
)
def test_sizes_that_no_network_has_ask_for_no_memory(tmp_path: Path, kind, config) -> None:
    path = tmp_path / "hostile.safetensors"
    save_checkpoint(path, kind, config, {"weight": torch.zeros(1)})
    with pytest.raises(InputError, match=r"unknown configuration: .* whole number"):
        (load_ansm if kind == "ansm" else load_localizer)(path)


def test_what_is_no_ansm_and_no_configuration_is_named(tmp_path) -> None:
    path = tmp_path / "ansm.safetensors"
    for call, words in (
        (lambda: save_ansm(path, BuiltinLocalizer()), "writes an ANSM, got BuiltinLocalizer"),
        (lambda: save_ansm(trained(), str(path)), r"save_ansm\(path, ansm\) .*got str"),
        (lambda: ANSM("tiny"), "config must be an ANSMConfig, got str"),
        (lambda: ANSM({"variant": "tiny"}), "config must be an ANSMConfig, got dict"),
        (lambda: ANSMConfig(eps_d="8/255"), "eps_d must be a number, got str"),
    ):
        with pytest.raises(TypeError, match=words):
            call()
    with pytest.raises(ValueError, match=r"jpeg_blur must be in .*got '0.1'"):
        ANSMConfig(jpeg_blur="0.1")
    assert not path.exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_dtype_compress_as_float32(dtype) -> None:
    ansm, image = trained(jpeg_quality=75, jpeg_blur=0.05), torch.rand(1, 3, 16, 16)
    image = (image * 255).round() / 255
    with torch.no_grad():
        expected = ansm.jpeg(image)
        found = ansm.to(dtype).defend(image)
        assert torch.equal(ansm.jpeg(image), expected)
    assert found.dtype == torch.float32 and (found - image).abs().max() <= 8 / 255 + 1e-6
    assert ansm.float().jpeg.cosines.dtype == torch.float32


def test_a_device_without_autocast_has_shapes() -> None:
    ansm = trained(jpeg_quality=75).to("meta")
    assert ansm.defend(torch.empty(1, 3, 20, 16, device="meta")).shape == (1, 3, 20, 16)
