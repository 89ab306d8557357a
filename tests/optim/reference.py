"""The method as plain float64 NumPy, written from the algorithms and not from our code."""

from __future__ import annotations

import numpy as np


class Full:
    def __init__(self, d):
        self.A, self.b = np.zeros((d, d)), np.zeros(d)

    def estimate(self, w, g, alpha, beta):
        e = g - self.A @ w - self.b
        self.A = self.A + alpha * np.outer(e, w)
        self.b = self.b + beta * e
        return self.A @ w + self.b


class Diagonal:
    def __init__(self, d):
        self.a, self.b = np.zeros(d), np.zeros(d)

    def estimate(self, w, g, alpha, beta):
        e = g - self.a * w - self.b
        self.a = self.a + alpha * e * w
        self.b = self.b + beta * e
        return self.a * w + self.b


class RankOne:
    def __init__(self, d):
        self.a, self.c, self.b = np.zeros(d), np.full(d, 1 / np.sqrt(d)), np.zeros(d)

    def estimate(self, w, g, alpha, beta):
        A = np.outer(self.a, self.c)
        e = g - A @ w - self.b
        grad_A = -np.outer(e, w)  # ∂l/∂A; the chain rule gives ∂l/∂a = (∂l/∂A) c and so on
        grad_a, grad_c = grad_A @ self.c, grad_A.T @ self.a
        self.a = self.a - alpha * grad_a
        self.c = self.c - alpha * grad_c
        self.b = self.b + beta * e
        return np.outer(self.a, self.c) @ w + self.b


def trajectory(model, w, gradients, *, lr, alpha, beta, weight_decay=0.0):
    """Return the weights after every step; rates are functions of t."""
    path = []
    for t, gradient in enumerate(gradients):
        estimate = model.estimate(w, gradient(w), alpha(t), beta(t))
        w = (1 - lr(t) * weight_decay) * w - lr(t) * estimate
        path.append(w)
    return np.array(path)


def quadratic_gradients(rng, d, steps):
    """Noisy gradients of ½ wᵀHw − hᵀw with the spectrum of H in [0.1, 1]."""
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    H, h = (q * np.linspace(0.1, 1.0, d)) @ q.T, rng.normal(size=d)
    noise = rng.normal(size=(steps, d)) * 0.3
    return [lambda w, n=n: H @ w - h + n for n in noise]
