"""What is to be done in a run, and under which names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ansm_fast.inference.files import OutputNames, Source, addresses, own_names, targets
from ansm_fast.inference.form import Form
from ansm_fast.inference.manifest import Manifest, Record
from ansm_fast.inference.stores import Place, Store


@dataclass
class Plan:
    """What a run does.

    Attributes:
        outputs: the name of each output that may still have to be made, in the order of the
            sources.
        doubtful: of those, records of earlier runs that serve if content tells that they are right.
        skipped: how many are done.
        names: gives further names.
    """

    outputs: dict[Source, PurePosixPath]
    doubtful: dict[Source, Record]
    skipped: int
    names: OutputNames


def _inherited(source: Source, moved: dict[tuple[int, int], str], suffix: str) -> str | None:
    """The output of an input that was moved here, as size and modification time tell."""
    try:
        found = source.identity()
    except OSError:
        return None
    key = (found["input_bytes"], found.get("input_mtime_ns", -1))
    name = moved.get(key)
    if name is None or PurePosixPath(name) not in own_names(source, suffix):
        return None
    return moved.pop(key)


def make_plan(
    sources: Sequence[Source],
    output: Store,
    masks: Store | None,
    manifest: Manifest,
    common: Record,
    form: Form,
    *,
    verify: bool = False,
) -> Plan:
    """Leave out what is done; a source keeps the name of an earlier run unless something lies
    there that was not recorded. Whether its content is the same is seen to before it is replaced.

    Args:
        verify: what seems done is doubtful until its content was compared.
    """
    inputs = addresses(sources)
    claimed = manifest.claimed()
    moved: dict[tuple[int, int], str] | None = None  # which asks after every input there was

    def may_return(key: str, name: str) -> bool:
        return manifest.owner(name) == key and may_stay(targets(output, masks, name))

    def may_stay(places: list[Place]) -> bool:
        return all(
            place.address not in inputs and (not place.lies_there() or manifest.may_be_own(place))
            for place in places
        )

    names = OutputNames(output, masks, inputs, claimed.values(), form.suffix, may_return)
    kept: dict[Source, PurePosixPath] = {}
    rest: list[Source] = []
    doubtful: dict[Source, Record] = {}
    skipped = 0
    for source in sources:
        name = claimed.get(source.key)
        if name is None:
            moved = manifest.moved() if moved is None else moved
            name = _inherited(source, moved, form.suffix)
        if source.key not in claimed and (found := manifest.elsewhere(source, common, inputs)):
            doubtful[source] = found
        if name is None:
            rest.append(source)
            continue
        files = targets(output, masks, name)
        if source.key in claimed:
            if not verify and manifest.is_done(source, common, files):
                skipped += 1
                continue
            if found := manifest.may_be_done(source, common, files):
                doubtful[source] = found
        if manifest.format_of(source.key) == form.kind and may_stay(files):
            kept[source] = PurePosixPath(name)
            names.keep(source, kept[source])
        else:
            rest.append(source)
    given = kept | names.give(rest)
    outputs = {source: given[source] for source in sources if source in given}
    return Plan(outputs, doubtful, skipped, names)
