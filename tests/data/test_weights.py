"""Texts and pretrained weights out of packages."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from trainopt.data import packages, pretrained, text
from trainopt.data.packages import Archive
from trainopt.errors import InputError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*SwigPy.*:DeprecationWarning", "ignore:builtin type swig.*:DeprecationWarning"
)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINOPT_CACHE", str(tmp_path / "cache"))


def a_tarball(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, inside in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(inside)
            tar.addfile(info, io.BytesIO(inside))
    return content.getvalue()


def npm_archive(content):
    return Archive("npm", "p@1", packages.hashlib.sha256(content).hexdigest(), "MIT")


@pytest.mark.usefixtures("own_cache")
def test_an_npm_package_is_packed_by_npm_read_and_unpacked(monkeypatch):
    content = a_tarball({"package/one.json": b"1", "package/deep/two.txt": b"22"})

    def run(command, cwd, **_):
        assert command[:2] == ["npm", "pack"]
        (cwd / "fetched" / "p-1.tgz").write_bytes(content)

    monkeypatch.setattr(packages.subprocess, "run", run)
    package = npm_archive(content)
    assert package.title == "npm p@1"
    assert package.read("one.json") == b"1"
    folder = package.unpacked("one.json", "deep/two.txt")
    monkeypatch.setattr(packages, "_tarball", None)  # what is unpacked is not read again
    assert package.unpacked("one.json", "deep/two.txt") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "one.json": b"1",
        "two.txt": b"22",
    }


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("error", [FileNotFoundError("npm"), subprocess.CalledProcessError(1, "n")])
def test_without_npm_or_its_registry_it_says_so(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(packages.subprocess, "run", fail)
    with pytest.raises(InputError, match=r"npm sentiment@5\.0\.2 isn't in .* and can't be fetched"):
        text.sentiment()


def test_sentences_come_once_and_with_a_class(monkeypatch):
    entries = [("good ", 1), ("bad", 0), ("good", 1), ("", None)]
    content = json.dumps([{"text": t, "class": c} for t, c in entries]).encode()
    source = type("Fake", (), {"read": staticmethod(lambda member: content)})
    monkeypatch.setattr(text, "SENTIMENT", source)
    assert text.sentiment() == [("good", 1), ("bad", 0)]


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"need transformers: pip install 'trainopt\[llm\]'"):
        pretrained.minilm()


def test_a_gguf_file_is_read_as_transformers_reads_it(tmp_path):
    """A Llama of random numbers; Q8_0 and plain tensors; the reference is transformers' reader."""
    gguf = pytest.importorskip("gguf")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(0)
    letters = [chr(c) for c in range(33, 127)]
    merges = ["a b", "ab c", "t h", "th e"]
    tokens = ["<|unk|>", "<|start|>", "<|end|>", *letters, "Ġ", "ab", "abc", "th", "the"]
    width, hidden, heads, kv_heads = 64, 96, 4, 2
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(merges)
    for role, number in (("unk", 0), ("bos", 1), ("eos", 2), ("pad", 2)):
        getattr(writer, f"add_{role}_token_id")(number)

    def add(name, *shape, kind=None):
        value = rng.normal(size=shape).astype(np.float32) * 0.3
        if kind is None:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)

    eight = gguf.GGMLQuantizationType.Q8_0
    add("token_embd.weight", len(tokens), width, kind=eight)
    add("output_norm.weight", width)
    for layer in range(2):
        for name, rows, columns in (
            ("attn_q", width, width),
            ("attn_k", width // heads * kv_heads, width),
            ("attn_v", width // heads * kv_heads, width),
            ("attn_output", width, width),
            ("ffn_gate", hidden, width),
            ("ffn_up", hidden, width),
            ("ffn_down", width, hidden),
        ):
            add(f"blk.{layer}.{name}.weight", rows, columns, kind=eight)
        add(f"blk.{layer}.attn_norm.weight", width)
        add(f"blk.{layer}.ffn_norm.weight", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model, tokenizer = pretrained.read_gguf(tmp_path / "tiny.gguf")
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.float32
    )
    ids = torch.arange(12).reshape(1, 12)
    assert torch.equal(model(input_ids=ids).logits, reference(input_ids=ids).logits)
    assert tokenizer("the abcd 42<|end|>")["input_ids"] == [
        tokens.index(x) for x in ("the", "Ġ", "abc", "d", "Ġ", "4", "2", "<|end|>")
    ]
    assert (tokenizer.eos_token, tokenizer.unk_token) == ("<|end|>", "<|unk|>")


def have(load):
    try:
        return load()
    except InputError as reason:
        pytest.skip(str(reason))


@pytest.mark.real
def test_real_sentences():
    sentences = have(text.sentiment)
    assert 2900 < len(sentences) <= 3000
    assert sum(label for _, label in sentences) / len(sentences) == pytest.approx(0.5, abs=0.01)
    assert dict(sentences)["Wow... Loved this place."] == 1


@pytest.mark.real
def test_real_novels():
    novels = have(text.austen)
    assert len(novels) == 6
    assert sum(map(len, novels.values())) == 4_025_022
    assert "a truth universally acknowledged" in novels["Pride and Prejudice"]


@pytest.mark.real
def test_the_real_encoder_knows_what_is_alike():
    model, tokenizer = have(pretrained.minilm)
    assert sum(p.numel() for p in model.parameters()) == 22_713_216
    sentences = ["A man is eating food.", "Someone eats a meal.", "The stock market fell."]
    batch = tokenizer(sentences, return_tensors="pt", padding=True)
    mask = batch["attention_mask"][..., None]
    with torch.no_grad():
        pooled = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    alike = torch.nn.functional.normalize(pooled, dim=1)
    assert alike[0] @ alike[1] > 0.7
    assert abs(alike[0] @ alike[2]) < 0.1


@pytest.mark.real
def test_the_real_llama_speaks():
    model, tokenizer = have(pretrained.smollm2)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert tokenizer.decode(model(input_ids=ids).logits[0, -1].argmax()) == " Paris"
        novel = tokenizer(text.austen()["Emma"][:6000], return_tensors="pt")["input_ids"]
        windows = novel[:, :1024].view(4, 256)
        loss = model(input_ids=windows, labels=windows).loss
    # transformers' own reader of the same file gives 38 on the first 4096 tokens.
    assert 25 < loss.exp() < 55
