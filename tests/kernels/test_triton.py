"""The Triton kernels: interpreted, compiled, and on a GPU where there is one."""

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


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "fp64"])
def test_the_kernels_compile_to_machine_code_without_a_gpu(dtype, capability):
    from triton import compile, language
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trainopt.kernels import triton_rules as kernels

    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}
    weights, wide = getattr(language, names[dtype]), language.float32
    wide = weights if dtype == "fp64" else wide
    constants = {"P": weights, "S": wide, "T": wide, "KEEPS": True, "DESCENDS": True, "BLOCK": 1024}
    tables = {"addresses": "*i64", "places": "*i64", "sizes": "*i64", "count": "i32"}
    signature = tables | {"programs": "i32"} | dict.fromkeys(constants, "constexpr")
    for kernel in (kernels.diagonal_kernel, kernels.dots_kernel, kernels.rank_one_kernel):
        source = ASTSource(
            fn=kernel,
            signature={name: signature.get(name, "*fp64") for name in kernel.arg_names},
            constexprs={(kernel.arg_names.index(name),): v for name, v in constants.items()},
        )
        options = {"enable_fp_fusion": True}
        made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert made.asm["cubin"]
        assert f".target sm_{capability}" in made.asm["ptx"]


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
