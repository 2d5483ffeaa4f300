"""What ``ansm-fast train`` was given, and the configuration that this makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansm_fast.errors import InputError

if TYPE_CHECKING:
    from ansm_fast.training.config import ANSMRun, LocalizerRun

PRESETS = ("quick", "standard", "thorough")
_CONFIGS = Path(__file__).parent.parent / "training" / "configs"
_DEFAULT = {"localizer": "localizer", "ansm": "standard"}


@dataclass(frozen=True)
class Arguments:
    """Of one command, as they were given."""

    kind: str
    output: Path | None
    config: str | None = None
    preset: str | None = None
    localizer: str | None = None
    data: Path | None = None
    device: str | None = None
    overrides: tuple[str, ...] = ()
    processes: int = 1
    print_config: bool = False

    def of_a_process(self) -> list[str]:
        """The command line of one of several processes; the one that starts them reports."""
        found = ["train", self.kind, "-o", str(self.output)]
        for name in ("config", "preset", "localizer", "data", "device"):
            value = getattr(self, name)
            if value is not None:
                found += [f"--{name}", str(value)]
        for override in self.overrides:
            found += ["--set", override]
        return found + (["--set", "report=false"] if self.kind == "ansm" else [])

    def config_file(self) -> Path:
        """The file of the configuration: one of the package's by its name, or the user's."""
        name = self.config or self.preset or _DEFAULT[self.kind]
        bundled = _CONFIGS / f"{name}.yaml"
        if self.config is None or (_is_name(name) and bundled.exists()):
            return bundled
        return Path(name)

    def used_preset(self) -> str | None:
        """The preset, however it was named."""
        name = self.config_file().stem
        return name if name in PRESETS else None


def _is_name(config: str) -> bool:
    """No path, and no file of this name lies here."""
    return Path(config).name == config and not Path(config).exists()


def _folders(data: Path) -> dict[str, str | None]:
    """What is trained and validated on, of a folder with images/ and masks/, or with train/ and
    validation/ of these."""
    if (data / "images").is_dir():
        return {"train": str(data), "validation": None}
    if (data / "train" / "images").is_dir():
        validation = data / "validation"
        found = str(validation) if (validation / "images").is_dir() else None
        return {"train": str(data / "train"), "validation": found}
    reason = "holds neither images/ and masks/ nor train/ and validation/ with these in each"
    raise InputError(
        f"--data {data} {reason if data.is_dir() else 'is no folder'}; give one that does, or "
        "make one with ansm-fast data synthesize"
    )


def _read(arguments: Arguments) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration with what the options change, and which of its fields --set did."""
    from ansm_fast.training.config import MODELS
    from ansm_fast.training.overrides import apply_override
    from ansm_fast.training.yaml_file import read_yaml

    kind, path = arguments.kind, arguments.config_file()
    names = ", ".join(sorted(file.stem for file in _CONFIGS.glob("*.yaml")))
    values = read_yaml(path, f"configs that work are in {_CONFIGS}, to be given by name: {names}")
    found = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(values, dict) or found != kind:
        other = f"; ansm-fast train {found} takes it" if str(found) in MODELS else ""
        raise InputError(f"{path} is not a config of kind {kind!r}{other or '; give one that is'}")
    if arguments.data is not None:
        given_data = values.get("data")
        before = given_data if isinstance(given_data, dict) else {}
        values["data"] = {**before, **_folders(arguments.data)}
    for name in ("localizer", "device"):
        value = getattr(arguments, name)
        if value is not None:
            values[name] = value
    given = {apply_override(values, text, MODELS[kind]): text for text in arguments.overrides}
    if values["kind"] != kind:
        raise InputError(f"--set {given['kind']}: kind must be {kind} here; leave it out")
    return values, given


def parse(arguments: Arguments) -> tuple[LocalizerRun | ANSMRun, set[str]]:
    """The run, and which of its fields the command fills in."""
    from ansm_fast.training.config import parse_run

    values, given = _read(arguments)
    filled: set[str] = set()
    if arguments.kind == "ansm" and not {"attack_cache", "pool"} & values.keys():
        values["attack_cache"] = str((arguments.output or Path()) / "attack_cache")
        filled.add("attack_cache")
    name = arguments.config or f"{arguments.config_file().stem}.yaml"
    return parse_run(values, name, given), filled


def presets(arguments: Arguments) -> dict[str, ANSMRun]:
    """The presets, by name, for the same localizer, data and device."""
    from ansm_fast.training.ansm_config import ANSMRun

    found: dict[str, ANSMRun] = {}
    for name in PRESETS:
        run, _ = parse(replace(arguments, config=None, preset=name, overrides=()))
        assert isinstance(run, ANSMRun)
        found[name] = run
    return found


def document(run: LocalizerRun | ANSMRun, filled: set[str]) -> str:
    """Return a run's configuration as YAML, which --config takes back, but for ``filled``."""
    import yaml

    settings = {key: value for key, value in run.settings().items() if key not in filled}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)
