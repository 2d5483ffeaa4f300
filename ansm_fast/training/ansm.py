"""Training of an ANSM for a frozen localizer: stage 1 FFA, stage 2 MgR (arXiv 2506.12871)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ansm_fast.errors import InputError
from ansm_fast.localizers import load_localizer
from ansm_fast.localizers.tap_candidates import candidate_taps
from ansm_fast.models import ANSM, BaseANSM, TwoViewANSM, save_ansm
from ansm_fast.models.checkpoint import lineage
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.attack_cache import (
    AttackCache,
    build_attack_cache,
    check_attack_cache,
    load_attack_cache,
)
from ansm_fast.training.batches import MemorySet
from ansm_fast.training.loop import Loop, Task
from ansm_fast.training.networks import Network, initial_path, make_network
from ansm_fast.training.processes import check_batch_sizes, make_accelerator, network_autocast
from ansm_fast.training.renewal import Renewal
from ansm_fast.training.resume import check_same_run
from ansm_fast.training.rounding import round_weights
from ansm_fast.training.single_view_batches import ANSMBatches
from ansm_fast.training.stages import FrozenLocalizer, TwoStageLoss, stage_rate
from ansm_fast.training.state import disk_errors
from ansm_fast.training.two_view_batches import TwoViewBatches
from ansm_fast.training.two_view_loss import TwoViewLoss
from ansm_fast.training.validation import ANSMValidation, restored_score

if TYPE_CHECKING:
    from accelerate import Accelerator


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


def cache_settings(run: ANSMRun, localizer: nn.Module) -> dict[str, object]:
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


def prepare(run: ANSMRun, localizer: nn.Module) -> tuple[tuple[str, ...], Network]:
    """Find the taps and make the network: what needs no image, and may be wrong.

    Raises:
        InputError: there are no taps, the attack cache is another one's, or `initial` does not fit.
    """
    taps = find_taps(run, localizer)
    check_attack_cache(run.attack_cache, cache_settings(run, localizer))
    return taps, make_network(run, localizer)


def _of_other_localizers(run: ANSMRun) -> list[ANSMRun]:
    """The run as it would be for each of the other localizers that detection learns from."""
    return [
        run.model_copy(update={name: getattr(other, name) for name in type(other).model_fields})
        for other in run.detect.other_localizers
    ]


def _load(run: ANSMRun, device: torch.device) -> nn.Module:
    localizer = load_localizer(run.localizer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return localizer.to(device)  # type: ignore[no-any-return]


def _prepare_cache(
    run: ANSMRun,
    localizer: nn.Module,
    training_set: MemorySet,
    accelerator: Accelerator,
) -> AttackCache:
    """The attack cache, made by the main process while the others wait."""

    def victim(image: Tensor) -> Tensor:
        with network_autocast(run.precision, image.device):
            return localizer(image).float()

    if accelerator.is_main_process:
        made_of = cache_settings(run, localizer)
        build_attack_cache(run, victim, training_set, made_of, accelerator.device)
    accelerator.wait_for_everyone()
    return load_attack_cache(run.attack_cache, run.attack_cache_size)


def make_task(
    run: ANSMRun,
    network: Network,
    localizer: nn.Module,
    taps: tuple[str, ...],
    training_set: MemorySet,
    cache: AttackCache,
    validate: Callable[..., Mapping[str, float]],
    renewed: Path,
    device: torch.device,
    others: Sequence[AttackCache] = (),
) -> Task:
    """Put together what the loop runs; ``renewed``: folder of what is attacked anew, ``others``:
    attack caches of other localizers."""
    ansm, head = network
    if isinstance(ansm, TwoViewANSM):
        written = TwoViewLoss(run, ansm, localizer, taps)
        victim = FrozenLocalizer(localizer, run.precision)
        renewal = Renewal(run, cache, training_set, victim, renewed, device)
        return Task(
            ansm,
            TwoViewBatches(run, training_set, cache, renewal, others),
            written,
            validate,
            rate=lambda step: stage_rate(run, step),
            score=_score(run),
            spent=lambda: written.spent() | renewal.spent(),
        )
    assert isinstance(ansm, ANSM) and head is not None
    loss = TwoStageLoss(run, ansm, head, localizer, taps)
    return Task(
        ansm,
        ANSMBatches(run, training_set, cache),
        loss,
        validate,
        extra=head,
        rate=lambda step: stage_rate(run, step),
        score=_score(run),
        spent=loss.online.spent,
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
    localizer = _load(run, accelerator.device)
    taps, network = prepare(run, localizer)
    others = [(other, _load(other, accelerator.device)) for other in _of_other_localizers(run)]
    for other, its_localizer in others:
        check_attack_cache(other.attack_cache, cache_settings(other, its_localizer))
    training_set = MemorySet.training(run.data)
    validation = ANSMValidation(run, localizer, accelerator)
    for line in [*training_set.lines, *validation.lines]:
        accelerator.print(line)
    # Last, since it takes long: what is wrong with the other inputs has shown by now.
    cache, *further = (
        _prepare_cache(each, attacked, training_set, accelerator)
        for each, attacked in [(run, localizer), *others]
    )
    task = make_task(
        run, network, localizer, taps, training_set, cache, validation, out / "renewed",
        accelerator.device, further,
    )  # fmt: skip
    loop = Loop(run, task, out, accelerator)
    trained = loop.run()
    assert isinstance(trained, BaseANSM)
    if run.half_weights:
        round_weights(trained)
    path = out / "ansm.safetensors"
    provenance: dict[str, object] = {
        "config": run.settings(),
        "localizer": localizer.fingerprint,
        "seconds": round(loop.seconds),
        "attack_share": round(loop.shares().get("attack", 0.0), 4),
        "attack_cache_seconds": round(sum(each.seconds for each in (cache, *further))),
    }
    if others:
        provenance["other_localizers"] = [str(each.fingerprint) for _, each in others]
    if loop.best_step >= 0:
        provenance["best_step"] = loop.best_step
        provenance["attack_threshold"] = loop.best_figures.get("attack_threshold", 0.5)
    if run.initial is not None:
        provenance["initial"] = lineage(initial_path(run), "ansm")
    if accelerator.is_main_process:
        cached = provenance["attack_cache_seconds"]
        accelerator.print(
            f"attacks took {100 * loop.shares().get('attack', 0.0):.1f} % of {loop.seconds:.0f} s "
            f"of training, and {cached} s before it for the attack cache"
        )
        with disk_errors(path, f"the finished run's state in {out} is intact"):
            save_ansm(path, trained, provenance)
    return path
