"""The CUDA kernels on the CPU: ``build`` compiles them with g++, ``harness`` runs them."""
