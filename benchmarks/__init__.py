"""The ops on the CPU beside eager PyTorch, torch.compile and a plain copy of as many bytes.

    pytest benchmarks/                                     # pytest-benchmark's tables, and targets
    python -m benchmarks.run -o results/benchmarks/cpu.json  # the result file

cases    what is timed, and the bytes that each op must move
timing   in turns, with cold caches; memory
measure  every case in one process, as JSON
run      under the default and a tuned allocator; targets; the table
"""
