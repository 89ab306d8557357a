"""The table of deep tasks; a task's file is imported when the task is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, TypeAlias

from trainopt.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from trainopt.deep.task import Ready

Size: TypeAlias = Literal["cpu", "gpu"]
"""How large a task is: for two CPU cores, or for a GPU."""


@dataclass(frozen=True)
class Task:
    """An entry of the table.

    Attributes:
        name: on the command line and in results.
        title: in tables and pictures.
        builder: "module:function" of the function in this package that `build` calls.
        small: what the CPU size is, in words.
        full: what the GPU size is.
    """

    name: str
    title: str
    builder: str
    small: str
    full: str

    def named(self, size: Size) -> dict[str, str]:
        """What a report calls it."""
        described = self.small if size == "cpu" else self.full
        return {"title": self.title, "description": described}

    def build(self, size: Size) -> Ready:
        """Read the data and the weights.

        Raises:
            InputError: a part is missing.
        """
        module, function = self.builder.split(":")
        build: Callable[[Size], Ready] = getattr(import_module(f".{module}", __name__), function)
        return build(size)


_LLAMA_SMALL = (
    "of the last of 30 layers, on stored outputs of the frozen layers below; windows of 64 tokens, "
    "softmax over the symbols that occur in them"
)
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "cnn",
            "CNN on MNIST",
            "images:cnn",
            "8 and 16 channels, 3 500 images",
            "32 and 64 channels, 3 500 images",
        ),
        Task(
            "transformer",
            "Transformer on Austen's bytes",
            "novels:transformer",
            "2 layers of width 64, windows of 64 bytes",
            "6 layers of width 384, windows of 256 bytes",
        ),
        Task(
            "resnet",
            "ResNet on Fashion-MNIST",
            "images:resnet",
            "one block in each of three stages of 8, 16 and 32 channels, 9 000 of the images",
            "ResNet-18, all images",
        ),
        Task(
            "encoder",
            "MiniLM on sentiment",
            "sentences:encoder",
            "the last 2 of 6 layers and the head are trained, on stored outputs of the frozen "
            "layers below",
            "all 22.7 M parameters are trained",
        ),
        Task(
            "llama-lora",
            "SmolLM2 on Austen, LoRA",
            "llama:lora",
            f"rank 8 beside all linear maps {_LLAMA_SMALL}",
            "rank 8 beside all linear maps, windows of 512 tokens",
        ),
        Task(
            "llama",
            "SmolLM2 on Austen",
            "llama:full",
            f"all weights {_LLAMA_SMALL}",
            "all 134.5 M parameters are trained, windows of 512 tokens",
        ),
        Task(
            "resnet18",
            "ResNet-18 on CIFAR-10",
            "images:resnet18",
            "none: GPU only",
            "ResNet-18 for 32×32, flips and shifts",
        ),
    )
}


def task_named(name: str) -> Task:
    """Look a task up.

    Raises:
        InputError: there is none of that name.
    """
    if name not in TASKS:
        hint = did_you_mean(name, TASKS)
        raise InputError(f"There is no task {name}: {hint}choose one of {', '.join(TASKS)}.")
    return TASKS[name]
