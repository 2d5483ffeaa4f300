"""The parts of ``tools.gpu_check``, most of which any backend on any device can be put to.

cases       what is called, as data
calls       from a case to its tensors and its named results
rules       what the results must be
correctness runs cases by their rules
large       tensors of more than 2**31 elements
features    what PyTorch offers on a GPU: graphs, streams, compile, autocast
sanitizer   compute-sanitizer around this script
facts       what it all ran on
results     result files, the printed table and docs/gpu_results.md
"""
