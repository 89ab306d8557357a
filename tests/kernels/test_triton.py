"""The Triton kernels, through Triton's interpreter, and on a GPU where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from side_by_side import CASES, assert_near, train_both

pytest.importorskip("triton", reason="Triton isn't installed")


def test_the_kernels_take_the_step_of_the_rule_when_interpreted():
    # Triton decides at its import, so a process of its own.
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("interpreted.py"))],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "whole", done.stderr[-3000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("cls", "extra"), CASES)
def test_the_kernels_on_a_gpu(cls, extra, dtype):
    shapes = [(300, 70), (7,), (), (5, 6, 7)] if cls.__name__ != "FullTO" else [(3, 4), (7,)]
    torch.set_default_device("cuda")
    try:
        generator = torch.Generator("cuda")
        assert_near(*train_both(cls, dtype, shapes, generator=generator, **extra), dtype)
    finally:
        torch.set_default_device(None)
