"""Training of an ANSM for a frozen localizer: stage 1 FFA, stage 2 MgR (arXiv 2506.12871)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ansm_fast.errors import InputError
from ansm_fast.images.photograph import Image
from ansm_fast.images.tensors import mask_to_tensor, to_tensor
from ansm_fast.localizers import BuiltinLocalizer, load_localizer
from ansm_fast.localizers.tap_candidates import candidate_taps
from ansm_fast.models import (
    ANSM,
    ANSMConfig,
    BaseANSM,
    TwoViewANSM,
    ansm_path,
    load_ansm,
    save_ansm,
)
from ansm_fast.models.checkpoint import lineage
from ansm_fast.models.two_view import TwoViewConfig
from ansm_fast.training.attack_cache import (
    AttackCache,
    build_attack_cache,
    check_attack_cache,
    load_attack_cache,
)
from ansm_fast.training.batches import MemorySet, crop_window, flip, step_rng
from ansm_fast.training.config import ANSMRun
from ansm_fast.training.loop import Loop, Task
from ansm_fast.training.online import spread
from ansm_fast.training.processes import check_batch_sizes, make_accelerator, network_autocast
from ansm_fast.training.renewal import Renewal
from ansm_fast.training.resume import check_same_run
from ansm_fast.training.sampling import AttackSampler
from ansm_fast.training.stages import AuxiliaryMaskHead, FrozenLocalizer, TwoStageLoss, stage_rate
from ansm_fast.training.state import disk_errors
from ansm_fast.training.transplant import transplant
from ansm_fast.training.two_view_batches import TwoViewBatches
from ansm_fast.training.two_view_loss import TwoViewLoss
from ansm_fast.training.validation import ANSMValidation, restored_score

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    """Begin both bodies as that of the bundled localizer `robust`, which finds traces in images as
    they are and behind compression; in a size of other widths, from nothing."""
    found = load_localizer("robust")
    assert isinstance(found, BuiltinLocalizer)
    detector = ansm.detector
    pairs = [(detector.body, detector.classifier)]
    if detector.has_second_view:
        pairs.append((detector.compressed_body, detector.compressed_classifier))
    for body, classifier in pairs:
        own, other = body.state_dict(), found.body.state_dict()
        if all(own[name].shape == value.shape for name, value in other.items()):
            body.load_state_dict(other)
            classifier.load_state_dict(found.classifier.state_dict())


def initial_path(initial: Path) -> Path:
    """Find the checkpoint that `initial` names."""
    return ansm_path(None) if str(initial) == "bundled" else initial


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
            replace(one.config, eps_d=1.0, attacked_map=True) for one in (initial, ansm)
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


class ANSMBatches:
    """Crops of the attack cache and of its originals; they depend on (seed, step) alone."""

    def __init__(self, run: ANSMRun, training_set: MemorySet, cache: AttackCache) -> None:
        self.run, self.set, self.cache = run, training_set, cache
        forged = np.any(training_set.masks, axis=(1, 2))[cache.indices]
        self.sampler = AttackSampler(
            run.seed, cache.eps, forged, run.pristine_share, run.curriculum, run.steps
        )

    def _images(self, step: int, size: int, crop: int) -> tuple[Image, Image, NDArray[np.bool_]]:
        chosen = self.sampler(step, size)
        rng = step_rng(self.run.seed, step)
        rows, columns = crop_window(rng, (self.set.images.shape[1], self.set.images.shape[2]), crop)
        originals = self.cache.indices[chosen]
        attacked = self.cache.attacked[chosen][:, rows, columns]
        original = self.set.images[originals][:, rows, columns]
        mask = self.set.masks[originals][:, rows, columns]
        if self.run.mirror:
            attacked, original, mask = flip(rng, attacked, original, mask)
        attacked = transplant(rng, attacked, original, self.run.transplant_share)
        return attacked, original, mask

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """Detection: what is seen, mask. Else attacked and original images, mask, wrong mask
        (another image's), numbers for random starts, and which images are attacked online."""
        detect, size = self.run.detect, self.run.batch_size
        if step < detect.steps:
            attacked, original, mask = self._images(step, detect.batch_size, detect.crop)
            return to_tensor(
                self._left_alone(step, attacked, original, detect.original_share)
            ), mask_to_tensor(mask)
        attacked, original, mask = self._images(step, size, self.run.crop)
        attacked = self._left_alone(step, attacked, original, self.run.unattacked_share)
        return (
            to_tensor(attacked),
            to_tensor(original),
            mask_to_tensor(mask),
            mask_to_tensor(np.roll(mask, 1, axis=0)),
            torch.arange(step * size, (step + 1) * size),
            torch.from_numpy(spread(self.run.online.share, size)),
        )

    def _left_alone(self, step: int, attacked: Image, original: Image, share: float) -> Image:
        clean = step_rng(self.run.seed, step, purpose=3).random(len(original)) < share
        return np.where(clean[:, None, None, None], original, attacked)


def find_taps(run: ANSMRun, localizer: nn.Module) -> tuple[str, ...]:
    """Find the submodules that FFA aligns: the config's, or the localizer's own, or, of one that
    names none, those that ``candidate_taps`` chooses.

    Raises:
        InputError: the localizer has no such submodule, or FFA is on and there are none.
    """
    taps = run.ffa.taps if run.ffa.taps is not None else tuple(localizer.taps)  # type: ignore[arg-type]
    known = dict(localizer.named_modules())
    missing = [tap for tap in taps if tap not in known]
    if missing:
        raise InputError(f"ffa.taps: the localizer has no submodules {', '.join(missing)}")
    aligns = run.ffa.weight_in_mgr > 0 or (run.ffa.steps > 0 and run.ffa.weight > 0)
    if aligns and not taps and run.objective == "two_stage":
        device = next((parameter.device for parameter in localizer.parameters()), None)
        taps = candidate_taps(localizer, torch.rand(1, 3, run.crop, run.crop, device=device))
    if aligns and not taps and run.objective == "two_stage":
        raise InputError(
            "ffa.taps: this localizer names no submodules to align, and none of them gives one map "
            "(B, C, H, W) a forward; name some, or set ffa.steps and ffa.weight_in_mgr to 0"
        )
    return taps


def _cache_settings(run: ANSMRun, localizer: nn.Module) -> dict[str, object]:
    """What the attack cache is made of: another one is of no use to this run."""
    settings = run.settings()
    made_of = {
        key: settings[key]
        for key in ("attacks", "attack_cache_size", "attack_cache_seed", "precision")
    }
    made_of |= {"train": str(run.data.train), "victim": str(localizer.fingerprint)}
    if selection := run.data.selection():
        made_of["selection"] = selection
    return made_of


def _prepare_cache(
    run: ANSMRun,
    made_of: Mapping[str, object],
    localizer: nn.Module,
    training_set: MemorySet,
    accelerator: Accelerator,
) -> AttackCache:
    """The attack cache, made by the main process while the others wait."""

    def victim(image: Tensor) -> Tensor:
        with network_autocast(run.precision, image.device):
            return localizer(image).float()

    if accelerator.is_main_process:
        build_attack_cache(run, victim, training_set, made_of, accelerator.device)
    accelerator.wait_for_everyone()
    return load_attack_cache(run.attack_cache, run.attack_cache_size)


def _single_view_task(
    run: ANSMRun,
    localizer: nn.Module,
    taps: tuple[str, ...],
    training_set: MemorySet,
    cache: AttackCache,
    validation: ANSMValidation,
    out: Path,
    accelerator: Accelerator,
) -> Task:
    ansm = ANSM(
        ANSMConfig(run.variant, run.eps_d / 255, run.detail, run.jpeg_quality, run.jpeg_blur)
    )
    head = AuxiliaryMaskHead()
    if run.warm_start:
        warm_start(ansm, head, localizer)
    if run.initial is not None:
        begin_from(ansm, initial_path(run.initial))
    ansm = ansm.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = TwoStageLoss(run, ansm, head, localizer, taps)
    return Task(
        ansm,
        ANSMBatches(run, training_set, cache),
        loss,
        validation,
        extra=head,
        rate=lambda step: stage_rate(run, step),
        score=_score(run),
        spent=loss.online.spent,
    )


def _two_view_task(
    run: ANSMRun,
    localizer: nn.Module,
    taps: tuple[str, ...],
    training_set: MemorySet,
    cache: AttackCache,
    validation: ANSMValidation,
    out: Path,
    accelerator: Accelerator,
) -> Task:
    ansm = TwoViewANSM(
        TwoViewConfig(
            run.variant, run.eps_d / 255, run.jpeg_quality, run.jpeg_blur, run.attacked_map
        )
    )
    if run.initial is not None:
        begin_from(ansm, initial_path(run.initial), str(localizer.fingerprint))
    elif run.warm_start:
        warm_start_two_views(ansm)
    ansm = ansm.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = TwoViewLoss(run, ansm, localizer, taps)
    victim = FrozenLocalizer(localizer, run.precision)
    renewal = Renewal(run, cache, training_set, victim, out / "renewed", accelerator.device)
    return Task(
        ansm,
        TwoViewBatches(run, training_set, cache, renewal),
        loss,
        validation,
        rate=lambda step: stage_rate(run, step),
        score=_score(run),
        spent=lambda: loss.online.spent() | renewal.spent(),
    )


def _score(run: ANSMRun) -> Callable[[int, Mapping[str, float]], float | None]:
    """Return the score of a validation: before MgR there is no defence that could be the best."""
    first = run.detect.steps + run.ffa.steps

    def score(step: int, figures: Mapping[str, float]) -> float | None:
        return restored_score(figures) if step > first or first >= run.steps else None

    return score


def train_ansm(run: ANSMRun, out: str | Path) -> Path:
    """Train, resuming what ``out`` holds; returns the checkpoint ``out/ansm.safetensors``."""
    out = Path(out)
    # First what is quick to see, before anything is loaded, attacked or waited for.
    check_batch_sizes(run.batch_sizes(), run.accumulate)
    check_same_run(out, run.settings())
    torch.manual_seed(run.seed)
    accelerator = make_accelerator(run.accumulate, run.device)
    localizer = load_localizer(run.localizer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    localizer = localizer.to(accelerator.device)
    taps = find_taps(run, localizer)
    made_of = _cache_settings(run, localizer)
    check_attack_cache(run.attack_cache, made_of)
    training_set = MemorySet.training(run.data)
    validation = ANSMValidation(run, localizer, accelerator)
    for line in [*training_set.lines, *validation.lines]:
        accelerator.print(line)
    # Last, since it takes long: what is wrong with the other inputs has shown by now.
    cache = _prepare_cache(run, made_of, localizer, training_set, accelerator)
    make = _two_view_task if run.architecture == "two_view" else _single_view_task
    task = make(run, localizer, taps, training_set, cache, validation, out, accelerator)
    loop = Loop(run, task, out, accelerator)
    trained = loop.run()
    assert isinstance(trained, BaseANSM)
    path = out / "ansm.safetensors"
    provenance: dict[str, object] = {
        "config": run.settings(),
        "localizer": localizer.fingerprint,
        "seconds": round(loop.seconds),
        "attack_share": round(loop.shares().get("attack", 0.0), 4),
        "attack_cache_seconds": round(cache.seconds),
    }
    if loop.best_step >= 0:
        provenance["best_step"] = loop.best_step
        provenance["attack_threshold"] = loop.best_figures.get("attack_threshold", 0.5)
    if run.initial is not None:
        provenance["initial"] = lineage(initial_path(run.initial), "ansm")
    if accelerator.is_main_process:
        accelerator.print(
            f"attacks took {100 * loop.shares().get('attack', 0.0):.1f} % of {loop.seconds:.0f} s "
            f"of training, and {cache.seconds:.0f} s before it for the attack cache"
        )
        with disk_errors(path, f"the finished run's state in {out} is intact"):
            save_ansm(path, trained, provenance)
    return path
