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

from ansm_fast.attacks import Attack
from ansm_fast.data import FolderDataset
from ansm_fast.data.attacked_set import Work, write_attacked_set
from ansm_fast.errors import InputError
from ansm_fast.evaluation.cache import cache_folder
from ansm_fast.evaluation.catalogue import CATALOGUE, catalogue_entry
from ansm_fast.evaluation.defences import DEFENCES, Defence, make_defence, make_defences
from ansm_fast.evaluation.differentiable import DRAWS
from ansm_fast.evaluation.floors import floor_scores
from ansm_fast.evaluation.metrics import Scores
from ansm_fast.evaluation.rows import Cell, Measurement, Row, make_rows, worst_cells
from ansm_fast.evaluation.scoring import Scorer
from ansm_fast.evaluation.targets import Systems, Target
from ansm_fast.images.masks import read_mask

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
        adaptive_steps, adaptive_restarts: of the attacks through the defence that is scored, of
            which every image gets the best iterate of all restarts by the attack's own loss.
        harmless: also how much unattacked images look attacked, and after harmless changes; without
            it there are no ``attacked_rows``.
    """

    attacks: Sequence[str]
    eps: Sequence[float]
    steps: int = 20
    defences: Sequence[str] = DEFENCES
    seed: int = 0
    limit: int | None = None
    batch_size: int = 8
    adaptive_steps: int = 100
    adaptive_restarts: int = 3
    harmless: bool = True

    def names(self) -> list[str]:
        """The attacks that are reported: a worst of several after those that it is made of."""
        found = ((*catalogue_entry(name).worst_of, name) for name in self.attacks)
        return list(dict.fromkeys(name for names in found for name in names))

    def attack(self, name: str, eps: float) -> Attack | None:
        """Make the attack of that name; None for the unattacked images."""
        if not 0 <= eps <= 1:
            raise InputError(f"eps must be in [0, 1], got {eps}; try 4/255")
        entry = catalogue_entry(name)
        if entry.made_on != "defence":
            return entry.make(eps, self.steps, self.seed)
        return entry.make(eps, self.adaptive_steps, self.seed, self.adaptive_restarts, "best")

    def attack_on(self, target: Target, eps: float) -> Attack:
        """Make the attack on a target. The undefended localizer gets the plain one also where the
        others get an adaptive one."""
        attack = self.attack(target.label, eps)
        assert attack is not None
        return replace(attack, eot=DRAWS) if target.randomized else attack

    def runs(self) -> list[tuple[str, Attack | None]]:
        """Every attack that is made, at every eps; the unattacked images once."""
        found: list[tuple[str, Attack | None]] = []
        for name in self.names():
            if CATALOGUE[name].worst_of:
                continue
            for eps in dict.fromkeys(self.eps):
                attack = self.attack(name, eps)
                if attack is not None or (name, None) not in found:
                    found.append((name, attack))
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
    scorer = Scorer(systems, [*systems.defences, nothing], cache)
    originals = dict(zip(dataset.names, dataset.pairs, strict=True))
    names = dataset.names[:count]

    def attacked(target: Target, attack: Attack) -> Pairs:
        budget = f"{round(attack.eps * 255, 3):g}/255"
        start(f"attack {target.label} {budget} {target.behind}".rstrip(), count)
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
        for floor, scores in floor_scores(read_mask(originals[one][1])).items():
            found.floors[floor].append(scores)
        advance(1)
    for defence in systems.defences:
        if defence.detects is not None and protocol.harmless:
            start(f"harmless changes, {defence.title}", count)
            records = found.harmless.setdefault(defence.name, [])
            for one in names:
                records.append(scorer.harmless(originals[one][0], defence))
                advance(1)
    for attack_name, attack in runs:
        targets = systems.targets(attack_name)
        if not targets:
            note(f"{attack_name} left out: it is made on a second localizer; give --surrogate")
        cells: dict[str, Cell] = {}
        for target in (target for target in targets if target.defences):
            pairs: Pairs = originals
            if attack is not None:
                pairs = attacked(target, protocol.attack_on(target, attack.eps))
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
    for attack_name in protocol.names():
        found.cells += worst_cells(found.cells, attack_name, CATALOGUE[attack_name].worst_of)
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
