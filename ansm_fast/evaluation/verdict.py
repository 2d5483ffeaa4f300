"""How well a trained ANSM defends its localizer, in a table and a word: the end of a training.

With F the mean F1 over the forged validation images, taken at threshold 0.5::

    kept     = F(ANSM, unattacked) / F(no defence, unattacked)
    restored = mean over the mask-free attacks of F(ANSM, attacked) / F(no defence, unattacked)
    marked   = pristine area marked behind the ANSM, mean over the unattacked images and the
               mask-free attacks, less that of the unattacked images without a defence

=================  =================================================================================
"works in part"    kept >= 0.95, and over the unattacked images and the mask-free attacks the ANSM's
                   mean F exceeds those of no defence, of JPEG-75 and of marking everything
"works"            that, and kept >= 0.99, restored >= 0.85 and marked <= 0.03
"does not work"    else; also where the localizer itself finds hardly more than marking everything
                   (1.2 times), or mask-free attacks hardly harm it (without a defence it keeps 0.95
                   of its F over the unattacked images and them)
=================  =================================================================================

Mask-free attacks alone count: any other writes the mask into its noise, where a defence may read
it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.rows import Row
from ansm_fast.images.atomic import write_text

# Seen by the recipe's training, and not.
ATTACKS = ("none", "pgd", "hide", "wrong-mask", "difgsm", "tifgsm", "universal")
DEFENCES = ("none", "jpeg", "ansm")
EPS, STEPS = 4 / 255, 20

WORKS, IN_PART, FAILS = "works", "works in part", "does not work"
_KEPT, _KEPT_IN_PART, _RESTORED, _MARKED = 0.99, 0.95, 0.85, 0.03
# A localizer whose F1 is no better than this many times the floor only guesses.
_GUESS = 1.2
# Of the unattacked F1, as a mean without a defence: then there is nothing to restore.
_UNHARMED = 0.95


@dataclass(frozen=True)
class Verdict:
    """What the figures say.

    Attributes:
        word: "works", "works in part" or "does not work".
        kept, restored, marked: see above; ``marked`` is None without pristine images.
        jpeg, undefended, all_marked: the mean F of the others over the unattacked images and the
            mask-free attacks, ``ansm`` the ANSM's.
        reason: why it is no better, empty if it works.
        advice: what to do next.
    """

    word: str
    kept: float
    restored: float
    marked: float | None
    ansm: float
    jpeg: float
    undefended: float
    all_marked: float
    reason: str
    advice: str

    def sentence(self) -> str:
        """The verdict in one line."""
        why = f": {self.reason}" if self.reason else ""
        return (
            f"verdict: {self.word}{why}; of the unattacked F1 it keeps {self.kept:.3f} and "
            f"restores {self.restored:.3f} under mask-free attacks; {self.advice}"
        )


def judge(rows: Sequence[Row], next_preset: str | None = None) -> Verdict:
    """Judge by the rows of an evaluation.

    Args:
        rows: of ``make_rows``, with the attacks and defences of this module, and the floors.
        next_preset: the next larger preset, if there is one.
    """
    cells = {(row["attack"], row["defence"]): row for row in rows}
    free = [name for name in _attacks(rows) if name != "none" and CATALOGUE[name].mask_free]

    def f1(attack: str, defence: str) -> float:
        return float(cells[attack, defence]["f1"] or 0.0)

    def mean(defence: str) -> float:
        return float(np.mean([f1(attack, defence) for attack in ("none", *free)]))

    base, all_marked = f1("none", "none"), f1("none", "all-marked")
    kept = f1("none", "ansm") / max(base, 1e-9)
    restored = float(np.mean([f1(attack, "ansm") for attack in free])) / max(base, 1e-9)
    marked = None
    before = cells["none", "none"]["area_pristine"]
    if before is not None:
        areas = [cells[attack, "ansm"]["area_pristine"] for attack in ("none", *free)]
        marked = float(np.mean(areas)) - before
    means = {defence: mean(defence) for defence in DEFENCES}
    best_other = max(means["none"], means["jpeg"], all_marked)
    longer = f"train longer (--preset {next_preset})" if next_preset else "train longer"
    reason = ""
    if base < _GUESS * all_marked:
        word, reason = FAILS, "the localizer itself finds hardly more than marking everything"
        advice = "train the localizer further, or give images of the kind that it knows"
    elif means["none"] > _UNHARMED * base:
        word, reason = FAILS, "these attacks hardly harm the localizer: nothing is to be restored"
        advice = "use it as it is"
    elif kept >= _KEPT_IN_PART and means["ansm"] > best_other:
        reason, advice = _shortfall(kept, restored, marked, longer)
        word = IN_PART if reason else WORKS
    elif kept < _KEPT_IN_PART:
        word, reason = FAILS, "unattacked images lose too much"
        advice = f"{longer}, or raise mgr.weight_orig"
    else:
        name = "JPEG-75" if means["jpeg"] >= max(means["none"], all_marked) else "no defence"
        word, reason = FAILS, f"{name} is as good"
        advice = f"{longer}, or give more images; until then use {name}"
    return Verdict(
        word,
        round(kept, 4),
        round(restored, 4),
        None if marked is None else round(marked, 4),
        round(means["ansm"], 4),
        round(means["jpeg"], 4),
        round(means["none"], 4),
        round(all_marked, 4),
        reason,
        advice,
    )


def _shortfall(kept: float, restored: float, marked: float | None, longer: str) -> tuple[str, str]:
    if restored < _RESTORED:
        return f"less than {_RESTORED} is restored", f"{longer}, or give more images"
    if kept < _KEPT:
        return f"less than {_KEPT} is kept", f"{longer}, or raise mgr.weight_orig"
    if marked is not None and marked > _MARKED:
        reason = f"it marks {marked:.2f} more of pristine images"
        return reason, f"{longer} with more pristine images"
    return "", "defend images with it, and measure on some of another source"


def _attacks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["attack"] for row in rows))


def markdown(verdict: Verdict, rows: Sequence[Row], images: str) -> str:
    """The table and the verdict."""
    titles = {"none": "no defence", "jpeg": "JPEG-75", "ansm": "ANSM"}
    cells = {(row["attack"], row["defence"]): row for row in rows}
    lines = [
        f"F1 on {images}, attacks within 4/255 of {STEPS} steps; in brackets the share of pristine "
        "images that is marked.",
        "",
        "| attack | in training | " + " | ".join(titles.values()) + " | all marked forged |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for attack in _attacks(rows):
        free = " ‡" if CATALOGUE[attack].mask_free and attack != "none" else ""
        known = cells[attack, "ansm"].get("seen")
        seen = "–" if known is None else "yes" if known else "no"
        columns = [_figures(cells[attack, defence]) for defence in titles]
        lines.append(
            f"| {CATALOGUE[attack].title}{free} | {seen} | {' | '.join(columns)} | "
            f"{verdict.all_marked:.3f} |"
        )
    return "\n".join([*lines, "", "‡ made without the forgery's mask.", "", verdict.sentence(), ""])


def _figures(row: Mapping[str, Any]) -> str:
    area = row.get("area_pristine")
    text = "–" if row["f1"] is None else f"{row['f1']:.3f}"
    return text if area is None else f"{text} ({100 * area:.1f} %)"


def write_verdict(
    folder: Path, verdict: Verdict, rows: Sequence[Row], images: str, command: str
) -> None:
    """Write ``folder/verdict.json`` and ``folder/verdict.md``.

    Raises:
        OSError: the folder cannot be written to.
    """
    document = {
        "verdict": asdict(verdict),
        "command": command,
        "eps": EPS,
        "steps": STEPS,
        "rows": list(rows),
    }
    write_text(folder / "verdict.json", json.dumps(document, indent=2) + "\n")
    write_text(folder / "verdict.md", markdown(verdict, rows, images))
