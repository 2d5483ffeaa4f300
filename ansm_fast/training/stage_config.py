"""Fields of the stages of an ANSM's training: detection, FFA and MgR."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ansm_fast.training.attack_config import OnlineConfig
from ansm_fast.training.fields import Positive, Share, Strict, Weight
from ansm_fast.training.run_config import AugmentationConfig


class OtherLocalizer(Strict):
    """A localizer whose noise the detection learns under too, made once by the run's `attacks`."""

    localizer: Path = Field(description="`robust`, `builtin`, a checkpoint or module:function")
    attack_cache: Path = Field(description="folder of its attacked images; made if it isn't there")
    attack_cache_size: Positive = Field(default=800, description="attacked images in that cache")


class DetectConfig(Strict):
    """Stage 0: body and auxiliary head alone learn to find forgeries under noise.

    No pass through the localizer, hence many more images in the same time. ``lr`` has a cosine of
    its own; FFA and MgR then begin at ``optimizer.lr``.
    """

    steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="of all steps, the first so many"
    )
    crop: Positive = Field(default=128, description="height and width of the crops in pixels")
    batch_size: Positive = Field(default=24, description="crops in a step, over all processes")
    original_share: Share = Field(
        default=0.3, description="share of images that are shown unattacked"
    )
    lr: Annotated[float, Field(gt=0)] = Field(
        default=2e-3, description="learning rate of this stage"
    )
    second_view: bool = Field(
        default=True,
        description="two views: train the body that sees the compressed image as well",
    )
    first_view_weight: Weight = Field(
        default=1.0, description="two views: of what the image alone tells, without the second view"
    )
    attacked_weight: Weight = Field(
        default=0.5, description="two views: of the answer whether an image was attacked"
    )
    harmless: AugmentationConfig = Field(
        default=AugmentationConfig(noise_share=0.0),
        description="two views: what happens to images that are shown unattacked, and is no attack",
    )
    adversarial: OnlineConfig = Field(
        default=OnlineConfig(),
        description="two views: attacks on the mask that the detector itself finds, made in the "
        "step in the place of `share` of the unattacked images; normalization by the running "
        "statistics then, as in the finished ANSM",
    )
    other_localizers: tuple[OtherLocalizer, ...] = Field(
        default=(),
        description="two views: localizers whose noise is learned under as well, each as often as "
        "its cache is large",
    )


class FFAConfig(Strict):
    """Stage 1: align the taps by channel-wise KL. Taps default to the localizer's own."""

    steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="steps after those of `detect`"
    )
    weight: Weight = Field(default=1.0, description="of the alignment in this stage")
    weight_in_mgr: Weight = Field(
        default=0.0, description="of the alignment in MgR, beside its losses"
    )
    taps: tuple[str, ...] | None = Field(
        default=None,
        description="names of the localizer's submodules; null: the localizer's own taps",
    )
    alpha: Weight = Field(
        default=0.0, description="added to both distributions before the logarithm"
    )


class MgRConfig(Strict):
    """Stage 2: dual-mask constraint, in the steps that are left.

    The BCE target of both branches blends the localizer's own mask of the original image with the
    truth; Dice compares with the truth. The auxiliary head predicts the truth from the ANSM's
    features and is dropped after training.
    """

    weight_adv: Weight = Field(default=1.0, description="of the branch of defended attacked images")
    weight_orig: Weight = Field(
        default=1.0, description="of the branch of defended original images"
    )
    bce_weight: Weight = Field(
        default=1.0, description="of the binary cross-entropy in both branches"
    )
    dice_weight: Weight = Field(default=0.3, description="of the Dice loss in both branches")
    own_mask_share_adv: Share = Field(
        default=0.5,
        description="share of the localizer's own mask in the target of attacked images",
    )
    own_mask_share_orig: Share = Field(
        default=0.8,
        description="share of the localizer's own mask in the target of original images",
    )
    detected_share: Share = Field(
        default=1.0,
        description="two views: share of the detected mask, the rest of the truth, in the target "
        "of attacked images",
    )
    strength_weight: Weight = Field(
        default=0.1, description="two views: of the mean size of the perturbation, over `eps_d`"
    )
    auxiliary_weight: Weight = Field(
        default=1.0, description="of the auxiliary head's loss; also in FFA"
    )
    pos_weight: Weight = Field(
        default=1.0,
        description="of forged pixels in the BCE; below 1, doubtful ones count as pristine",
    )
    pristine_weight: Weight = Field(
        default=1.0, description="of images without a forgery, whose targets are the truth alone"
    )
