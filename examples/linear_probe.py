"""A linear probe on frozen MiniLM features, to its optimum, by SecantTO.

    python examples/linear_probe.py

A sentence encoder stays as it is; softmax regression on its 384 features tells good from bad
reviews. Its optimum is one point, so that a probe that reaches it is the same in every run. On
other rows it is no better for that: ADAM, short of the optimum, classifies as well. By passes
SecantTO is ahead, by seconds L-BFGS, as all rows are one small matrix here.
"""

from __future__ import annotations

import argparse
import random
import sys

import torch
from passes import Row, adam, lbfgs, objective, secant, show
from sklearn.linear_model import LogisticRegression
from tiny import tiny_bert
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from trainopt.data.pretrained import minilm
from trainopt.data.text import sentiment

L2 = 1e-3


@torch.no_grad()
def features(texts: list[str], tiny: bool) -> Tensor:
    """Means over the tokens of what the frozen encoder gives, standardised: (n, width)."""
    encoder, tokenizer = tiny_bert(texts) if tiny else minilm()
    encoder.eval()
    found = []
    for start in range(0, len(texts), 64):
        part = texts[start : start + 64]
        tokens = tokenizer(part, padding=True, truncation=True, max_length=32, return_tensors="pt")
        mask = tokens["attention_mask"][..., None]
        hidden = encoder(**tokens).last_hidden_state
        found.append((hidden * mask).sum(1) / mask.sum(1))
    joined = torch.cat(found)
    return (joined - joined.mean(0)) / joined.std(0)


def main(argv: list[str] | None = None) -> dict[str, Row]:
    """Fit, print the table, and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", help="not used: the table is all there is")
    parser.add_argument("--tiny", action="store_true", help="an untrained encoder, few sentences")
    options = parser.parse_args(argv)

    sentences = sentiment()
    random.Random(0).shuffle(sentences)
    sentences = sentences[:400] if options.tiny else sentences
    x = features([text for text, _ in sentences], options.tiny)
    y = torch.tensor([label for _, label in sentences])
    held_out = len(x) // 5
    data = TensorDataset(x[held_out:], y[held_out:])
    loss = nn.functional.cross_entropy

    def linear() -> nn.Linear:
        model = nn.Linear(x.shape[1], 2)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    def row(method: str, passes: int, seconds: float, model: nn.Linear) -> Row:
        with torch.no_grad():
            right = (model(x[:held_out]).argmax(1) == y[:held_out]).double().mean()
        return Row(method, passes, seconds, objective(model, loss, data, L2), float(right))

    rows = []
    for name, train in (("SecantTO", secant), ("ADAM", adam)):
        torch.manual_seed(0)
        model = linear()
        seconds = train(model, loss, data, options.batch, options.passes, L2)
        rows.append(row(name, options.passes, seconds, model))
    for evaluations in (options.passes, 10 * options.passes):
        model = linear()
        seconds = lbfgs(model, loss, data, evaluations, L2)
        rows.append(row(f"L-BFGS, {evaluations} evaluations", evaluations, seconds, model))
    best = optimal_value(data, loss)
    title = f"probe: {len(data)} sentences, {2 * x.shape[1] + 2} weights, λ = {L2:g}"
    return show(title, rows, best, "accuracy")


def optimal_value(data: TensorDataset, loss) -> float:
    """F*, by scikit-learn: two outputs with λ each are one with λ/2, and the bias is a feature."""
    x, y = data.tensors
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double().numpy()
    fit = LogisticRegression(
        C=2 / (L2 * len(x)), fit_intercept=False, solver="newton-cholesky", tol=1e-12, max_iter=1000
    ).fit(x, y.numpy())
    w = torch.from_numpy(fit.coef_)[0] / 2
    model = nn.Linear(len(w) - 1, 2).double()
    model.weight.data.copy_(torch.stack([-w[:-1], w[:-1]]))
    model.bias.data.copy_(torch.stack([-w[-1], w[-1]]))
    return objective(model, loss, data, L2)


if __name__ == "__main__":
    main(sys.argv[1:])
