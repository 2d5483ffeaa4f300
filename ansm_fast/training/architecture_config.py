"""Which network a localizer's training makes: one configuration for each family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ansm_fast.localizers import (
    ARCHITECTURES,
    LocalizerConfig,
    RGBConfig,
    SegformerConfig,
    TrainableLocalizer,
    make_localizer,
)
from ansm_fast.training.fields import Positive, Strict

FourSizes = tuple[Positive, Positive, Positive, Positive]
DEFAULT = "unet"


class _Architecture(Strict):
    """What all families share: ``name`` and, beside it, the fields of the network's own config."""

    name: str

    def _sizes(self) -> dict[str, Any]:
        return self.model_dump(exclude={"name"})

    @model_validator(mode="after")
    def _can_be_made(self) -> _Architecture:
        ARCHITECTURES[self.name][1](**self._sizes())
        return self

    def make(self) -> TrainableLocalizer:
        """Make the network with random weights."""
        return make_localizer(self.name, **self._sizes())


class UNetArchitecture(_Architecture):
    """A convolutional U-Net behind noise residuals."""

    name: Literal["unet"] = Field(default="unet", description="kind of network")
    widths: FourSizes = Field(
        default=LocalizerConfig.widths, description="channels of the four levels"
    )


class SegformerArchitecture(_Architecture):
    """A hierarchical transformer behind noise residuals; needs the library transformers."""

    name: Literal["segformer"] = Field(description="kind of network")
    widths: FourSizes = Field(
        default=SegformerConfig.widths,
        description="channels of the four stages, multiples of 1, 2, 4 and 8",
    )
    depths: FourSizes = Field(
        default=SegformerConfig.depths, description="attention blocks of the four stages"
    )
    decoder_width: Positive = Field(
        default=SegformerConfig.decoder_width, description="channels of the decoder"
    )


class RGBArchitecture(_Architecture):
    """A dilated residual network that sees RGB alone, without noise residuals."""

    name: Literal["rgb"] = Field(description="kind of network")
    widths: tuple[Positive, Positive, Positive] = Field(
        default=RGBConfig.widths, description="channels of the three stages"
    )
    dilated_blocks: Positive = Field(
        default=RGBConfig.dilated_blocks, description="dilated residual blocks of the third stage"
    )
    decoder_width: Positive = Field(
        default=RGBConfig.decoder_width, description="channels of the decoder"
    )


Architecture = Annotated[
    UNetArchitecture | SegformerArchitecture | RGBArchitecture, Field(discriminator="name")
]


def with_architecture(values: Any) -> Any:
    """Return a localizer's configuration with ``architecture`` as fields.

    A name alone stands for its defaults, ``widths`` beside it are its own: so configurations of
    earlier versions have it. Fields without a name are the default family's.
    """
    if not isinstance(values, Mapping):
        return values
    found = dict(values)
    given = found.get("architecture", DEFAULT)
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        return found
    given = {"name": DEFAULT, **given}
    if "widths" in found and "widths" not in given:
        given["widths"] = found.pop("widths")
    return found | {"architecture": given}


def settings_of_today(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a localizer's run, which an earlier version may have written, as of this one."""
    found = with_architecture(settings)
    try:
        chosen = TypeAdapter(Architecture).validate_python(found["architecture"])
    except ValidationError:
        return found
    return found | {"architecture": chosen.model_dump(mode="json")}
