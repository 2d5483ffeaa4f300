"""Training configurations: YAML files, validated; a run is one of them plus its seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from ansm_fast.errors import InputError
from ansm_fast.training.attack_config import (
    AttackShare,
    CompressionConfig,
    CurriculumConfig,
    OnlineConfig,
    ValidationAttack,
)
from ansm_fast.training.fields import Positive, Share, Strict, Weight


class DataConfig(Strict):
    """Folders with images/ and masks/, relative to the working directory."""

    train: Path
    validation: Path
    validation_count: Positive = 64


class OptimizerConfig(Strict):
    """AdamW with linear warm-up, cosine decay to ``final_lr_share``, clipping, weight averaging."""

    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Weight = 1e-4
    warmup: Positive = 50
    final_lr_share: Share = 0.02
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995


class CropPhase(Strict):
    """Batches of ``batch_size`` crops of ``crop`` pixels, until ``until`` of all steps."""

    until: Share
    crop: Positive
    batch_size: Positive


class _Run(Strict):
    seed: int = 0
    steps: Positive
    stop_after: Positive | None = Field(
        None, description="end early, with the weights of this step and the schedule of `steps`"
    )
    validate_every: Positive = 500
    save_every: Positive = 100
    log_every: Positive = 50
    logs: tuple[Literal["csv", "tensorboard"], ...] = ("csv",)
    threads: Positive | None = None
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="processes that make batches ahead of time, to keep a GPU busy"
    )
    accumulate: Positive = Field(
        1, description="parts that a process's share of a batch is computed in, to save memory"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the network; losses are in float32 either way"
    )
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    photographs: str = Field(description="public origin and licence of the photographs")


class AugmentationConfig(Strict):
    """What happens to a share of the training images after they were forged, in this order.

    Resizing and compression are what social networks do to an upload; noise keeps a localizer
    from reading traces that one grey level wipes out. ``noise_sigma`` is the largest, in levels.
    """

    resize_share: Share = 0.0
    resize_scale: tuple[float, float] = (0.7, 1.4)
    noise_share: Share = 0.2
    noise_sigma: Annotated[float, Field(ge=0, le=255)] = 4.0
    jpeg_share: Share = 0.0
    jpeg_quality: tuple[int, int] = (75, 98)


class LocalizerRun(_Run):
    """Training of a localizer: the built-in U-Net, or a SegFormer to compare with.

    ``widths`` are the channels of the four levels or stages.
    """

    kind: Literal["localizer"]
    architecture: Literal["unet", "segformer"] = "unet"
    widths: tuple[Positive, Positive, Positive, Positive] = (24, 40, 72, 112)
    initial: Path | None = Field(None, description="localizer checkpoint to go on from, as it is")
    phases: Annotated[list[CropPhase], Field(min_length=1)]
    augmentation: AugmentationConfig = AugmentationConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    online: OnlineConfig = Field(
        OnlineConfig(), description="attacks on the localizer as it is: adversarial training"
    )
    online_compression: CompressionConfig | None = Field(
        None, description="of the images attacked online: they arrive as behind a defence"
    )
    validation_attacks: tuple[ValidationAttack, ...] = ()
    half_weights: bool = Field(
        False, description="round the finished weights to float16: a checkpoint half as large"
    )

    @model_validator(mode="after")
    def _compresses_something(self) -> LocalizerRun:
        if self.online_compression is not None:
            if not self.online.share > 0:
                raise ValueError("online_compression is for online attacks: give online.share > 0")
            if any(phase.crop % 16 for phase in self.phases):
                raise ValueError("online_compression needs crops of multiples of 16")
        return self

    @model_validator(mode="after")
    def _attacks_itself(self) -> LocalizerRun:
        flags = [attack.adaptive for attack in self.online.attacks]
        if any(flags + [attack.adaptive for attack in self.validation_attacks]):
            raise ValueError("adaptive attacks go through an ANSM, and there is none")
        return self


class DetectConfig(Strict):
    """Stage 0: body and auxiliary head alone learn to find forgeries under noise.

    No pass through the localizer, hence many more images in the same time. ``lr`` has a cosine of
    its own; FFA and MgR then begin at ``optimizer.lr``.
    """

    steps: Annotated[int, Field(ge=0)] = 0
    crop: Positive = 128
    batch_size: Positive = 24
    original_share: Share = 0.3
    lr: Annotated[float, Field(gt=0)] = 2e-3


class FFAConfig(Strict):
    """Stage 1: align the taps by channel-wise KL. Taps default to the localizer's own."""

    steps: Annotated[int, Field(ge=0)] = 0
    weight: Weight = 1.0
    weight_in_mgr: Weight = 0.0
    taps: tuple[str, ...] | None = None
    alpha: Weight = 0.0


