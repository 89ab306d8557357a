"""SecantTO in float64 NumPy with dense matrices, straight from its description.

No compact form, no kept products, no flat buffers: every B_k is built by BFGS, one pair after the
other, and A is inverted as a matrix. The restart of the base phase and the return to it are left
out; the problems that it is compared on need neither.
"""

import math

import numpy as np


def bfgs(d, delta, pairs):
    b = delta * np.eye(d)
    for s, y in pairs:
        bs = b @ s
        b = b - np.outer(bs, bs) / (s @ bs) + np.outer(y, y) / (s @ y)
    return b


class Reference:
    def __init__(self, w, chunks, lr, pairs, first=2, scale=0.5, trust=3.0, patience=3):
        """`chunks`: for each chunk the number of rows of each of its steps."""
        self.w = np.array(w, dtype=np.float64)
        self.K, self.d = len(chunks), self.w.size
        rows = np.array([sum(chunk) for chunk in chunks], dtype=np.float64)
        self.p = rows / rows.sum()
        self.chunks, self.steps = chunks, sum(map(len, chunks))
        self.lr, self.M, self.first = lr, pairs, first
        self.scale, self.trust, self.patience = scale, trust, patience
        self.u = [np.zeros(self.d) for _ in chunks]
        self.c = [None] * self.K
        self.pairs, self.gamma = [], None
        self.passes, self.t, self.secant, self.checked = 0, 0, False, False
        self.moves, self.low, self.stuck, self.good, self.need = self.K, math.inf, 0, 0, 1
        self.radius, self.last = math.inf, None
        self.estimate = None

    def run_pass(self, gradient):
        """`gradient(k, i, w)`: the mean gradient at w of the rows of step i of chunk k."""
        jump = []
        for k, sizes in enumerate(self.chunks):
            check = self.secant and not self.checked and k == min(1, self.K - 1) and self.held
            back = self.w
            if check:
                self.w = self.u[k]
            points, gradients = [], []
            for i, _ in enumerate(sizes):
                g = gradient(k, i, self.w)
                points.append(self.w)
                gradients.append(g)
                if not self.secant:
                    self.w = self.w - self.lr / (1 + self.t / self.steps) * g
                    self.t += 1
            end = k == self.K - 1
            self.passes += end
            if check:
                self.checked, self.w, self.last = True, back, None
                continue
            u = np.average(points, axis=0, weights=sizes)
            c = np.average(gradients, axis=0, weights=sizes)
            if self.c[k] is not None:
                s, y = u - self.u[k], c - self.c[k]
                if not self.secant or self.moves > 1 or self.K == 1:
                    self.push(s, y, k)
                else:
                    jump.append((self.p[k] * s, self.p[k] * y))
            self.u[k], self.c[k] = u, c
            if k == min(1, self.K - 1):
                self.held = self.secant
            if end and len(jump) == self.K:
                self.push(sum(s for s, _ in jump), sum(y for _, y in jump), None)
            if end and not self.secant and self.passes >= self.first:
                self.secant, self.last = True, None
                self.radius = self.trust * self.spread(self.w)
            if self.secant and (end or (k + 1) % max(1, self.K // self.moves) == 0):
                self.move(end)

    @property
    def shown(self):
        """The weights between passes: with one chunk, they wait for the check at the old point."""
        waits = self.K == 1 and self.secant and not self.checked and self.held
        return self.u[0] if waits else self.w

    def push(self, s, y, owner):
        if s @ y > 1e-6 * np.linalg.norm(s) * np.linalg.norm(y):
            length = np.linalg.norm(s)
            self.pairs = [*self.pairs, (s / length, y / length, owner)][-self.M :]
            self.gamma = (s @ y) / (y @ y)

    def spread(self, w):
        return max(np.linalg.norm(w - u) for u in self.u)

    def matrices(self):
        delta = self.scale / (self.gamma or self.lr)
        return [
            bfgs(
                self.d,
                delta,
                [(s, y) for s, y, owner in self.pairs if owner not in (k, None)]
                + [(s, y) for s, y, owner in self.pairs if owner in (k, None)],
            )
            for k in range(self.K)
        ]

    def model(self, w):
        """Ĝ(w) and A."""
        b = self.matrices()
        g = sum(self.p[k] * (self.c[k] + b[k] @ (w - self.u[k])) for k in range(self.K))
        return g, sum(self.p[k] * b[k] for k in range(self.K))

    def move(self, end):
        w = self.w
        g, a = self.model(w)
        if self.last is not None:
            origin, before = self.last
            s = w - origin
            if before < 0 and g @ s > -3 * before:
                part = before / (before - g @ s)
                w = origin + part * s
                g, a = self.model(w)
                self.radius = max(part, 0.1) * np.linalg.norm(s)
        divisor = 1.0
        if end:
            n = np.linalg.norm(g)
            self.stuck = 0 if n < self.low else self.stuck + 1
            self.low = min(n, self.low)
            self.good = self.good + 1 if self.stuck == 0 else 0
            if self.stuck == 0:
                if self.moves > 1 or self.good >= self.need:
                    self.moves = min(2 * self.moves, self.K)
            elif self.stuck >= self.patience and self.moves > 1:
                self.moves //= 2
                if self.moves == 1:
                    self.pairs, self.need, self.good = [], 4 * self.need, 0
                    self.low, self.stuck = math.inf, 0
                    g, a = self.model(w)
        if self.moves == 1 and self.stuck >= 2 * self.patience:
            divisor = 2.0 + self.stuck - 2 * self.patience
        step = -np.linalg.solve(a, g) / divisor
        n = np.linalg.norm(step)
        if n > self.radius:
            step = step * (self.radius / n)
        self.radius = self.trust * max(min(n, self.radius), self.spread(w))
        self.w, self.last, self.estimate = w + step, (w, g @ step), g
