"""Fine-tuning a pretrained encoder to tell good reviews from bad ones."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainopt.data.frozen_features import stored
from trainopt.data.pretrained import MINILM, minilm
from trainopt.data.text import SENTIMENT, sentiment
from trainopt.deep.task import CROSS_ENTROPY, Ready, Rows, split
from trainopt.deep.tasks import Size

_LENGTH = 24  # tokens; more than three in four of the sentences are no longer
_TRAINED = 2  # layers of the CPU size


class Pooled(nn.Module):
    """Encoder layers, the mean over the tokens, and a new linear layer.

    Args:
        encoder: takes what is given and the mask, of shape (n, length), 1 where there is a token.
        width: of its output.
        classes: number of outputs.
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        """To logits (n, classes)."""
        hidden = self.encoder(given, mask)
        kept = mask.unsqueeze(-1).to(hidden.dtype)
        logits: Tensor = self.head((hidden * kept).sum(1) / kept.sum(1))
        return logits


class Whole(nn.Module):
    """The whole encoder, from token ids."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """To hidden states (n, length, width)."""
        hidden: Tensor = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden


class Top(nn.Module):
    """The last layers, from the hidden states below them."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """To hidden states (n, length, width)."""
        allowed = mask[:, None, None, :].bool()
        for layer in self.layers:
            hidden = layer(hidden, allowed)
        return hidden


def encoder(size: Size) -> Ready:
    """Build the task encoder."""
    bert, tokenizer = minilm()
    bert.pooler = None  # it belongs to another use of the model, and gets no gradient
    bert.eval()
    sentences = sentiment()
    tokens = tokenizer(
        [text for text, _ in sentences],
        padding="max_length",
        truncation=True,
        max_length=_LENGTH,
        return_tensors="pt",
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    labels = torch.tensor([label for _, label in sentences])
    width = bert.config.hidden_size
    encoder: nn.Module = Whole(bert)
    given = ids
    if size == "cpu":
        below = len(bert.encoder.layer) - _TRAINED
        given = stored(
            f"minilm-layer{below}",
            MINILM.sha256,
            ids,
            lambda: hidden_states(bert, ids, mask, below),
        )
        encoder = Top(bert.encoder.layer[-_TRAINED:])
    parts = split(Rows((given, mask), labels), tune=256, validation=256, probe=128)
    return Ready(
        **parts,
        model=partial(_fresh, encoder, width),
        tokens=1,
        loss=CROSS_ENTROPY,
        facts={
            "data": f"review sentences, {SENTIMENT.title}",
            "weights": f"all-MiniLM-L6-v2, {MINILM.title}",
        },
    )


def hidden_states(bert: Any, ids: Tensor, mask: Tensor, below: int) -> Tensor:
    """What the first `below` layers of a BERT give: (n, length, width), float32."""
    found = []
    for start in range(0, len(ids), 64):
        part = slice(start, start + 64)
        given = bert(input_ids=ids[part], attention_mask=mask[part], output_hidden_states=True)
        found.append(given.hidden_states[below])
    return torch.cat(found)


def _fresh(encoder: nn.Module, width: int) -> nn.Module:
    """A copy of the pretrained layers under a new head, without dropout: losses are compared."""
    model = Pooled(deepcopy(encoder), width)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model
