"""Which of several processes says what went wrong: the first, if it is wrong in all of them."""

from __future__ import annotations

import os
import time

# torchrun ends the others within a fraction of a second after one has failed.
_PATIENCE = 10.0


def leads() -> bool:
    """Tell whether this process is the only one, or the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def speaks(error: BaseException) -> bool:
    """Tell whether this process prints the line of an error.

    The first does. Another one waits for the launcher, which ends it if the first has failed as
    well; if it is still there after that, the error is its own, and it speaks.
    """
    if leads():
        return True
    if isinstance(error, KeyboardInterrupt):
        return False
    try:
        time.sleep(_PATIENCE)
    except KeyboardInterrupt:
        return False
    return True
