"""The benchmark on a GPU: ``scripts/gpu_check.py`` runs it, ``pytest benchmarks/gpu`` shows it.

work    what is timed, and the bytes that each op cannot do without
timing  CUDA events, a flushed cache, quantiles
suite   all of it into rows
plot    a result file as a picture
"""
