"""Training configurations: YAML files, validated; a run is one of them plus its seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ansm_fast.errors import InputError
from ansm_fast.localizers import ARCHITECTURES
from ansm_fast.training.ansm_config import ANSMRun
from ansm_fast.training.architecture_config import (
    Architecture,
    UNetArchitecture,
    with_architecture,
)
from ansm_fast.training.attack_config import (
    CompressionConfig,
    CurriculumConfig,
    OnlineConfig,
    ValidationAttack,
)
from ansm_fast.training.field_table import nearest
from ansm_fast.training.run_config import AugmentationConfig, CropPhase, Run
from ansm_fast.training.yaml_file import read_yaml


class LocalizerRun(Run):
    """Training of a localizer of one of the families of ``Architecture``."""

    kind: Literal["localizer"] = Field(description="which training this is the config of")
    architecture: Architecture = Field(
        default=UNetArchitecture(), description="the network, one of the families"
    )
    initial: Path | None = Field(
        default=None, description="localizer checkpoint to go on from, as it is"
    )
    phases: Annotated[list[CropPhase], Field(min_length=1)] = Field(
        description="sizes of crops and batches, one after the other"
    )
    augmentation: AugmentationConfig = AugmentationConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    online: OnlineConfig = Field(
        default=OnlineConfig(),
        description="attacks on the localizer as it is: adversarial training",
    )
    online_compression: CompressionConfig | None = Field(
        default=None, description="of the images attacked online: they arrive as behind a defence"
    )
    validation_attacks: tuple[ValidationAttack, ...] = Field(
        default=(), description="attacks that the validation measures under, besides none"
    )

    def batch_sizes(self) -> dict[str, int]:
        """Field to size of every batch that processes share."""
        return {
            f"phases.{number}.batch_size": phase.batch_size
            for number, phase in enumerate(self.phases)
        }

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        return with_architecture(values)

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


TrainingRun = Annotated[LocalizerRun | ANSMRun, Field(discriminator="kind")]


class _Document(BaseModel):
    run: TrainingRun


MODELS: dict[str, type[LocalizerRun] | type[ANSMRun]] = {"localizer": LocalizerRun, "ansm": ANSMRun}


def _complaint(error: ValidationError, given: Mapping[str, str], origin: str, kind: Any) -> str:
    """The first thing that is wrong: where it stands, what it is, and what to do."""
    found = error.errors()
    first, path = found[0], [str(part) for part in found[0]["loc"][1:]]
    if path and path[0] in MODELS:
        del path[0]
    if path[:1] == ["architecture"] and path[1:2] and path[1] in ARCHITECTURES:
        del path[1]  # pydantic names the member of a union there
    field = ".".join(path) or "document"
    for key, text in given.items():
        if f"{field}.".startswith(f"{key}.") or key.startswith(f"{field}."):
            origin = f"--set {text}"
    known = kind if isinstance(kind, str) and kind in MODELS else "ansm"
    said = first["msg"].removeprefix("Value error, ")
    message = f"{said} (given: {' '.join(str(first['input']).split())[:80]})"
    if first["type"] == "missing":
        message = "this field is required"
    elif first["type"] == "extra_forbidden":
        near = nearest(MODELS[known], path)
        message = "no such field" + (f"; did you mean {near}?" if near else "")
    elif first["type"].startswith("union_tag"):
        nested = path == ["architecture"]
        message = (
            f"name must be one of {', '.join(ARCHITECTURES)}"
            if nested
            else f"kind must be one of {', '.join(MODELS)}"
        )
    others = f"; {len(found) - 1} more after it" if len(found) > 1 else ""
    wayout = f"`ansm-fast train {known} --fields` lists the fields"
    if not path and first["type"] == "value_error":  # of several fields, which it names
        return f"{origin}: {said}{others}; {wayout}"
    return f"{origin}: {field}: {message}{others}; {wayout}"


def parse_run(
    values: Any, origin: str, given: Mapping[str, str] = MappingProxyType({})
) -> LocalizerRun | ANSMRun:
    """Validate a configuration; InputError naming the file, the field and what was given.

    Args:
        values: as they were read from YAML.
        origin: name of the file.
        given: path of each field that was overridden, and the text that overrode it.
    """
    try:
        return _Document.model_validate({"run": values}).run
    except ValidationError as error:
        kind = values.get("kind") if isinstance(values, dict) else None
        raise InputError(_complaint(error, given, origin, kind)) from error


def load_run(path: str | Path) -> LocalizerRun | ANSMRun:
    """Read a YAML configuration."""
    values = read_yaml(Path(path), "the bundled ones are in ansm_fast/training/configs")
    return parse_run(values, str(path))
