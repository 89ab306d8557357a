"""Trainer, SFTTrainer's base: the right optimizer, its numbers logged, and exact resume."""

import pytest
import torch
from torch.optim import AdamW

from trainopt import ChunkSampler, DiagonalTO, Estimated, Exponential, RankOneTO, SecantTO

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from trainopt.integrations.huggingface import (  # noqa: E402
    MonitorCallback,
    estimated,
    use_sampler,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")


def tiny():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return transformers.BertForSequenceClassification(config)


def rows():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(50, (48, 8), generator=generator)
    return [{"input_ids": x, "labels": int(x[0] > 25)} for x in ids]


def arguments(folder, **extra):
    settings = {
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_steps": 4,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "weight_decay": 0.1,
        "warmup_steps": 2,
        **extra,
    }
    return transformers.TrainingArguments(output_dir=str(folder), **settings)


def trainer_for(folder, choice, **extra):
    args = arguments(folder, **extra)
    picked = choice(args) if callable(choice) else choice
    return transformers.Trainer(tiny(), args, train_dataset=rows(), optimizer_cls_and_kwargs=picked)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


CHOICES = {
    "diagonal": (DiagonalTO, {"lr": 0.05, "alpha": Exponential(0.02, factor=0.9), "beta": 0.5}),
    "rank-one": (RankOneTO, {"lr": 0.05, "alpha": 0.01, "beta": 0.5}),
    "estimated": lambda args: estimated(
        args, DiagonalTO, alpha=Exponential(0.02, factor=0.9), beta=0.5
    ),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_resumed_fine_tune_has_the_losses_of_one_that_was_never_stopped(choice, tmp_path):
    whole = trainer_for(tmp_path / "whole", choice)
    whole.train()
    resumed = trainer_for(tmp_path / "whole", choice)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert len(losses(whole)) == 8
    assert losses(resumed) == losses(whole)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_named_optimizer_steps_with_the_groups_of_the_trainer(tmp_path):
    """Against Trainer's own AdamW: with α = 0, β = 1 the estimate is the gradient."""
    plain = trainer_for(tmp_path, None, optim="adamw_torch", adam_beta2=0.9)
    plain.train()  # a Trainer seeds when it is made
    behind = trainer_for(
        tmp_path,
        lambda args: estimated(args, DiagonalTO, alpha=0.0, beta=1.0),
        optim="adamw_torch",
        adam_beta2=0.9,
    )
    behind.train()
    assert losses(behind) == losses(plain)
    made = behind.optimizer.optimizer
    assert isinstance(made, Estimated)
    assert type(made.optimizer) is AdamW
    assert [group["weight_decay"] for group in made.param_groups] == [0.1, 0.0]
    assert made.param_groups[0]["betas"] == (0.9, 0.9)
    assert len(made.estimator.param_groups) == 1


def test_an_optimizer_with_groups_of_its_own_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        transformers.Trainer,
        "get_optimizer_cls_and_kwargs",
        staticmethod(lambda args: (AdamW, {"params": []})),
    )
    with pytest.raises(ValueError, match="makes its own groups: choose one that takes them"):
        estimated(arguments(tmp_path, optim="adamw_torch"))


def test_the_callback_logs_where_the_trainer_logs(tmp_path):
    trainer = trainer_for(tmp_path, CHOICES["estimated"], logging_steps=2)
    data = rows()
    batch = {
        "input_ids": torch.stack([row["input_ids"] for row in data]),
        "labels": torch.tensor([row["labels"] for row in data]),
    }
    trainer.add_callback(MonitorCallback(trainer, batch=batch))
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "trainopt/norm_A" in entry]
    assert [entry["step"] for entry in logged] == [2, 4, 6, 8]
    assert logged[-1]["trainopt/beta"] == 0.5
    assert 0 < logged[-1]["trainopt/error"] < 10
    assert trainer.model.training


def test_the_callback_changes_nothing_in_the_training(tmp_path):
    without = trainer_for(tmp_path, CHOICES["estimated"])
    without.train()
    watched = trainer_for(tmp_path, CHOICES["estimated"])
    data = rows()
    batch = {
        "input_ids": torch.stack([row["input_ids"] for row in data]),
        "labels": torch.tensor([row["labels"] for row in data]),
    }
    watched.add_callback(MonitorCallback(watched, every=3, batch=batch))
    watched.train()
    assert losses(watched) == losses(without)


def test_the_callback_logs_nothing_for_a_step_that_was_skipped(tmp_path):
    """As a gradient scaler does at an overflow."""
    trainer = trainer_for(tmp_path, (DiagonalTO, {"lr": 0.1}))
    trainer.create_optimizer()
    callback = MonitorCallback(trainer, every=1)
    callback.on_optimizer_step(trainer.args, trainer.state, trainer.control)
    callback.on_step_end(trainer.args, trainer.state, trainer.control)
    assert trainer.state.log_history == []


def mean_loss(outputs, labels, num_items_in_batch=None):
    """Over the rows of a step, however many batches it has."""
    total = torch.nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
    return total / num_items_in_batch


def chunked(folder, accumulate, **extra):
    """A Trainer that reads 48 rows in batches of 4, and its sampler."""
    model = tiny()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    sampler = ChunkSampler(48, 4, chunks=3, accumulate=accumulate)
    args = arguments(
        folder,
        **{
            "gradient_accumulation_steps": accumulate,
            "max_grad_norm": 0,
            "weight_decay": 0.0,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            **extra,
        },
    )
    trainer = transformers.Trainer(
        model,
        args,
        train_dataset=rows(),
        compute_loss_func=mean_loss,
        optimizer_cls_and_kwargs=(SecantTO, {"plan": sampler.plan, "lr": 0.05}),
    )
    use_sampler(trainer, sampler)
    return trainer, sampler


@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (5, 0), (5, 1)])
def test_a_trainer_reads_in_chunks_as_a_plain_loop_does(accumulate, workers, tmp_path):
    steps = 12 if accumulate == 1 else 3
    trainer, sampler = chunked(
        tmp_path, accumulate, max_steps=4 * steps, dataloader_num_workers=workers
    )
    trainer.train()
    assert trainer.optimizer.optimizer.steps == 4 * steps
    assert sampler.plan.steps == steps
    model, data = chunked(tmp_path, accumulate)[0].model, rows()
    fresh = ChunkSampler(48, 4, chunks=3, accumulate=accumulate)
    optimizer = SecantTO(model.parameters(), fresh.plan, lr=0.05)
    for _ in range(4):
        batches = list(fresh)
        for start in range(0, len(batches), accumulate):
            optimizer.zero_grad()
            taken = batches[start : start + accumulate]
            for batch in taken:
                ids = torch.stack([data[row]["input_ids"] for row in batch])
                labels = torch.tensor([data[row]["labels"] for row in batch])
                mean_loss(model(input_ids=ids), labels, 4 * len(taken)).backward()
            optimizer.step()
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_a_trainer_resumes_in_the_middle_of_a_chunk(tmp_path):
    """Bit for bit: 12 steps a pass, 4 a chunk, stopped after 42."""
    settings = {"max_steps": 60, "save_steps": 42}
    whole, _ = chunked(tmp_path, 1, **settings)
    whole.train()
    resumed, _ = chunked(tmp_path, 1, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-42"))
    assert resumed.optimizer.optimizer.steps == 60
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
