"""One image behind one defence: what is found in it, and what is kept of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ansm_fast.attacks import CountedLocalizer, as_found
from ansm_fast.attacks.checks import check_logits
from ansm_fast.errors import InputError
from ansm_fast.evaluation.defences import Defence, weights_identity
from ansm_fast.evaluation.harmless import harmless_scores
from ansm_fast.evaluation.metrics import Scores, score
from ansm_fast.evaluation.quality import image_quality
from ansm_fast.evaluation.score_store import ScoreStore, content_key
from ansm_fast.evaluation.targets import Systems
from ansm_fast.images.masks import read_mask
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import read_rgb
from ansm_fast.images.tensors import to_tensor


@torch.inference_mode()
def probability(localizer: Any, image: Image, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return (H, W): the localizer's probability of a forgery, of an 8-bit image.

    The localizer is in eval mode for it, and then as it was found.

    Raises:
        LocalizerError: it gives no logits; see ``attacks.checks.check_logits``. NaN and infinity
            are left to the caller, who knows the image's name.
    """
    with as_found(localizer):
        seen = to_tensor(image[None]).to(device)
        logits = localizer(seen)
        known = isinstance(localizer, CountedLocalizer) and localizer.gives_logits
        check_logits(logits, seen, localizer, sure=known, finite=False)
    if isinstance(localizer, CountedLocalizer):
        localizer.gives_logits = True
    return torch.sigmoid(logits)[0, 0]


def score_image(
    localizer: Any,
    defence: Defence,
    image_path: Path,
    mask_path: Path,
    image: Image | None = None,
    device: torch.device | str = "cpu",
) -> Scores:
    """Score one image behind a defence; also how much the defence changed it, and how much it takes
    the image for attacked, if it can tell."""
    image = read_rgb(image_path) if image is None else image
    defended, attack_score = defence.defend(image)
    found = probability(localizer, defended, device)
    if not bool(torch.isfinite(found).all()):
        raise InputError(
            f"the localizer gives no finite mask for {image_path} behind {defence.title}; "
            "give another localizer or leave the image out"
        )
    scores = score(found, torch.from_numpy(read_mask(mask_path))) | image_quality(defended, image)
    return scores if attack_score is None else scores | {"attack_score": attack_score}


class Scorer:
    """Scores images behind defences, and remembers."""

    def __init__(self, systems: Systems, defences: Sequence[Defence], cache: Path) -> None:
        self._systems, folder = systems, cache / "scores"
        self._localizer = CountedLocalizer(systems.localizer)
        mark = weights_identity(systems.localizer)
        self._stores = {
            one.identity: ScoreStore(folder, f"{mark} behind {one.identity}") for one in defences
        }
        self._noise = ScoreStore(folder, "attacked against original")
        self._harmless = {
            one.identity: ScoreStore(folder, f"harmless changes by {one.identity}")
            for one in defences
            if one.detects is not None
        }

    def scores(self, pair: tuple[Path, Path], defences: Sequence[Defence]) -> list[Scores]:
        """Score one image behind each defence."""
        key = content_key(*pair)
        image = None
        for defence in defences:
            if self._stores[defence.identity].get(key) is None:
                image = read_rgb(pair[0]) if image is None else image
                found = score_image(self._localizer, defence, *pair, image, self._systems.device)
                self._stores[defence.identity].put(key, found)
        kept = [self._stores[defence.identity].get(key) for defence in defences]
        return [dict(scores) for scores in kept if scores is not None]

    def noise(self, attacked: Path, original: Path) -> Scores:
        """PSNR and SSIM of an attacked image against the original."""
        key = content_key(attacked, original)
        found = self._noise.get(key)
        if found is None:
            quality = image_quality(read_rgb(attacked), read_rgb(original))
            found = {f"{name}_attacked": value for name, value in quality.items()}
            self._noise.put(key, found)
        return found

    def harmless(self, path: Path, defence: Defence) -> Scores:
        """Attack scores of an image that nobody attacked: see ``harmless_scores``."""
        store, key = self._harmless[defence.identity], content_key(path)
        found = store.get(key)
        if found is None:
            found = harmless_scores(defence, read_rgb(path), seed=int(key, 16))
            store.put(key, found)
        return found
