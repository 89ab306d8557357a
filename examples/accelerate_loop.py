"""A training loop of one's own with Accelerate: the optimizer goes through `prepare` as any other.

    python examples/accelerate_loop.py
    accelerate launch examples/accelerate_loop.py

all-MiniLM-L6-v2 and two linear outputs learn to tell good from bad reviews; gradients of two
batches are accumulated for a step.
"""

from __future__ import annotations

import argparse
import random
import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tiny import tiny_bert
from torch.utils.data import DataLoader

from trainopt import DiagonalTO, Estimated
from trainopt.data.pretrained import minilm
from trainopt.data.text import sentiment
from trainopt.integrations.monitor import monitor


class Classifier(torch.nn.Module):
    """Two outputs on the mean of an encoder's last layer."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.output = torch.nn.Linear(encoder.config.hidden_size, 2)

    def forward(self, tokens):
        """Return the logits, (batch, 2)."""
        mask = tokens["attention_mask"][..., None]
        hidden = self.encoder(**tokens).last_hidden_state
        return self.output((hidden * mask).sum(1) / mask.sum(1))


def main(argv: list[str] | None = None) -> list[float]:
    """Train, and return the losses of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--out", default="runs/accelerate")
    parser.add_argument("--tiny", action="store_true", help="a small untrained model")
    options = parser.parse_args(argv)

    set_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=2)
    sentences = sentiment()
    random.Random(0).shuffle(sentences)
    encoder, tokenizer = tiny_bert(text for text, _ in sentences) if options.tiny else minilm()
    model = Classifier(encoder).train()

    def collate(rows):
        texts, labels = zip(*rows, strict=True)
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt"
        )
        return dict(tokens), torch.tensor(labels)

    optimizer = Estimated(
        torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True),
        DiagonalTO(model.parameters(), lr=0.0, alpha=0.01, beta=0.5),
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=options.steps)
    loader = DataLoader(sentences, batch_size=16, shuffle=True, collate_fn=collate)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    losses: list[float] = []
    while len(losses) < options.steps:
        for tokens, labels in loader:
            with accelerator.accumulate(model):
                loss = torch.nn.functional.cross_entropy(model(tokens), labels)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                if accelerator.sync_gradients:
                    losses.append(float(loss.detach()))
                    if len(losses) % 10 == 0:
                        known = monitor(optimizer)
                        accelerator.print(
                            f"step {len(losses)}  loss {losses[-1]:.4f}  "
                            f"residual {known['residual_norm']:.3g}  ‖A‖ {known['norm_A']:.3g}"
                        )
                optimizer.zero_grad()
            if len(losses) == options.steps:
                break
    accelerator.save_state(options.out)  # optimizer included: load_state goes on from here
    return losses


if __name__ == "__main__":
    main(sys.argv[1:])