class MgRConfig(Strict):
    """Stage 2: dual-mask constraint.

    The BCE target of both branches blends the localizer's own mask of the original image
    (``own_mask_share``) with the truth; Dice compares with the truth. The auxiliary head predicts
    the truth from the ANSM's features and is dropped after training. A ``pos_weight`` below 1 makes
    doubtful pixels count as pristine; ``pristine_weight`` is that of an image without a forgery,
    whose targets are the truth alone.
    """

    weight_adv: Weight = 1.0
    weight_orig: Weight = 1.0
    bce_weight: Weight = 1.0
    dice_weight: Weight = 0.3
    own_mask_share_adv: Share = 0.5
    own_mask_share_orig: Share = 0.8
    auxiliary_weight: Weight = 1.0
    pos_weight: Weight = 1.0
    pristine_weight: Weight = 1.0


class ANSMRun(_Run):
    """Training of an ANSM against attacks on a frozen localizer, cached and online."""

    kind: Literal["ansm"]
    localizer: Path | None = None
    variant: Literal["tiny", "base"] = "tiny"
    eps_d: Annotated[float, Field(gt=0, le=255)] = 8.0
    detail: Annotated[int, Field(ge=0)] = Field(0, description="see ANSMConfig.detail")
    jpeg_quality: Annotated[int, Field(ge=0, le=100)] = Field(0, description="see ANSMConfig")
    jpeg_blur: Annotated[float, Field(ge=0, le=1 / 3)] = Field(0.0, description="see ANSMConfig")
    warm_start: bool = True
    initial: Path | None = Field(
        None, description="ANSM checkpoint to go on from, of this variant or a narrower one"
    )
    crop: Positive = 192
    mirror: bool = Field(
        True,
        description="flip each axis half of the time; smooth noise, as TI-FGSM's, does little harm "
        "in a flipped image or a crop, and what does no harm teaches nothing",
    )
    batch_size: Positive = 6
    pool: Path
    pool_size: Positive = 2000
    pool_seed: int = Field(0, description="of the pool alone: runs of other seeds share it")
    attacks: Annotated[list[AttackShare], Field(min_length=1)]
    transplant_share: Share = Field(
        0.0, description="share of attacked images that get another image's noise instead"
    )
    unattacked_share: Share = Field(
        0.0, description="share of cached attacked images that are left unattacked instead"
    )
    pristine_share: Share | None = Field(
        None, description="share of images without a forgery in a batch; by default the pool's"
    )
    curriculum: CurriculumConfig = CurriculumConfig()
    online: OnlineConfig = OnlineConfig()
    validation_attacks: tuple[ValidationAttack, ...] = (
        ValidationAttack(name="pgd"),
        ValidationAttack(name="pgd", objective="hide"),
    )
    objective: Literal["two_stage", "gate", "pixel_mse"] = Field(
        "two_stage",
        description="gate, for an ANSM that is a gate on compression: open where that helps the "
        "localizer; pixel_mse, to compare with: the defended images shall equal the original",
    )
    frozen_statistics: bool = Field(
        False,
        description="normalize by the running statistics and leave them as they are: for a "
        "training that goes on (`initial`) with small batches",
    )
    detect: DetectConfig = DetectConfig()
    ffa: FFAConfig = FFAConfig()
    mgr: MgRConfig = MgRConfig()

    @model_validator(mode="after")
    def _attacks(self) -> ANSMRun:
        if not sum(attack.weight for attack in self.attacks) > 0:
            raise ValueError("`attacks` needs an entry of weight > 0")
        return self

    @model_validator(mode="after")
    def _has_a_gate(self) -> ANSMRun:
        if self.objective == "gate" and not self.jpeg_quality:
            raise ValueError("objective gate needs a network with a gate: give jpeg_quality")
        if self.jpeg_blur and not self.jpeg_quality:
            raise ValueError("jpeg_blur comes before a compression: give jpeg_quality")
        return self

    @model_validator(mode="after")
    def _has_statistics(self) -> ANSMRun:
        if self.frozen_statistics and self.initial is None:
            raise ValueError("frozen_statistics keeps those of a trained ANSM: give initial")
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> ANSMRun:
        in_ffa = min(self.ffa.steps, self.steps - self.detect.steps)
        in_mgr = self.steps - self.detect.steps - in_ffa
        auxiliary, mgr = self.mgr.auxiliary_weight, self.mgr
        weights = {
            "ffa": (in_ffa, self.ffa.weight + auxiliary),
            "mgr": (in_mgr, self.ffa.weight_in_mgr + auxiliary + mgr.weight_adv + mgr.weight_orig),
        }
        for stage, (steps, weight) in weights.items():
            if self.objective == "two_stage" and steps > 0 and not weight > 0:
                raise ValueError(f"all weights of {stage} are 0, yet it has {steps} steps")
        return self


TrainingRun = Annotated[LocalizerRun | ANSMRun, Field(discriminator="kind")]


class _Document(BaseModel):
    run: TrainingRun


def parse_run(values: Any, origin: str) -> LocalizerRun | ANSMRun:
    """Validate a configuration; InputError naming the file, the field and what was given."""
    try:
        return _Document.model_validate({"run": values}).run
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "document"
        raise InputError(
            f"{origin}: {field}: {first['msg']} (given: {str(first['input'])[:80]}); "
            "see `ansm-fast train --help` for the fields"
        ) from error


def load_run(path: str | Path) -> LocalizerRun | ANSMRun:
    """Read a YAML configuration."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such config file: {path}; the bundled ones are in training/configs")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    return parse_run(values, str(path))
