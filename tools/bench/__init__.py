"""The benchmark on a GPU: ``tools.gpu_check`` runs it, ``pytest benchmarks/test_gpu.py`` shows it.

work    what is timed: the benchmarks of the ops' cases.py on every backend
timing  CUDA events, a flushed cache, quantiles
suite   all of it into rows
plot    a result file as a picture
"""
