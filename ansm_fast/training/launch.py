"""``ansm-fast train --processes N``: torchrun's own launcher, without its page of errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from ansm_fast.errors import InputError, Interrupted

# The same package, wherever this process has found it: `-m` would look in the working directory.
_CHILD = "import sys; sys.path[:] = {path!r}; from ansm_fast.cli.main import main; main()"


def train_in_processes(arguments: Sequence[str], processes: int) -> int:
    """Run ``ansm-fast`` with ``arguments`` in several processes of this machine.

    Returns their exit code; the first of them says what went wrong.

    Raises:
        InputError: one was ended by the system. Interrupted: by SIGTERM.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    command = ["-c", _CHILD.format(path=sys.path), *arguments]
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code > 0:
            return code
        raise InputError(
            f"one of the {processes} processes was ended by {signal.Signals(-code).name}; was the "
            "memory full? give smaller batches or fewer --processes; the last checkpoint is intact"
        ) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:  # the processes had it as well, and the first has spoken
            return 130
        raise Interrupted(f"in {processes} processes; the last checkpoint is intact") from error
    return 0
