"""The README.md of an attacked set: what it is, how it was made, what it is good for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ansm_fast import json_lines
from ansm_fast.images.atomic import write_text

CARD = "README.md"

_OBJECTIVES = {
    "untargeted": "away from the true mask",
    "hide": "towards the empty mask",
    "wrong-mask": "away from the mask of another image",
    "own-prediction": "away from the localizer's own mask of the original",
}


def _levels(values: Sequence[float]) -> str:
    found = 255 * np.array(values)
    return f"{found.mean():.2f} (from {found.min():.2f} to {found.max():.2f})"


def data_card(card: dict[str, Any], records: Sequence[dict[str, Any]], command: str) -> str:
    """Markdown.

    Args:
        card: content of attack.json. records: lines of metadata.jsonl. command: that made the set.
    """
    attack = card["attack"]
    settings = ", ".join(f"{key} {value}" for key, value in attack.items() if key != "name")
    within = sum(record["within_budget"] for record in records)
    objective = _OBJECTIVES.get(attack["objective"], attack["objective"])
    return f"""# Attacked images: {attack["name"]}, {attack["objective"]}

{len(records)} images to which noise was added that is meant to blind a forgery localizer. Made by

```
{command}
```

| what | value |
|---|---|
| attack | {attack["name"]}: {settings} |
| objective | drives the localizer {objective} |
| attacked localizer | fingerprint `{card["localizer"]}` |
| largest noise of a pixel, in grey levels | {_levels([one["linf"] for one in records])} |
| root mean square of the noise, in grey levels | {_levels([one["rms"] for one in records])} |
| within the budget of {255 * attack["eps"]:g} grey levels | {within} of {len(records)} |

`images/` holds the attacked images (8-bit PNG; the noise was measured after rounding), `masks/` the
true masks (bright is forged, all dark is pristine), `metadata.jsonl` one line an image: settings,
measured noise, source and digest of the source. `attack.json` holds the settings of the whole set,
`universal.safetensors`, where it is there, the one tile of noise that all images share.
`sha256sum -c SHA256SUMS` or `ansm-fast data verify` checks every file.

## Intended use

Research on the defence of forensic localizers: evaluation (`ansm-fast evaluate`) and training. The
set shows what one attack does to one localizer; it says nothing of others. An attack on the true
mask writes that mask into its noise: what a defence restores on such a set alone is no proof of it.

## Licence

Every image is derived from the one that `source` names in its line, and inherits its licence.
"""


def write_data_card(folder: str | Path, command: str) -> Path:
    """Write ``folder/README.md`` from attack.json and metadata.jsonl.

    Raises:
        OSError: the folder cannot be written to. ValueError: no image in it.
    """
    folder = Path(folder)
    card = json.loads((folder / "attack.json").read_text(encoding="utf-8"))
    records = [one for one in json_lines.read(folder / "metadata.jsonl") if "linf" in one]
    if not records:
        raise ValueError(f"{folder} holds no attacked image")
    write_text(folder / CARD, data_card(card, records, command))
    return folder / CARD
