"""The compiled ops as PyTorch knows them: fake kernels, autograd, and the calls that use them.

Imported only where the library could be loaded.
"""
