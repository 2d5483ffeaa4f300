"""What an ANSM's training saw, from the record in its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansm_fast.evaluation.catalogue import CATALOGUE, Entry
from ansm_fast.models import ansm_path
from ansm_fast.models.checkpoint import lineage, unreadable_provenance

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """A part of an ANSM's record.

    Attributes:
        attacks: (name, objective, norm) of the attacks in training, whatever their budgets and
            steps; None if there is no record.
        adaptive: objectives of attacks in training that went through the ANSM.
        localizer: fingerprint of the localizer that it was trained for; None if not recorded.
        attacked: fingerprints of all localizers whose noise its training saw.
        surrogate: fingerprint of the localizer on which transferred attacks are made.
    """

    attacks: frozenset[tuple[str, str, str]] | None = None
    adaptive: frozenset[str] = frozenset()
    localizer: str | None = None
    attacked: frozenset[str] = frozenset()
    surrogate: str | None = None

    def saw(self, entry: Entry) -> bool | None:
        """Tell whether training saw such an attack; None without a record or without an attack."""
        if self.attacks is None or entry.attack is None:
            return None
        if entry.worst_of:
            return all(self.saw(CATALOGUE[one]) for one in entry.worst_of)
        if entry.made_on in ("victim", "surrogate"):
            made_there = entry.made_on == "victim" or self.surrogate in self.attacked
            return made_there and (entry.attack, entry.objective, entry.norm) in self.attacks
        return entry.made_on == "defence" and entry.objective in self.adaptive

    def document(self) -> dict[str, Any]:
        """For the JSON file."""
        attacks = None if self.attacks is None else sorted(map(list, self.attacks))
        return {
            "trained_for": self.localizer,
            "attacks_in_training": attacks,
            "adaptive_in_training": sorted(self.adaptive),
            "localizers_in_training": sorted(self.attacked),
        }


def _runs(record: Record) -> Iterator[Record]:
    """The run that made the checkpoint and those that it began from."""
    while record:
        yield record
        earlier = record.get("initial")
        record = earlier if isinstance(earlier, Mapping) else {}


def training(provenance: Record) -> Training:
    """Read a checkpoint's provenance: its config, localizer, and the run that it began from.

    An attack of weight 0 was not seen; one with a true field "adaptive" went through the ANSM.
    """
    attacks: set[tuple[str, str, str]] = set()
    adaptive: set[str] = set()
    attacked: set[str] = set()
    known, localizer = False, None
    for run in _runs(provenance):
        localizer = localizer or run.get("localizer")
        attacked.update(filter(None, (run.get("localizer"), *run.get("other_localizers", ()))))
        config = run.get("config", {})
        online = config.get("online", {})
        known = known or "attacks" in config
        listed = [*config.get("attacks", ())]
        if online.get("share"):
            listed += online.get("attacks", ())
        for one in listed:
            objective = one.get("objective", "untargeted")
            if not one.get("weight", 1):
                continue
            if one.get("adaptive"):
                adaptive.add(objective)
            else:
                attacks.add((one["name"], objective, one.get("norm", "linf")))
    return Training(
        frozenset(attacks) if known else None, frozenset(adaptive), localizer, frozenset(attacked)
    )


def read_training(path: str | Path | None = None) -> Training:
    """Read ``training`` of an ANSM's checkpoint, which is found as ``load_ansm`` finds it.

    Raises:
        InputError: as ``load_ansm``, or the record is none.
    """
    file = ansm_path(path)
    record = lineage(file, "ansm")
    try:
        return training(record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise unreadable_provenance(file) from error
