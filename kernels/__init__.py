"""Torch-free kernels, one room an op; headers for whoever wants to compile them alone."""
