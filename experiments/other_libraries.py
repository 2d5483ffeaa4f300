"""Does another library's PGD do what ours does, and is it defended as well?

    python experiments/other_libraries.py HELD_OUT -o results/experiments/other_libraries.json

Attacks HELD_OUT (images/ and masks/) with our PGD and with torchattacks' own through the adapter,
same eps, step size and steps, and scores both without a defence and behind the ANSM: F1 of forged
images, and the difference between the two with its 95 % interval, paired by image. torchattacks
imports torchvision, which has to fit the installed torch: pip install 'ansm-fast[attacks]'.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from ansm_fast.attacks import Attack
from ansm_fast.attacks.adapters import TorchattacksAttack
from ansm_fast.attacks.base import ConfiguredAttack
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import write_attacked_set
from ansm_fast.evaluation.bootstrap import mean_interval
from ansm_fast.evaluation.defences import make_defence
from ansm_fast.evaluation.scoring import score_image
from ansm_fast.images.atomic import write_text
from ansm_fast.localizers import load_localizer
from ansm_fast.models import load_ansm


def with_interval(values: np.ndarray) -> dict[str, float]:
    low, high = mean_interval(values) or (math.nan, math.nan)
    return {"mean": round(values.mean(), 4), "low": round(low, 4), "high": round(high, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("held_out", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("cache/other_libraries"))
    parser.add_argument("--localizer")
    parser.add_argument("--weights", type=Path, help="ANSM; the bundled one by default")
    parser.add_argument("--eps", type=int, default=4, help="grey levels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()

    localizer, ansm = load_localizer(options.localizer), load_ansm(options.weights)
    dataset = FolderDataset(options.held_out / "images", options.held_out / "masks")
    eps, alpha = options.eps / 255, options.eps / 255 / 4
    attacks: dict[str, ConfiguredAttack] = {
        "ours": Attack("pgd", eps, options.steps, alpha),
        "torchattacks": TorchattacksAttack("PGD", eps, alpha=alpha, steps=options.steps),
    }
    defences = {"none": make_defence("none"), "ansm": make_defence("ansm", ansm)}
    scores: dict[str, dict[str, np.ndarray]] = {}
    for name, attack in attacks.items():
        attacked = write_attacked_set(
            dataset,
            localizer,
            attack,
            options.cache / f"{name}-{options.eps}-{options.steps}-{localizer.fingerprint}",
            localizer_fingerprint=localizer.fingerprint,
            limit=options.limit,
        )
        scores[name] = {
            key: np.array(
                [
                    score_image(localizer, defence, *pair).get("f1", math.nan)
                    for pair in attacked.pairs
                ]
            )
            for key, defence in defences.items()
        }
    document: dict[str, object] = {
        "eps": eps,
        "alpha": alpha,
        "steps": options.steps,
        "localizer": localizer.fingerprint,
        "weights": ansm.fingerprint,
    }
    for key in defences:
        ours, theirs = (row[key][~np.isnan(row[key])] for row in scores.values())
        document[key] = {
            "n": len(ours),
            "ours": with_interval(ours),
            "torchattacks": with_interval(theirs),
            "difference": with_interval(theirs - ours),
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.output, json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
