"""The configuration of an ANSM's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from ansm_fast.training.attack_config import (
    AttackShare,
    CurriculumConfig,
    OnlineConfig,
    ValidationAttack,
)
from ansm_fast.training.fields import Positive, Share, Weight
from ansm_fast.training.run_config import Run
from ansm_fast.training.stage_config import DetectConfig, FFAConfig, MgRConfig

_FORMER = {
    "pool": "attack_cache",
    "pool_size": "attack_cache_size",
    "pool_seed": "attack_cache_seed",
}


def with_attack_cache(values: Any) -> Any:
    """Return the configuration of an ANSM's training with the names of today: the attack cache was
    called pool in earlier versions."""
    if not isinstance(values, Mapping):
        return values
    for former, name in _FORMER.items():
        if former in values and name in values:
            raise ValueError(f"{former} is called {name} now, and both are given; leave one out")
    return {_FORMER.get(key, key): value for key, value in values.items()}


# Fields that one architecture alone reads.
FIELDS_OF = {
    "single_view": (
        "detail",
        "unattacked_share",
        "frozen_statistics",
        "mgr.own_mask_share_adv",
        "mgr.auxiliary_weight",
        "mgr.pristine_weight",
    ),
    "two_view": (
        "attacked_map",
        "shut_below",
        "attacked_shift",
        "renew_every",
        "detect.second_view",
        "detect.first_view_weight",
        "detect.attacked_weight",
        "detect.harmless",
        "detect.other_localizers",
        "detect.adversarial",
        "mgr.detected_share",
        "mgr.strength_weight",
    ),
}


def _value_and_default(run: BaseModel, field: str) -> tuple[Any, Any]:
    """Value of a field, such as "mgr.pos_weight", and what it is where nobody gives it."""
    part, _, name = field.rpartition(".")
    owner = getattr(run, part) if part else run
    return getattr(owner, name), type(owner).model_fields[name].default


class ANSMRun(Run):
    """Training of an ANSM against attacks on a frozen localizer, cached and online."""

    kind: Literal["ansm"] = Field(description="which training this is the config of")
    localizer: Path | None = Field(
        default=None,
        description="`robust`, `builtin`, a checkpoint or module:function; null: the default one",
    )
    architecture: Literal["single_view", "two_view"] = Field(
        default="single_view",
        description="two_view: detects on the image and on what JPEG leaves of it, and writes what "
        "it finds; single_view: one body, whose features are the perturbation, or a gate",
    )
    variant: Literal["tiny", "base"] = Field(
        default="tiny", description="size of the network; single_view: tiny"
    )
    eps_d: Annotated[float, Field(gt=0, le=255)] = Field(
        default=8.0, description="bound of the defensive perturbation, in grey levels"
    )
    detail: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="width of a layer before the head that sees pixels and noise; 0: none",
    )
    jpeg_quality: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0,
        description="quality of the compression that the network is a gate on, or of the second "
        "view; 0: neither",
    )
    jpeg_blur: Annotated[float, Field(ge=0, le=1 / 3)] = Field(
        default=0.0, description="weight of each neighbour in a blur before that compression"
    )
    attacked_map: bool = Field(
        default=True,
        description="two views: multiply the perturbation by the map of what was attacked",
    )
    shut_below: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.25,
        description="two views: probability of an attack up to which an image is left as it is",
    )
    attacked_shift: Weight = Field(
        default=0.0,
        description="two views: what is taken off the logits of the map of what was attacked as "
        "`initial` gives it, so that doubtful regions count as unattacked",
    )
    warm_start: bool = Field(
        default=True,
        description="begin with the body of the localizer, where it is the built-in network; two "
        "views: with that of the bundled localizer of its widths, `robust` in size base and "
        "`builtin` in tiny",
    )
    initial: Path | None = Field(
        default=None,
        description="ANSM checkpoint to go on from, of the same network; two views: `bundled` is "
        "the one in the package, and of one for another localizer the detector alone is taken",
    )
    crop: Positive = Field(default=192, description="height and width of the crops in pixels")
    mirror: bool = Field(
        default=True,
        description="flip each axis half of the time; smooth noise, as TI-FGSM's, does little harm "
        "in a flipped image or a crop, and what does no harm teaches nothing",
    )
    batch_size: Positive = Field(default=6, description="crops in a step, over all processes")
    attack_cache: Path = Field(
        default=Path("attack_cache"),
        description="folder of the attacked images that are made once; made if it isn't there; "
        "where a config names none, `ansm-fast train ansm` puts it into OUTPUT",
    )
    attack_cache_size: Positive = Field(default=2000, description="attacked images in the cache")
    attack_cache_seed: int = Field(
        default=0, description="of the cache alone: runs of other seeds share it"
    )
    attacks: Annotated[list[AttackShare], Field(min_length=1)] = Field(
        description="what the attack cache is made of"
    )
    renew_every: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="two views: steps after which eight images of the attack cache give way to the "
        "next of the training set, one eight after the other; 0: never",
    )
    transplant_share: Share = Field(
        default=0.0,
        description="share of the cache's noise that is moved to another image, any of the "
        "training set",
    )
    unattacked_share: Share = Field(
        default=0.0, description="share of cached attacked images that are left unattacked instead"
    )
    pristine_share: Share | None = Field(
        default=None,
        description="share of images without a forgery in a batch; by default the cache's",
    )
    curriculum: CurriculumConfig = CurriculumConfig()
    online: OnlineConfig = OnlineConfig()
    validation_attacks: tuple[ValidationAttack, ...] = Field(
        default=(ValidationAttack(name="pgd"), ValidationAttack(name="pgd", objective="hide")),
        description="attacks that the validation measures under, besides none",
    )
    objective: Literal["two_stage", "gate", "pixel_mse"] = Field(
        default="two_stage",
        description="gate, for an ANSM that is a gate on compression: open where that helps the "
        "localizer; pixel_mse, to compare with: the defended images shall equal the original",
    )
    frozen_statistics: bool = Field(
        default=False,
        description="normalize by the running statistics and leave them as they are: for a "
        "training that goes on (`initial`) with small batches",
    )
    report: bool = Field(
        default=False,
        description="look at the localizer first, and end with a table and a verdict on the "
        "validation images",
    )
    detect: DetectConfig = DetectConfig()
    ffa: FFAConfig = FFAConfig()
    mgr: MgRConfig = MgRConfig()

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        return with_attack_cache(values)

    def sides(self) -> dict[str, int]:
        """Field to side of the crops that the localizer sees."""
        return {"crop": self.crop}

    def batch_sizes(self) -> dict[str, int]:
        """Field to size of every batch that processes share."""
        detection = {"detect.batch_size": self.detect.batch_size} if self.detect.steps else {}
        return {"batch_size": self.batch_size} | detection

    @model_validator(mode="after")
    def _attacks(self) -> ANSMRun:
        if not sum(attack.weight for attack in self.attacks) > 0:
            raise ValueError("`attacks` needs an entry of weight > 0")
        return self

    @model_validator(mode="after")
    def _fits_the_architecture(self) -> ANSMRun:
        other = "two_view" if self.architecture == "single_view" else "single_view"
        for field in FIELDS_OF[other]:
            # What would be accepted and not read is said, wherever it differs from the default.
            own, usual = _value_and_default(self, field)
            if own != usual:
                raise ValueError(f"{field} is for architecture {other}; leave it at {usual}")
        if self.architecture == "single_view":
            if self.variant != "tiny":
                raise ValueError("variant must be tiny for architecture single_view")
            return self
        if self.objective != "two_stage":
            raise ValueError("objective must be two_stage for architecture two_view")
        if self.renew_every and self.workers:
            raise ValueError("renew_every attacks in the process that trains: give workers 0")
        if any(attack.adaptive for attack in self.online.attacks):
            raise ValueError("adaptive online attacks are for architecture single_view")
        if any(attack.adaptive for attack in self.detect.adversarial.attacks):
            raise ValueError("detect.adversarial attacks the detector alone: leave out `adaptive`")
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
        if self.attacked_shift and self.initial is None:
            raise ValueError("attacked_shift is for the map of a trained ANSM: give initial")
        if self.frozen_statistics and self.initial is None:
            raise ValueError("frozen_statistics keeps those of a trained ANSM: give initial")
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> ANSMRun:
        needed = self.detect.steps + self.ffa.steps
        if needed > self.steps and self.objective == "two_stage":
            raise ValueError(
                f"steps is {self.steps}, yet detect.steps and ffa.steps are {self.detect.steps} + "
                f"{self.ffa.steps} of them; give steps > {needed}, or shorter stages"
            )
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
