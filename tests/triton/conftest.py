"""Kernels are interpreted or compiled by a process as a whole: each kind of test has its own.

test_processes.py starts them. To run one by hand:
TRITON_INTERPRET=1 ANSM_FAST_TRITON_TESTS=interpreted pytest tests/triton/interpreted
"""

from __future__ import annotations

import os

KINDS = ("interpreted", "compiled")
collect_ignore = [kind for kind in KINDS if os.environ.get("ANSM_FAST_TRITON_TESTS") != kind]
