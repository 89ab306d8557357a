"""Run by test_triton.py with TRITON_INTERPRET=1: the CUDA kernels on CPU tensors."""

import sys

import torch
from side_by_side import CASES, assert_near, train_both

from trainopt import FullTO
from trainopt.kernels import cuda
from trainopt.optim import fused

SHAPES = [(30, 50), (7,), (), (5, 0), (5, 6, 7)]
CASES = [case for case in CASES if case[0] is not FullTO]  # which has no kernel on CUDA

fused._kernels = lambda device, param, state: cuda.missing(param, state) or cuda
for cls, extra in CASES:
    # No bfloat16: to it the interpreter cuts off, where a GPU rounds.
    for dtype in (torch.float32, torch.float64, torch.float16):
        assert_near(*train_both(cls, dtype, SHAPES, steps=10, **extra), dtype)
    both = train_both(cls, torch.float64, SHAPES, steps=3, maximize=True, **extra)
    assert_near(*both, torch.float64)
    both = train_both(cls, torch.float64, SHAPES, steps=3, on_instability="skip", **extra)
    assert_near(*both, torch.float64)
    print(cls.__name__, extra, file=sys.stderr)
print("whole")
