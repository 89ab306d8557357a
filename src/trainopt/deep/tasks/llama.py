"""Fine-tuning a pretrained Llama on novels: all weights, or low-rank additions (LoRA)."""

from __future__ import annotations

import warnings
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainopt.data.frozen_features import stored
from trainopt.data.pretrained import SMOLLM2, smollm2
from trainopt.deep.task import CROSS_ENTROPY, Ready, Rows, pieces, split
from trainopt.deep.tasks import Size
from trainopt.deep.tasks.novels import SOURCE, whole_text, windows
from trainopt.errors import InputError

_TRAINED = 1  # layers of the CPU size
_ROWS = {"train": 400, "tune": 32, "validation": 48, "probe": 24}  # windows of the CPU size
_LENGTH = {"cpu": 64, "gpu": 512}
_RANK = 8


class Language(nn.Module):
    """A Llama body under a fixed output layer.

    Args:
        body: a LlamaModel, from ids or from the hidden states that its layers are given.
        output: rows of the (tied) embedding, one for each symbol that is told apart.
    """

    output: Tensor

    def __init__(self, body: nn.Module, output: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("output", output)

    def forward(self, given: Tensor) -> Tensor:
        """Ids (n, length) or hidden states (n, length, width) to logits of the next symbols."""
        name = "inputs_embeds" if given.is_floating_point() else "input_ids"
        hidden: Tensor = self.body(**{name: given}, use_cache=False).last_hidden_state
        return hidden @ self.output.T


class Tied(nn.Module):
    """A Llama whose embedding is trained and is its output layer too."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (n, length) to logits of the next ones."""
        hidden: Tensor = self.body(input_ids=ids, use_cache=False).last_hidden_state
        embedding: Tensor = self.body.embed_tokens.weight
        return hidden @ embedding.T


def full(size: Size) -> Ready:
    """Build the task llama."""
    return _llama(size, with_lora=False)


def lora(size: Size) -> Ready:
    """Build the task llama-lora."""
    return _llama(size, with_lora=True)


def _llama(size: Size, with_lora: bool) -> Ready:
    if with_lora:
        _require_peft()
    llama, tokenizer = smollm2()
    llama.eval()
    ids = tokenizer(whole_text(), return_tensors="pt", verbose=False)["input_ids"][0]
    rows = windows(ids, _LENGTH[size])
    facts: dict[str, Any] = {
        "data": SOURCE,
        "weights": f"SmolLM2-135M-Instruct, {SMOLLM2.title}, dequantised from 4 bits",
    }
    if size == "gpu":
        parts = split(rows, tune=128, validation=256, probe=64)
        body, embedding = llama.model, llama.model.embed_tokens.weight.detach()
        make = partial(_with_lora, body, embedding) if with_lora else partial(_whole, body)
        return Ready(**parts, model=make, tokens=_LENGTH[size], facts=facts, loss=CROSS_ENTROPY)
    parts, symbols = _stored(llama, rows)
    output = llama.model.embed_tokens.weight.detach()[symbols].clone()
    facts["symbols"] = len(symbols)
    body = _top(llama)
    make = partial(_with_lora if with_lora else _top_trained, body, output)
    return Ready(**parts, model=make, tokens=_LENGTH[size], facts=facts, loss=CROSS_ENTROPY)


def _stored(llama: Any, rows: Rows) -> tuple[dict[str, Rows], Tensor]:
    """The few windows of the CPU size as the hidden states below the trained layers.

    The targets are numbered among the symbols that occur in these windows, so that the output
    layer, most of the cost of a short sequence, is as small as they allow.

    Returns:
        The four sets of rows, and the symbols: int64, ids of the vocabulary.
    """
    held_out = {name: count for name, count in _ROWS.items() if name != "train"}
    parts = split(rows, **held_out)
    parts["train"] = parts["train"][: _ROWS["train"]]
    chosen = torch.cat([parts[name].inputs[0] for name in _ROWS])
    targets = torch.cat([parts[name].targets for name in _ROWS])
    symbols, numbered = torch.unique(targets, return_inverse=True)
    below = llama.config.num_hidden_layers - _TRAINED
    hidden = stored(
        f"smollm2-layer{below}", SMOLLM2.sha256, chosen, lambda: _hidden(llama, chosen, below)
    )
    counts = list(_ROWS.values())
    both = zip(_ROWS, pieces(hidden, counts), pieces(numbered, counts), strict=True)
    return {name: Rows((given,), asked) for name, given, asked in both}, symbols


def _hidden(llama: Any, ids: Tensor, below: int) -> Tensor:
    """What the first `below` layers give for the windows."""
    found = []
    for start in range(0, len(ids), 8):
        given = llama.model(ids[start : start + 8], output_hidden_states=True, use_cache=False)
        found.append(given.hidden_states[below])
    return torch.cat(found)


def _top(llama: Any) -> nn.Module:
    """The last layers and the final norm, as a model of their own."""
    body = llama.model
    body.layers = body.layers[-_TRAINED:]
    for i, layer in enumerate(body.layers):
        layer.self_attn.layer_idx = i
    body.embed_tokens = None
    body.config.num_hidden_layers = _TRAINED
    top: nn.Module = body
    return top


def _top_trained(body: nn.Module, output: Tensor) -> nn.Module:
    return Language(deepcopy(body), output)


def _whole(body: nn.Module) -> nn.Module:
    return Tied(deepcopy(body))


def _with_lora(body: nn.Module, output: Tensor) -> nn.Module:
    """Low-rank additions to every linear map; nothing else is trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules="all-linear")
    with warnings.catch_warnings():
        # peft asks transformers for something by its old name.
        warnings.simplefilter("ignore", FutureWarning)
        adapted: Any = get_peft_model(deepcopy(body), config)
    return Language(adapted, output)


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise InputError("LoRA needs peft: pip install 'trainopt[llm]'.") from error
