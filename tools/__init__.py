"""What proves, measures and draws: run from the checkout's root as ``python -m tools.NAME``.

Needs the package installed from this checkout, ``pip install -e '.[test,dev]'``; no wheel holds it.

prove            the GPU kernels without a GPU, as one table (proof/, simt/, triton/)
plant_bugs       mistakes in the CUDA kernels, which the proof must find
compile_report   registers, spills and widths of accesses of the CUDA kernels
gpu_check        every op on a GPU, checked and timed (gpu/, bench/)
check_abi        the built library's symbols
check_cuda_link  the built CUDA library's symbols, and which ops it registers
instructions     counts instructions in the machine code, for the roofline
pictures         draws the kernels' data flow and the roofline
faults           does them to ansm-fast defend: kills, full disks, damaged files (faults/)
training_fields  writes docs/training_fields.md

Each finds the ops by their folders (ops), and what their cases.py say (cases); commands is how
each is told what to run.
"""
