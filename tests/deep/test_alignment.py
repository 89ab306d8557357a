"""Numbers worked out by hand."""

import math

import pytest
import torch

from trainopt.deep.alignment import alignment


def test_by_hand_over_several_tensors():
    estimate = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    gradient = [torch.tensor([0.0]), torch.tensor([[0.0, 2.0]])]
    error, cosine = alignment(estimate, gradient)
    assert error == pytest.approx((9 + 4) / 4)
    assert cosine == pytest.approx(8 / (5 * 2))


def test_the_gradient_itself_and_its_opposite():
    gradient = [torch.randn(5), torch.randn(2, 3)]
    assert alignment(gradient, gradient) == pytest.approx((0.0, 1.0))
    assert alignment([-g for g in gradient], gradient) == pytest.approx((4.0, -1.0))


def test_what_has_no_answer_is_nan():
    zero, one = [torch.zeros(2)], [torch.ones(2)]
    assert all(map(math.isnan, alignment(one, zero)))
    error, cosine = alignment(zero, one)
    assert error == 1
    assert math.isnan(cosine)
    assert all(map(math.isnan, alignment([torch.tensor([math.inf, 0.0])], one)))
