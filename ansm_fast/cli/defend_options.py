"""What ``ansm-fast defend`` is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ansm_fast.cli.option_groups import GroupedCommand
from ansm_fast.cli.options import DEVICE_OR_AUTO
from ansm_fast.images.formats import EFFORTS, SUFFIXES

GROUPS = {
    "Inputs": ("batch", "listed", "null", "members", "follow_links", "max_pixels"),
    "Outputs": ("output", "kind", "effort", "masks", "only_attacked", "verify", "fsync"),
    "Networks": (
        "weights",
        "localizer",
        "attacked_threshold",
        "device",
        "batch_size",
        "threads",
        "engine",
        "precision",
    ),
    "Machines": ("ray", "ray_workers"),
}

OPTIONS = (
    click.argument("files", nargs=-1),
    click.option(
        "--batch",
        metavar="DIR",
        help="Defend every image below DIR; the tree is kept.",
    ),
    click.option(
        "--list",
        "listed",
        metavar="FILE",
        help="Defend the files that FILE names, one a line; - reads stdin.",
    ),
    click.option(
        "-0", "--null", is_flag=True, help="The names of --list end in NUL, as find -print0."
    ),
    click.option("-o", "--output", required=True, metavar="DIR", help="Folder for the results."),
    click.option(
        "--weights",
        metavar="NAME_OR_FILE",
        help="ANSM: `robust`, `tiny`, `two_view` or a checkpoint; by default the one that was "
        "trained for the localizer.",
    ),
    click.option(
        "--masks",
        metavar="DIR",
        help="Also write the localizer's mask before and after into DIR.",
    ),
    click.option(
        "--localizer",
        metavar="NAME_OR_FILE",
        help="Localizer for the masks: `robust`, `builtin`, a checkpoint or module:function. "
        "Without --masks they go to OUTPUT-masks.",
    ),
    click.option(
        "--format",
        "kind",
        type=click.Choice(tuple(SUFFIXES)),
        default="png",
        show_default=True,
        help="Of the outputs, all without loss. What WebP cannot hold, as 16 bits, becomes PNG.",
    ),
    click.option(
        "--compression",
        "effort",
        type=click.Choice(EFFORTS),
        default="fast",
        show_default=True,
        help="`small` takes many times longer for a few per cent.",
    ),
    click.option(
        "--only-attacked",
        is_flag=True,
        help="Copy images that don't look attacked as they are, byte for byte.",
    ),
    click.option(
        "--members",
        metavar="PATTERN",
        help="Of tar files: the members that are photographs, as '*.jpg'; by default all images.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        help="Equally large images that the network takes at once; by default 1 on a CPU, where "
        "more are no faster, and 8 elsewhere.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Images, or tiles of one, that a CPU defends at once, each on one core; all cores.",
    ),
    DEVICE_OR_AUTO,
    click.option(
        "--engine",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="What computes the network: `eager`, `compile`, `openvino`, `onnxruntime`, or `auto`: "
        "eager, and for 5,000 images or more that are not done yet the fastest that is installed.",
    ),
    click.option(
        "--precision",
        default="fp32",
        show_default=True,
        metavar="NAME",
        help="What the network's convolutions compute in: `fp32`, or `bf16` or `fp16`, which GPUs "
        "and a few CPUs have instructions for and which change results slightly.",
    ),
    click.option(
        "--max-pixels",
        default=200_000_000,
        show_default=True,
        type=click.IntRange(min=1),
        help="Report and skip larger images.",
    ),
    click.option(
        "--attacked-threshold",
        type=click.FloatRange(0, 1),
        metavar="SCORE",
        help="Attack score from which an image counts as attacked; by default the one that the "
        "ANSM's training found between unattacked and attacked images, or 0.5.",
    ),
    click.option(
        "--follow-links", is_flag=True, help="With --batch: enter linked folders, each folder once."
    ),
    click.option(
        "--verify",
        is_flag=True,
        help="Compare checksums, not sizes and times alone, before an image counts as done.",
    ),
    click.option(
        "--fsync",
        is_flag=True,
        help="Wait at each output until the disk has it, so that no power cut takes it away.",
    ),
    click.option(
        "--ray",
        is_flag=False,
        flag_value="local",
        metavar="[=ADDRESS]",
        help="Share the work by Ray: here, or on the cluster at ADDRESS (`auto`, HOST:PORT).",
    ),
    click.option(
        "--ray-workers",
        type=click.IntRange(min=1),
        help="With --ray: processes with a network each; by default one for each core or GPU.",
    ),
    click.option(
        "--profile", is_flag=True, help="Tell what the time went to, and what bounds the run."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout."),
)


def defend_command(function: Callable[..., Any]) -> click.Command:
    """Make a function of all these options the command; a decorator."""
    for option in reversed(OPTIONS):
        function = option(function)
    return click.command(cls=GroupedCommand, groups=GROUPS)(function)
