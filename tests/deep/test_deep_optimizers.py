"""What the table of optimizers makes."""

import pytest
import torch
from tiny_task import Net, tiny

from trainopt.deep.runner import Plan, train
from trainopt.errors import InputError
from trainopt.harness.combined import Combined
from trainopt.harness.optimizers import OPTIMIZERS, is_hidden_matrix, optimizer_named


def test_an_estimate_that_is_the_gradient_changes_nothing():
    task = tiny()
    plan = Plan(10, 8, (5, 10))
    plain = {"lr": 0.01, "lr_schedule": "cosine", "one_minus_beta1": 0.1}
    both = [
        train(task, task.validation, OPTIMIZERS[name], settings, 0, plan)
        for name, settings in (("adamw", plain), ("adamw-alpha0", plain | {"beta": 1.0}))
    ]
    assert [row["val_loss"] for row in both[0]] == [row["val_loss"] for row in both[1]]


def test_muon_takes_hidden_matrices_only():
    taken = [name for name, p in Net().named_parameters() if is_hidden_matrix(name, p)]
    assert taken == ["hidden.weight"]
    assert not is_hidden_matrix("embed.weight", torch.zeros(3, 3))


def test_a_combined_optimizer_is_its_parts():
    torch.manual_seed(0)
    a, b = torch.nn.Parameter(torch.randn(3, 3)), torch.nn.Parameter(torch.randn(3))
    others = [torch.nn.Parameter(p.detach().clone()) for p in (a, b)]
    combined = Combined(torch.optim.Muon([a], lr=0.1), torch.optim.AdamW([b], lr=0.1))
    apart = [torch.optim.Muon([others[0]], lr=0.05), torch.optim.AdamW([others[1]], lr=0.05)]
    for group in combined.param_groups:
        group["lr"] = 0.05  # reaches the parts
    for _ in range(3):
        for p, q in zip((a, b), others, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        combined.step()
        for part in apart:
            part.step()
    assert torch.equal(a, others[0])
    assert torch.equal(b, others[1])
    assert set(combined.state) == {a, b}
    combined.zero_grad()
    assert a.grad is None


def test_an_unknown_optimizer_gets_a_sentence():
    with pytest.raises(InputError, match=r"There is no optimizer lyon: did you mean lion\?"):
        optimizer_named("lyon", "deep")
    with pytest.raises(InputError, match=r"full is for linear problems: choose some of diagonal"):
        optimizer_named("full", "deep")
    with pytest.raises(InputError, match=r"lion is for deep networks: choose some of full"):
        optimizer_named("lion", "convex")
