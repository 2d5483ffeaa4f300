"""Was this image attacked? How well an ANSM's attack scores tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ansm_fast.evaluation.bootstrap import Samples, interval, resampled_counts
from ansm_fast.evaluation.catalogue import CATALOGUE
from ansm_fast.evaluation.defences import Defence
from ansm_fast.evaluation.harmless import VERSIONS
from ansm_fast.evaluation.provenance import Training
from ansm_fast.evaluation.rows import Measurement, Row

FALSE_ALARMS = 0.01


def threshold_at(scores: ArrayLike, rate: float = FALSE_ALARMS) -> float:
    """Return the lowest score from which on at most ``rate`` of these are called attacked.

    Of fewer images than ``1 / rate`` that is none of them.
    """
    falling = np.sort(np.asarray(scores, np.float64))[::-1]
    allowed = math.floor(rate * len(falling) + 1e-9)
    if allowed >= len(falling):
        return float(falling[-1])
    return float(np.nextafter(falling[allowed], np.inf))


def weighted_auc(
    positives: ArrayLike, negatives: ArrayLike, of_positives: ArrayLike, of_negatives: ArrayLike
) -> Samples:
    """Probability that a positive scores above a negative, ties counting half, for many weightings.

    Args:
        positives, negatives: scores (p,) and (n,).
        of_positives, of_negatives: weights (r, p) and (r, n), >= 0.

    Returns:
        (r,); NaN where all positives or all negatives have weight 0.
    """
    scores = np.concatenate([np.asarray(positives, float), np.asarray(negatives, float)])
    above, below = np.asarray(of_positives, float), np.asarray(of_negatives, float)
    order = np.argsort(scores)
    starts = np.append(0, np.flatnonzero(np.diff(scores[order])) + 1)
    # One column a distinct score: how much weight of either kind it has.
    blank = (np.zeros_like(below), np.zeros_like(above))
    here = np.add.reduceat(np.concatenate([above, blank[0]], 1)[:, order], starts, 1)
    others = np.add.reduceat(np.concatenate([blank[1], below], 1)[:, order], starts, 1)
    lower = np.cumsum(others, 1) - others
    pairs = above.sum(1) * below.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((here * (lower + others / 2)).sum(1) / pairs)


def _auc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    weights = (np.ones((1, len(one))) for one in (positives, negatives))
    return round(float(weighted_auc(positives, negatives, *weights)[0]), 4)


def _figures(
    scores: Sequence[float],
    clean: Sequence[float],
    harmless: Sequence[float],
    threshold: float,
    seed: int,
) -> Row:
    limit = threshold_at(clean)
    # An image and its attacked version are drawn together.
    drawn = [weighted_auc(scores, clean, w, w) for w in resampled_counts(len(clean), seed=seed)]
    low, high = interval(np.concatenate(drawn)) or (math.nan, math.nan)
    values = np.asarray(scores)
    return {
        "n": len(scores),
        "score": round(float(values.mean()), 4),
        "auc": _auc(scores, clean),
        "auc_low": round(low, 4),
        "auc_high": round(high, 4),
        "auc_harmless": _auc(scores, [*clean, *harmless]),
        "called_1_percent": round(float((values >= limit).mean()), 4),
        "threshold_1_percent": round(limit, 4),
        "called": round(float((values >= threshold).mean()), 4),
        "threshold": threshold,
    }


def attacked_rows(
    measured: Measurement,
    defences: Sequence[Defence],
    training: Mapping[str, Training] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Make the rows of "attacked?": of every defence that detects attacks the unattacked images,
    their harmless changes, and every attack and budget.

    Each has set, defence, image ("none", a harmless change or an attack), kind ("unattacked",
    "harmless" or "attack"), eps; n, the mean score; auc against the unattacked images, with its
    paired 95 % interval, and auc_harmless against these and all harmless changes; the share that is
    called attacked at the lowest score from which at most 1 % of the unattacked images are, and at
    the ANSM's own threshold; ``seen``, whether training saw the attack, None where that is unknown.

    Args:
        measured: of ``measure``.
        defences: the columns that were measured.
        training: by defence, what the training of an ANSM saw.
        seed: of the bootstrap.
    """
    rows: list[Row] = []
    for defence in defences:
        records = measured.harmless.get(defence.name)
        if not records:
            continue
        trained = (training or {}).get(defence.name)
        versions = {name: [record[name] for record in records] for name in VERSIONS}
        clean = versions.pop("none")
        harmless = [score for scores in versions.values() for score in scores]
        found = [("none", "unattacked", 0.0, clean)]
        found += [(name, "harmless", 0.0, scores) for name, scores in versions.items()]
        for cell in measured.cells:
            if cell.defence == defence.name and cell.attack != "none":
                scores = [record["attack_score"] for record in cell.records]
                found.append((cell.attack, "attack", cell.eps, scores))
        for name, kind, eps, scores in found:
            about = {"set": measured.name, "defence": defence.name, "image": name, "kind": kind}
            figures = _figures(scores, clean, harmless, defence.attack_threshold, seed)
            seen = trained.saw(CATALOGUE[name]) if trained and kind == "attack" else None
            rows.append(about | {"eps": eps} | figures | {"seen": seen})
    return rows
