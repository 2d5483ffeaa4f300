"""The parts of ``tools.prove``.

simt        in a process for each variant: the CUDA kernels on the CPU
traffic     calls whose bytes are known, with the floors that the rooms' READMEs give
summary     from rows of cases, launches and kernels to one row for each op and backend
"""
