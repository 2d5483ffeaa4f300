"""Fields that the trainings of a localizer and of an ANSM share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ansm_fast.training.fields import Positive, Share, Strict, Weight


class DataConfig(Strict):
    """Folders with images/ and masks/, relative to the working directory; images of any sizes."""

    train: Path = Field(description="folder with the images and masks that are trained on")
    validation: Path | None = Field(
        default=None,
        description="folder with those that the validation measures on; null: a tenth of `train`, "
        "which shares no photograph with the rest as far as its metadata.jsonl tells",
    )
    validation_count: Positive = Field(
        default=64,
        description="so many of the validation set: the first by name; with `window`, or without a "
        "folder of its own, drawn",
    )
    window: Positive | None = Field(
        default=None,
        description="largest height and width that images keep; larger ones, and those of several "
        "sizes, give windows of one size; null: images of one size stay whole, others are cut to "
        "at most 512",
    )
    memory: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="most GiB that the images trained on may take; of a larger set a part is drawn",
    )

    def selection(self) -> dict[str, object]:
        """Return what decides which images, and which parts of them, a training sees, where it is
        not all of `train`."""
        chosen: dict[str, object] = {"window": self.window, "memory": self.memory}
        if self.validation is None:
            chosen["side"] = "train"
        return {key: value for key, value in chosen.items() if value is not None}


class OptimizerConfig(Strict):
    """AdamW with linear warm-up, cosine decay to ``final_lr_share``, clipping, weight averaging."""

    lr: Annotated[float, Field(gt=0)] = Field(
        default=2e-3, description="learning rate after the warm-up"
    )
    weight_decay: Weight = Field(default=1e-4, description="AdamW's")
    warmup: Positive = Field(
        default=50, description="steps in which the learning rate rises to `lr`"
    )
    final_lr_share: Share = Field(default=0.02, description="share of `lr` that the last step has")
    clip_norm: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="largest norm of the gradient; a longer one is shortened"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.995,
        description="of the averaged weights, which are what is kept; 0: no averaging",
    )


class CropPhase(Strict):
    """Batches of ``batch_size`` crops of ``crop`` pixels, until ``until`` of all steps."""

    until: Share = Field(description="share of all steps at which the next phase begins")
    crop: Positive = Field(description="height and width of the crops in pixels")
    batch_size: Positive = Field(description="crops in a step, over all processes")


class Run(Strict):
    """What every training has."""

    seed: int = Field(default=0, description="of weights, batches, augmentation and attacks")
    steps: Positive = Field(description="optimizer steps of the whole training")
    stop_after: Positive | None = Field(
        default=None,
        description="end early, with the weights of this step and the schedule of `steps`",
    )
    validate_every: Positive = Field(
        default=500, description="steps from one validation to the next"
    )
    save_every: Positive = Field(
        default=100,
        description="steps from one saved state to the next; a kill loses at most so many",
    )
    log_every: Positive = Field(default=50, description="steps from one row of metrics to the next")
    logs: tuple[Literal["csv", "tensorboard"], ...] = Field(
        default=("csv",), description="formats of the metrics besides JSON lines"
    )
    threads: Positive | None = Field(default=None, description="CPU threads; null: all cores")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="what it runs on; auto: a GPU where there is one"
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        default=0, description="processes that make batches ahead of time, to keep a GPU busy"
    )
    accumulate: Positive = Field(
        default=1,
        description="parts that a process's share of a batch is computed in, to save memory",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the network; losses are in float32 either way"
    )
    half_weights: bool = Field(
        default=False,
        description="round the finished weights to float16: a checkpoint half as large",
    )
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    photographs: str = Field(description="public origin and licence of the photographs")

    def settings(self) -> dict[str, Any]:
        """Return the whole configuration as JSON holds it: in checkpoints, and what a run that goes
        on must agree with."""
        return self.model_dump(mode="json")


class AugmentationConfig(Strict):
    """What happens to a share of the training images after they were forged, in this order.

    Resizing and compression are what social networks do to an upload; noise keeps a localizer
    from reading traces that one grey level wipes out.
    """

    resize_share: Share = Field(default=0.0, description="share of images that are resized")
    resize_scale: tuple[float, float] = Field(
        default=(0.7, 1.4), description="least and largest factor of the sides"
    )
    noise_share: Share = Field(default=0.2, description="share of images that get noise")
    noise_sigma: Annotated[float, Field(ge=0, le=255)] = Field(
        default=4.0, description="largest standard deviation of the noise, in grey levels"
    )
    jpeg_share: Share = Field(default=0.0, description="share of images that are compressed")
    jpeg_quality: tuple[int, int] = Field(
        default=(75, 98), description="least and largest quality of the compression"
    )
