"""Faults done to ``ansm-fast defend`` for real: run as ``python -m tools.faults``.

kills      SIGKILL at random moments of a run, its start-up included, and the next run goes on
signals    SIGINT, SIGTERM and SIGHUP at random moments
disk       a file system that is too small
mutations  damaged files of the five formats
changes    inputs that are replaced and vanish while they are defended
entries    pipes, devices, sockets, links and names of any bytes, on outputs of three encodings
together   four runs at once into one folder

Each kind is one file with ``run(bench, count)``; bench is what they share: inputs whose outputs are
known, the command in a process of its own, and the check of what it left.
"""
