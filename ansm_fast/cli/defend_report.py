"""What ``ansm-fast defend`` tells: progress and bad files on stderr, the summary on stdout."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from ansm_fast.errors import Interrupted
from ansm_fast.json_lines import line_of
from ansm_fast.printable import one_line

if TYPE_CHECKING:
    from ansm_fast.images.walk import LeftOut
    from ansm_fast.inference import Summary


class Report:
    """Progress bar with images/s and time left, and a line for each bad file, on stderr."""

    def __init__(self, quiet: bool) -> None:
        from ansm_fast.progress import Progress

        self.progress = Progress("defend", silent=quiet)

    def __enter__(self) -> Report:
        self.progress.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.progress.__exit__(*exception)

    def start(self, total: int, skipped: int) -> None:
        self.progress.start("defend", total, skipped)

    def advance(self, source: object, status: str, reason: str) -> None:
        if reason:
            self.say(f"{status}: {source} {reason}")
        with contextlib.suppress(OSError):
            self.progress.advance()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone: no reason to lose images
            self.progress.console.print(one_line(text), markup=False, emoji=False)


def conclude(summary: Summary, left_out: LeftOut, as_json: bool) -> None:
    """Print the summary, and end with what it says: 1 if anything failed.

    Raises:
        Interrupted: the run was.
    """
    from ansm_fast.inference.profile import describe

    if as_json:
        readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        click.echo(line_of(summary.as_dict(), readable=readable))
    else:
        copied = f"{summary.copied} copied, " if summary.copied else ""
        click.echo(
            f"{summary.defended} defended, {copied}{summary.skipped} already done, "
            f"{summary.failed} failed of {summary.total} in {summary.seconds:.1f} s "
            f"({summary.images_per_second:.1f} images/s, {summary.engine}); {summary.manifest}"
        )
        if summary.attacked is not None:
            click.echo(
                f"{summary.attacked} of {summary.scored} look attacked "
                f"(attack_score of {summary.attacked_threshold:g} or more)"
            )
        for line in [*left_out.lines(), *describe(summary.profile)]:
            click.echo(one_line(line))
    if summary.interrupted:
        done = summary.defended + summary.copied + summary.skipped + summary.failed
        raise Interrupted(f"at defend: {done} of {summary.total} images")
    if summary.failed or left_out.has_unreadable():
        sys.exit(1)
