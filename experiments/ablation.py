"""What each part of the method is worth: FFA only, MgR only, both, and plain pixel MSE; where FFA
should align; and the parts of the ANSM that detects on two views.

    python experiments/ablation.py experiments/ablation.yaml HELD_OUT -o FILE.json
    python experiments/ablation.py experiments/ablation.yaml HELD_OUT -o FILE.json --vary taps
    python experiments/ablation.py experiments/parts.yaml HELD_OUT -o FILE.json --vary parts

Trains every variant with every seed from one short configuration, alike in all but what its name
says, and evaluates each on HELD_OUT (images/ and masks/), undefended figures beside it. Of a single
view there is no detection stage and no auxiliary head: they would hide what the objectives do. Of
two views, variants that detect alike share one detector for each seed. Attacked images are shared
by all runs; runs that are done are not repeated, one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from result_table import markdown, write_result
from scipy import stats  # type: ignore[import-untyped]

from ansm_fast.data import FolderDataset
from ansm_fast.errors import InputError
from ansm_fast.evaluation import FLOORS, Protocol, evaluate
from ansm_fast.localizers import TrainableLocalizer, load_localizer
from ansm_fast.models import load_ansm
from ansm_fast.models.checkpoint import lineage
from ansm_fast.training.ansm import train_ansm
from ansm_fast.training.config import ANSMRun, parse_run

ATTACKS = ("none", "pgd", "fgsm", "hide", "wrong-mask", "own-prediction", "noise")
# Made anew for every run, so on fewer images.
ADAPTIVE = ("adaptive",)


def variants(
    vary: str, steps: int, localizer: TrainableLocalizer, detect_steps: int = 0
) -> dict[str, dict[str, Any]]:
    """Overrides of the common configuration, by name."""
    if vary == "taps":
        # Every level of the localizer alone, then the ones that are aligned by default together.
        levels = [f"body.{level}" for level in ("down1", "down2", "down3", "down4", "up3", "up2")]
        groups = {level: [level] for level in levels} | {"default": list(localizer.taps)}
        return {name: {"ffa": {"steps": steps, "taps": taps}} for name, taps in groups.items()}
    if vary == "parts":
        return {
            "FFA, then MgR": {},
            "FFA only": {"ffa": {"steps": steps - detect_steps}},
            "MgR only": {"ffa": {"steps": 0}},
            "no map of what was attacked": {"attacked_map": False},
            "no renewal": {"renew_every": 0},
            "no compressed view": {"jpeg_quality": 0, "jpeg_blur": 0.0},
        }
    return {
        "FFA only": {"ffa": {"steps": steps}},
        "MgR only": {"ffa": {"steps": 0}},
        "FFA then MgR": {"ffa": {"steps": steps // 3}},
        "pixel MSE": {"objective": "pixel_mse"},
    }


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for key, value in changes.items():
        result[key] = result.get(key, {}) | value if isinstance(value, dict) else value
    return result


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Mean with the 95 % interval of Student's t over seeds, and the values themselves."""
    mean = float(np.mean(values))
    half = 0.0
    if len(values) > 1:
        half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    low, high = round(mean - half, 4), round(mean + half, 4)
    return {"mean": round(mean, 4), "low": low, "high": high, "seeds": values}


def run_one(values: dict[str, Any], out: Path) -> Path:
    """The trained checkpoint of one configuration, made now or before."""
    run = parse_run(values, out.name)
    assert isinstance(run, ANSMRun)
    finished = out / "ansm.safetensors"
    if finished.exists():
        made_with = parse_run(lineage(finished, "ansm")["config"], str(finished))
        if made_with != run:
            raise InputError(
                f"{finished} was trained with another configuration or for other steps; give "
                "another folder with --runs, or remove this one"
            )
        return finished
    out.mkdir(parents=True, exist_ok=True)
    return train_ansm(run, out)


