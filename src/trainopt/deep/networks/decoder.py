"""A small decoder-only transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """Learned positions, pre-norm blocks of torch's own layer with a causal mask, no dropout.

    Args:
        vocabulary: number of symbols.
        length: the longest sequence.
        width: of the residual stream.
        layers: number of blocks.
        heads: of the attention.
    """

    def __init__(
        self, vocabulary: int, length: int, width: int = 64, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.embed_position = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        for table in (self.embed, self.embed_position):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, symbols: Tensor) -> Tensor:
        """Symbols of shape (n, length), int64, to the logits of the next ones (n, length, v)."""
        length = symbols.shape[1]
        x = self.embed(symbols) + self.embed_position.weight[:length]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)
        logits: Tensor = self.head(self.norm(x))
        return logits
