"""Attacks × defences on one set of images: each image is attacked once, then every defence is
scored.

Adaptive attacks go through the defence that is scored, so there each defence has images of its
own. Attacked images are 8-bit files, as an attacker would hand them in, in the cache folder; a
second run with the same images, attack and localizer makes none of them again, and scores nothing
again. On a pristine image the untargeted attack paints (its mask is empty), hide keeps the mask
empty, and wrong-mask paints another image's mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ansm_fast.attacks import Attack, CountedLocalizer, as_found
from ansm_fast.attacks.checks import check_logits
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import Work, write_attacked_set
from ansm_fast.errors import InputError
from ansm_fast.evaluation.cache import cache_folder
from ansm_fast.evaluation.catalogue import catalogue_entry
from ansm_fast.evaluation.defences import (
    DEFENCES,
    Defence,
    make_defence,
    make_defences,
    weights_identity,
)
from ansm_fast.evaluation.differentiable import DRAWS
from ansm_fast.evaluation.metrics import Scores, score
from ansm_fast.evaluation.quality import image_quality
from ansm_fast.evaluation.rows import Cell, Measurement, Row, make_rows
from ansm_fast.evaluation.score_store import ScoreStore, content_key
from ansm_fast.evaluation.targets import Systems, Target
from ansm_fast.images.masks import read_mask
from ansm_fast.images.photograph import Image
from ansm_fast.images.pixels import read_rgb
from ansm_fast.images.tensors import to_tensor

Pairs = Mapping[str, tuple[Path, Path]]


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Attributes:
        attacks: of ``ATTACKS``; "none" are the images as they are.
        eps: budgets in units of the image.
        steps: of the iterative attacks; their step size is eps/4, at least eps/steps.
        defences: of ``DEFENCES``.
        seed: of random starts and of the intervals.
        limit: only the first so many images.
        batch_size: of the attacks; changes the figures by rounding alone.
    """

    attacks: Sequence[str]
    eps: Sequence[float]
    steps: int = 20
    defences: Sequence[str] = DEFENCES
    seed: int = 0
    limit: int | None = None
    batch_size: int = 8

    def runs(self) -> list[tuple[str, Attack | None]]:
        """Every attack at every eps; the unattacked images once."""
        found: list[tuple[str, Attack | None]] = []
        for name in self.attacks:
            entry = catalogue_entry(name)
            for eps in dict.fromkeys(self.eps):
                if not 0 <= eps <= 1:
                    raise InputError(f"eps must be in [0, 1], got {eps}; try 4/255")
                attack = entry.make(eps, self.steps, self.seed)
                if attack is not None or (name, None) not in found:
                    found.append((name, attack))
        return found


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
    """Score one image behind a defence; also how much the defence changed it."""
    image = read_rgb(image_path) if image is None else image
    defended = defence(image)
    found = probability(localizer, defended, device)
    if not bool(torch.isfinite(found).all()):
        raise InputError(
            f"the localizer gives no finite mask for {image_path} behind {defence.title}; "
            "give another localizer or leave the image out"
        )
    return score(found, torch.from_numpy(read_mask(mask_path))) | image_quality(defended, image)


class _Scorer:
    """Scores images behind defences, and remembers."""

    def __init__(self, systems: Systems, defences: Sequence[Defence], cache: Path) -> None:
        self._systems, folder = systems, cache / "scores"
        self._localizer = CountedLocalizer(systems.localizer)
        mark = weights_identity(systems.localizer)
        self._stores = {
            one.identity: ScoreStore(folder, f"{mark} behind {one.identity}") for one in defences
        }
        self._noise = ScoreStore(folder, "attacked against original")

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


