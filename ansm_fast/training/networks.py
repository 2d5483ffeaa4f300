"""The network that a training begins with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from ansm_fast.errors import InputError
from ansm_fast.localizers import BUNDLED_LOCALIZERS, BuiltinLocalizer, load_localizer
from ansm_fast.models import ANSM, ANSMConfig, BaseANSM, TwoViewANSM, ansm_path, load_ansm
from ansm_fast.models.two_view import TwoViewConfig
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.stages import AuxiliaryMaskHead

# An ANSM, and the head that a single-view one has while it is trained.
Network = tuple[BaseANSM, AuxiliaryMaskHead | None]


def make_network(run: ANSMRun, localizer: nn.Module) -> Network:
    """Make the ANSM of a configuration, begun as it says.

    Raises:
        InputError: `initial` is no checkpoint, or one of another configuration.
    """
    ansm: ANSM | TwoViewANSM
    head: AuxiliaryMaskHead | None = None
    if run.architecture == "two_view":
        ansm = TwoViewANSM(
            TwoViewConfig(
                run.variant,
                run.eps_d / 255,
                run.jpeg_quality,
                run.jpeg_blur,
                run.attacked_map,
                run.shut_below,
            )
        )
        if run.warm_start and run.initial is None:
            warm_start_two_views(ansm)
    else:
        ansm = ANSM(
            ANSMConfig(run.variant, run.eps_d / 255, run.detail, run.jpeg_quality, run.jpeg_blur)
        )
        head = AuxiliaryMaskHead()
        if run.warm_start:
            warm_start(ansm, head, localizer)
    if run.initial is not None:
        begin_from(ansm, initial_path(run), str(localizer.fingerprint))
        if isinstance(ansm, TwoViewANSM):
            ansm.detector.shift_attacked(-run.attacked_shift)
    return ansm.to(memory_format=torch.channels_last), head  # type: ignore[call-overload]


def warm_start(ansm: ANSM, head: AuxiliaryMaskHead, localizer: nn.Module) -> None:
    """Begin from the localizer's body, which already sees the traces that attacks hide.

    A localizer without such a body leaves the ANSM as it is.
    """
    if not isinstance(localizer, BuiltinLocalizer):
        return
    own = ansm.body.state_dict()
    fitting = {
        name: value
        for name, value in localizer.body.state_dict().items()
        if name in own and own[name].shape == value.shape
    }
    ansm.body.load_state_dict(own | fitting)
    if len(fitting) == len(own):
        head.classifier.load_state_dict(localizer.classifier.state_dict())


def warm_start_two_views(ansm: TwoViewANSM) -> None:
    """Begin both bodies as that of the bundled localizer of their widths: in size base `robust`,
    which finds traces in images as they are and behind compression, in size tiny `builtin`, which
    finds them in the former; in any other size, from nothing."""
    detector = ansm.detector
    pairs = [(detector.body, detector.classifier)]
    if detector.has_second_view:
        pairs.append((detector.compressed_body, detector.compressed_classifier))
    for name in BUNDLED_LOCALIZERS:
        found = load_localizer(name)
        assert isinstance(found, BuiltinLocalizer)
        other = found.body.state_dict()
        if any(
            detector.body.state_dict()[key].shape != value.shape for key, value in other.items()
        ):
            continue
        for body, classifier in pairs:
            body.load_state_dict(other)
            classifier.load_state_dict(found.classifier.state_dict())
        return


def initial_path(run: ANSMRun) -> Path:
    """Find the checkpoint that `initial` names: "bundled" is the one in the package."""
    if str(run.initial) == "bundled":
        return ansm_path("two_view" if run.architecture == "two_view" else None)
    assert run.initial is not None
    return run.initial


def _described(config: ANSMConfig | TwoViewConfig) -> str:
    """In the words and units of a training configuration."""
    fields = asdict(config) | {"eps_d": config.eps_d * 255}
    architecture = "two_view" if isinstance(config, TwoViewConfig) else "single_view"
    shown = (
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
    )
    return f"architecture {architecture}, {', '.join(shown)}"


def begin_from(ansm: ANSM | TwoViewANSM, path: Path, localizer: str = "") -> None:
    """Go on from a trained ANSM.

    The auxiliary head, which no checkpoint holds, begins anew; of two views the writer too, where
    it was trained for another localizer than the one of this fingerprint.

    Raises:
        InputError: no such checkpoint, or one of another configuration.
    """
    initial = load_ansm(path)
    if isinstance(ansm, TwoViewANSM) and isinstance(initial, TwoViewANSM):
        found, wanted = (
            replace(one.config, eps_d=1.0, attacked_map=True, shut_below=0.0)
            for one in (initial, ansm)
        )
        if found != wanted:
            raise InputError(
                f"initial: {path} has {_described(initial.config)}, the config says "
                f"{_described(ansm.config)}; change one"
            )
        ansm.detector.load_state_dict(initial.detector.state_dict())
        if initial.trained_for == localizer:
            ansm.writer.load_state_dict(initial.writer.state_dict())
        return
    if initial.config != ansm.config:
        raise InputError(
            f"initial: {path} has {_described(initial.config)}, the config says "
            f"{_described(ansm.config)}; change one"
        )
    ansm.load_state_dict(initial.state_dict())
