"""Torch-free kernels, one folder an op; headers for whoever wants to compile them alone."""
