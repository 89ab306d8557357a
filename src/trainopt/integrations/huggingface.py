"""Hugging Face `Trainer`, and what is made of it: TRL's SFTTrainer with or without PEFT.

A Trainable Optimizer needs no help there:

    Trainer(..., optimizer_cls_and_kwargs=(DiagonalTO, {"lr": 0.05, "alpha": 0.01}))

`Trainer` then makes its usual groups, with and without weight decay. `estimated` does the same for
the optimizer that the arguments name, along the estimate. `use_sampler` makes a Trainer read in
the fixed chunks of `SecantTO`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from trainopt.estimated import Estimated
from trainopt.integrations.loggers import prefixed
from trainopt.integrations.monitor import large_batch_gradient, monitor, stepped
from trainopt.optim import DiagonalTO, TrainableOptimizer
from trainopt.secant import ChunkSampler


def estimated(
    args: TrainingArguments,
    estimator: Callable[..., TrainableOptimizer] = DiagonalTO,
    **settings: Any,
) -> tuple[type[Estimated], dict[str, Any]]:
    """Return `optimizer_cls_and_kwargs` for a Trainer: `args.optim` on the estimated gradient.

        Trainer(..., args=args, optimizer_cls_and_kwargs=estimated(args, alpha=0.01, beta=0.5))

    The inner optimizer is the one that `args.optim` names, with `args.learning_rate`, the decay
    groups and whatever else `Trainer` gives it. The estimator holds all parameters as one group.

    Args:
        args: the arguments of the Trainer.
        estimator: the class of the estimator.
        settings: its settings, such as alpha and beta.

    Raises:
        ValueError: `args.optim` is one that makes groups of its own, so it can't be put behind an
            estimate.
    """
    inner, kwargs = Trainer.get_optimizer_cls_and_kwargs(args)
    own_groups = {"params", "model", "optimizer_dict"} & set(kwargs)
    if own_groups or not isinstance(inner, type):
        raise ValueError(
            f"optim={str(args.optim)!r} makes its own groups: choose one that takes them, such as "
            "'adamw_torch_fused'."
        )

    class Made(Estimated):
        """A class, since Trainer takes nothing else; it is called with groups and settings."""

        def __init__(self, params: Iterable[dict[str, Any]], **inner_settings: Any) -> None:
            groups = list(params)
            together = [p for group in groups for p in group["params"]]
            super().__init__(
                inner(groups, **inner_settings), estimator(together, lr=0.0, **settings)
            )

    return Made, kwargs


class _Chunks(DataLoader[Any]):
    """A loader whose Trainer says which pass it begins."""

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the number of the next pass."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def use_sampler(trainer: Trainer, sampler: ChunkSampler) -> None:
    """Make a Trainer read its training rows by the sampler: `SecantTO` needs fixed chunks.

        args = TrainingArguments(..., max_grad_norm=0)
        sampler = ChunkSampler(data, batch_size=32)
        chosen = (SecantTO, {"plan": sampler.plan, "lr": 0.3})
        trainer = Trainer(model, args, train_dataset=data, optimizer_cls_and_kwargs=chosen)
        use_sampler(trainer, sampler)

    The sampler's `batch_size`, `accumulate`, `num_replicas` and `rank` are those of the arguments:
    `per_device_train_batch_size`, `gradient_accumulation_steps`, `world_size`, `process_index`.
    Gradients must not be clipped, and the model needs its dropout at 0. A gradient must be the mean
    over the rows of a step: with accumulation, give the Trainer a `compute_loss_func` that divides
    the sum of the losses by `num_items_in_batch`, since models for classification ignore it. A run
    that is resumed goes on bit for bit, in the middle of a pass too; the optimizer takes
    `sampler.plan` and not the sampler, as the Trainer draws the batches that were read once more.

    Args:
        trainer: the Trainer; its collator, workers and columns stay as they are.
        sampler: the rows of a process's batches.
    """
    own = trainer.get_train_dataloader

    def read() -> DataLoader[Any]:
        made = own()
        return _Chunks(
            made.dataset,
            batch_sampler=sampler,
            collate_fn=made.collate_fn,
            num_workers=made.num_workers,
            pin_memory=made.pin_memory,
            worker_init_fn=made.worker_init_fn,
            persistent_workers=made.persistent_workers,
        )

    trainer.get_train_dataloader = read


class MonitorCallback(TrainerCallback):  # type: ignore[misc]
    """Log what the optimizer knows wherever the Trainer logs: console, TensorBoard, W&B, MLflow.

        trainer.add_callback(MonitorCallback(trainer))

    The names are those of `monitor` after "trainopt/".

    Args:
        trainer: the Trainer.
        every: steps between two logs. Default: the Trainer's `logging_steps`.
        batch: inputs of the model with labels, a large held-out batch on the model's device. With
            it the estimate is compared with the gradient of that batch, taken in evaluation mode,
            so that it changes nothing in the training; one forward and backward pass per log. The
            optimizer must keep its estimate (`keep_estimate=True` in a Trainable Optimizer).
    """

    def __init__(
        self,
        trainer: Trainer,
        every: int | None = None,
        batch: dict[str, Tensor] | None = None,
    ) -> None:
        self.trainer = trainer
        self.every = every
        self.batch = batch
        self._gradient: dict[Tensor, Tensor] | None = None
        self._values: dict[str, float] | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the gradient of the large batch at the weights before the step."""
        if self.batch is None or not self._is_due(state):
            return
        batch, model = self.batch, kwargs["model"]
        training = model.training
        model.eval()
        self._gradient = large_batch_gradient(self.trainer.optimizer, lambda: model(**batch).loss)
        model.train(training)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the optimizer, while the gradients are there."""
        if self._is_due(state) and stepped(self.trainer.optimizer):
            self._values = prefixed(monitor(self.trainer.optimizer, self._gradient))
            self._gradient = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log under the number of the step, which counts up only now."""
        if self._values is not None:
            due = control.should_log
            self.trainer.log(self._values)
            control.should_log = due  # a log clears it, and the Trainer's own is still to come
            self._values = None

    def _is_due(self, state: TrainerState) -> bool:
        every: int = self.every or max(state.logging_steps, 1)
        step: int = state.global_step + 1
        return step % every == 0
