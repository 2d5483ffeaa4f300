"""The Triton kernels without a GPU: interpreted with every access seen, or compiled ahead."""
