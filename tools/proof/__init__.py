"""The parts of ``tools.prove``.

simt        in a process for each variant: the CUDA kernels on the CPU
summary     from rows of cases, launches and kernels to one row for each op and backend
"""
