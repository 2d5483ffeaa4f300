"""Run by torchrun or alone: ``ansm-fast`` with every network and loss in float64.

Gradients jump where a residual of 8-bit pixels lies on the bound that it is clipped to, and
rounding decides on which side: in float32 two orders of summation drift apart by far more than
rounding. In float64 hardly anything lies that close to a bound, and a mistake would remain.
"""

from __future__ import annotations

import torch

from ansm_fast.cli.main import main

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    main()
