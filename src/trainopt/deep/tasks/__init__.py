"""The table of deep tasks."""

from __future__ import annotations

from trainopt.bench.errors import InputError, did_you_mean
from trainopt.deep.task import Task
from trainopt.deep.tasks import images, llama, novels, sentences

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        images.CNN_TASK,
        novels.TRANSFORMER_TASK,
        images.RESNET_TASK,
        sentences.ENCODER_TASK,
        llama.LORA_TASK,
        llama.FULL_TASK,
        images.RESNET18_TASK,
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


__all__ = ["TASKS", "task_named"]