def measure(
    dataset: FolderDataset,
    systems: Systems,
    protocol: Protocol,
    cache: Path,
    *,
    name: str = "",
    on_start: Callable[[str, int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Measurement:
    """Score every image under every attack behind every defence; see ``evaluate``.

    Args:
        name: of the image set.
        on_note: called with a line about what was left out.
    """
    runs = protocol.runs()
    count = len(dataset) if protocol.limit is None else min(protocol.limit, len(dataset))
    dataset.check(count)
    start = on_start or (lambda title, steps: None)
    advance = on_progress or (lambda done: None)
    note = on_note or (lambda line: None)
    nothing = make_defence("none")
    scorer = _Scorer(systems, [*systems.defences, nothing], cache)
    originals = dict(zip(dataset.names, dataset.pairs, strict=True))
    names = dataset.names[:count]

    def attacked(target: Target, attack: Attack) -> Pairs:
        budget = f"{round(attack.eps * 255, 3):g}/255"
        start(f"attack {target.label} {budget} {target.behind}".rstrip(), count)
        if target.randomized:
            attack = replace(attack, eot=DRAWS)
        folder = cache_folder(cache, target.label, attack, dataset, target.identity)
        work = Work()
        made = write_attacked_set(
            dataset,
            target.function,
            attack,
            folder,
            localizer_fingerprint=target.fingerprint,
            limit=count,
            batch_size=protocol.batch_size,
            device=systems.device,
            on_progress=advance,
            work=work,
        )
        if work.stuck:
            note(
                f"{target.label} {budget} {target.behind}: the gradient of {work.stuck} of "
                f"{work.images} images was 0 at every step; what was scored there is the start"
            )
        return dict(zip(made.names, made.pairs, strict=True))

    def scored(target: Target, title: str, pairs: Pairs, with_noise: bool) -> list[list[Scores]]:
        start(f"score {title}", count)
        table: list[list[Scores]] = []
        for one in names:
            scores = scorer.scores(pairs[one], target.defences)
            if with_noise:
                noise = scorer.noise(pairs[one][0], originals[one][0])
                scores = [found | noise for found in scores]
            table.append(scores)
            advance(1)
        return [list(column) for column in zip(*table, strict=True)]

    found = Measurement(name, [], [])
    start("score originals", count)
    for one in names:
        found.baseline += scorer.scores(originals[one], [nothing])
        advance(1)
    for attack_name, attack in runs:
        targets = systems.targets(attack_name)
        if not targets:
            note(f"{attack_name} left out: it is made on a second localizer; give --surrogate")
        cells: dict[str, Cell] = {}
        for target in (target for target in targets if target.defences):
            pairs = originals if attack is None else attacked(target, attack)
            columns = scored(target, attack_name, pairs, attack is not None)
            for defence, records in zip(target.defences, columns, strict=True):
                cells[defence.name] = Cell(
                    attack_name,
                    attack.eps if attack is not None else 0.0,
                    defence.name,
                    records,
                    [pairs[one][0] for one in names],
                )
        order = [defence.name for defence in systems.defences]
        found.cells += sorted(cells.values(), key=lambda cell: order.index(cell.defence))
    return found


def evaluate(
    dataset: FolderDataset,
    localizer: Any,
    ansm: Any,
    protocol: Protocol,
    cache: Path,
    *,
    surrogate: Any = None,
    own_defences: Sequence[Defence] = (),
    on_start: Callable[[str, int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """Attack and score a localizer behind each defence.

    Gives rows of attack, eps, defence, f1, iou, auc, n and more; ``rows.make_rows`` lists them.

    Args:
        dataset: images and masks; a mask without a forged pixel marks a pristine image.
        localizer: attacked and scored, in eval mode; afterwards as it was found.
        ansm: for the defence "ansm"; several as a dict by name.
        cache: folder of the attacked images and of the scores.
        surrogate: another localizer, on which transferred attacks are made.
        own_defences: columns beside those of the protocol.
        on_start: called with a title and a number of steps before each part of the work.
        on_progress: called with the number of steps done.

    Raises:
        InputError: an unknown attack or defence, eps out of range, unreadable images, or
            a cache of other images. LocalizerError: a localizer that gives no logits or no
            gradient, or a defence of one's own that gives no 8-bit images.
    """
    defences = [*make_defences(protocol.defences, ansm), *own_defences]
    systems = Systems(localizer, defences, surrogate)
    measured = measure(
        dataset, systems, protocol, cache, on_start=on_start, on_progress=on_progress
    )
    return make_rows(measured, seed=protocol.seed)
