"""Which attacks an ANSM is trained and validated against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ansm_fast.attacks import ATTACKS, OBJECTIVES, attack_kind
from ansm_fast.training.fields import OneOf, Positive, Share, Strict, Weight


def _known_attack(name: str) -> str:
    attack_kind(name, "attack")
    return name


def _known_objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}")
    return name


class _AttackFields(Strict):
    name: Annotated[str, AfterValidator(_known_attack), OneOf(ATTACKS)] = Field(
        description="of the attack"
    )
    objective: Annotated[str, AfterValidator(_known_objective), OneOf(OBJECTIVES)] = Field(
        default="untargeted", description="what the attacker wants"
    )
    norm: Literal["linf", "l2"] = Field(
        default="linf", description="what eps bounds: every value, or the root mean square"
    )

    @model_validator(mode="after")
    def _norm_fits(self) -> _AttackFields:
        norms = attack_kind(self.name).norms
        if self.norm not in norms:
            raise ValueError(f"{self.name} knows the norm {' and '.join(norms)} alone")
        return self


class AttackShare(_AttackFields):
    """One attack of the attack cache. ``eps`` in grey levels, drawn per batch."""

    steps: Positive = Field(default=5, description="gradient steps; queries of square")
    eps: tuple[Weight, Weight] = Field(
        default=(2.0, 8.0), description="least and largest budget in grey levels, at most 255"
    )
    weight: Weight = Field(default=1.0, description="how often it is drawn, relative to the others")

    @model_validator(mode="after")
    def _can_be_made(self) -> AttackShare:
        low, high = self.eps
        if not low <= high <= 255:
            raise ValueError(f"eps must be [least, most], both at most 255, got [{low}, {high}]")
        return self


class OnlineAttack(AttackShare):
    """An attack made in the step that trains on it. ``eps`` is drawn per step."""

    steps: Positive = Field(default=3, description="gradient steps; queries of square")
    adaptive: bool = Field(
        default=False,
        description="on the localizer behind the ANSM as it is now (in eval mode) and not on the "
        "localizer alone",
    )


class OnlineConfig(Strict):
    """Online attacks take the place of cached ones in ``share`` of a batch, one kind a step."""

    share: Share = Field(default=0.0, description="share of a batch that is attacked online")
    attacks: tuple[OnlineAttack, ...] = Field(default=(), description="what is drawn from")

    @model_validator(mode="after")
    def _has_attacks(self) -> OnlineConfig:
        if self.share > 0 and not sum(attack.weight for attack in self.attacks) > 0:
            raise ValueError("share > 0 needs an entry of weight > 0 in `attacks`")
        return self


class CompressionConfig(Strict):
    """What a defence does to an image before the localizer sees it; see ``JPEGResidual``."""

    quality: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]] = (
        Field(description="least and largest JPEG quality, drawn per step")
    )
    blur: Annotated[float, Field(ge=0, le=1 / 3)] = Field(
        default=0.0, description="weight of each neighbour in a blur before the compression"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> CompressionConfig:
        if self.quality[0] > self.quality[1]:
            raise ValueError(f"quality must be [least, most], got {list(self.quality)}")
        return self


class ValidationAttack(_AttackFields):
    """An attack on the validation images; ``eps`` in grey levels."""

    steps: Positive = Field(default=10, description="gradient steps; queries of square")
    eps: Weight = Field(default=4.0, description="budget in grey levels")
    adaptive: bool = Field(default=False, description="on the localizer behind the ANSM")


class CurriculumConfig(Strict):
    """No noise above a bound that grows from ``eps_start`` to the largest in ``ramp`` of all steps.

    In grey levels; ``ramp: 0`` shows every noise from the beginning.
    """

    ramp: Share = Field(default=0.0, description="share of all steps in which the bound grows")
    eps_start: Weight = Field(
        default=2.0, description="the bound in the first step, in grey levels"
    )