def stages(values: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Split a configuration into the detection alone, and what learns to write after it; None and
    the whole where it has no detection stage."""
    steps = values.get("detect", {}).get("steps", 0)
    if not steps:
        return None, values
    # The writer is not asked before: what concerns it alone makes no other detector.
    alone = {"steps": steps, "validate_every": steps, "ffa": {"steps": 0}, "attacked_map": True}
    rest = values["steps"] - steps
    writing = {"steps": rest, "validate_every": rest, "detect": {"steps": 0}}
    return merged(values, alone), merged(values, writing)


def run_all(
    values: dict[str, Any], found: dict[str, dict[str, Any]], runs: Path, seed: int
) -> Iterator[tuple[str, Path]]:
    """The name and the trained checkpoint of every variant, one after the other."""
    detectors: list[tuple[dict[str, Any], Path]] = []
    for name, changes in found.items():
        folder = runs / f"{name.replace(' ', '_')}-{seed}"
        # The attack cache belongs to the data, not to the run: one for all seeds.
        detection, rest = stages(merged(values, changes | {"seed": seed}))
        if detection is None:
            yield name, run_one(rest, folder)
            continue
        path = next((path for known, path in detectors if known == detection), None)
        if path is None:
            path = run_one(detection, folder.with_name(f"{folder.name}-detector"))
            detectors.append((detection, path))
        yield name, run_one(merged(rest, {"initial": str(path)}), folder)


def table(document: dict[str, Any]) -> str:
    """Markdown: F1 by variant and attack; the area marked on pristine images in brackets."""
    rows = []
    for name, row in document["variants"].items():
        cells = []
        for attack in document["attacks"]:
            f1, area = row[attack].get("f1"), row[attack].get("area_pristine")
            interval = ""
            if f1 and len(f1["seeds"]) > 1:
                interval = f" ({f1['low']:.2f} to {f1['high']:.2f})"
            share = f" [{area['mean']:.3f}]" if area else ""
            cells.append((f"{f1['mean']:.3f}" if f1 else "–") + interval + share)
        rows.append([name, *cells])
    return markdown(["variant", *document["attacks"]], rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON; .md beside it")
    parser.add_argument("--vary", choices=("objectives", "taps", "parts"), default="objectives")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--cache", type=Path, default=Path("cache/ablation"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every run, instead of the configuration's")
    parser.add_argument("--limit", type=int, default=60, help="held-out images")
    parser.add_argument(
        "--adaptive-limit",
        type=int,
        default=24,
        help="images that adaptive attacks are made on; 0: none are",
    )
    parser.add_argument("--eps", type=int, default=4, help="grey levels")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    values = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    if options.steps:
        values |= {"steps": options.steps, "validate_every": options.steps}
    if values.get("threads"):
        torch.set_num_threads(values["threads"])
    localizer = load_localizer(values.get("localizer"))
    dataset = FolderDataset(options.held_out / "images", options.held_out / "masks")
    protocols = [
        Protocol(
            attacks=attacks,
            eps=[options.eps / 255],
            defences=("none", "ansm"),
            limit=limit,
            adaptive_steps=20,  # variants are compared with one another, not measured to the end
            adaptive_restarts=1,
        )
        for attacks, limit in ((ATTACKS, options.limit), (ADAPTIVE, options.adaptive_limit))
        if limit
    ]
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    detect_steps = values.get("detect", {}).get("steps", 0)
    found = variants(options.vary, values["steps"], localizer, detect_steps)
    for seed in range(options.seeds):
        for name, path in run_all(values, found, options.runs, seed):
            ansm = load_ansm(path)
            rows = [
                row
                for protocol in protocols
                for row in evaluate(dataset, localizer, ansm, protocol, options.cache)
            ]
            for row in (one for one in rows if one["defence"] not in FLOORS):
                kind = name if row["defence"] == "ansm" else "no defence"
                cell = figures.setdefault(kind, {}).setdefault(row["attack"], {})
                for key in ("f1", "area_pristine"):
                    if row[key] is None or (kind == "no defence" and cell.get(key)):
                        continue  # no such image among so few, or measured before
                    cell.setdefault(key, []).append(row[key])
            document = {
                "attacks": [attack for protocol in protocols for attack in protocol.attacks],
                "eps": options.eps / 255,
                "images": min(options.limit, len(dataset)),
                "images_adaptive": min(options.adaptive_limit, len(dataset)),
                "localizer": localizer.fingerprint,
                "config": values,
                "variants": {
                    kind: {
                        attack: {key: over_seeds(measured) for key, measured in cell.items()}
                        for attack, cell in row.items()
                    }
                    for kind, row in figures.items()
                },
            }
            write_result(options.output, document, table(document))
            print(table(document), flush=True)


if __name__ == "__main__":
    main()
