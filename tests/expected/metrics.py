#!/usr/bin/env python3
"""Expected numbers of tests/metrics.c, computed another way: prints them as the C constants that
stand there. Needs numpy.

    python3 tests/expected/metrics.py
"""
import sys

try:
    import numpy as np
except ImportError:
    sys.exit('metrics.py: numpy is not here: apt-get install python3-numpy')


def numbers(seed, count):
    """A linear congruential generator; 16 bits each, in [-1/2,1/2): exact in single precision.
    tests/metrics.c has the same."""
    out = []
    for _ in range(count):
        seed = (1664525 * seed + 1013904223) % 2**32
        out.append((seed >> 16) / 65536 - 0.5)
    return np.array(out)


def features(seed, n, d, shift):
    x = numbers(seed, n * d).reshape(n, d)
    x[:, 1:] += x[:, :-1] * 2  # columns that depend on each other
    return x + shift


def frechet(a, b):
    """The roots of the eigenvalues of A B itself, which is not symmetric."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    cross = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * cross


def kernel(a, b):
    k = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    off = lambda m: m[~np.eye(len(m), dtype=bool)].mean()
    return off(k(a, a)) + off(k(b, b)) - 2 * k(a, b).mean()


def precision_recall(real, fake, k):
    distance = lambda x, y: np.sqrt(((x[:, None] - y[None]) ** 2).sum(2))
    reach = lambda x: np.sort(distance(x, x), 1)[:, k]  # column 0 is the row itself
    precision = (distance(fake, real) <= reach(real)).any(1).mean()
    recall = (distance(real, fake) <= reach(fake)).any(1).mean()
    return precision, recall


def inception(logits):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.exp((p * np.log(p / p.mean(0))).sum(1).mean())


a, b = features(1, 60, 5, 0), features(2, 50, 5, 0.25)
few, fewer = features(3, 9, 12, 0), features(4, 7, 12, 0.25)
precision, recall = precision_recall(a, b, 3)
for name, value in [
    ('FRECHET', frechet(a, b)),
    ('SINGULAR', frechet(few, fewer)),
    ('KERNEL', kernel(a, b)),
    ('PRECISION', precision),
    ('RECALL', recall),
    ('INCEPTION', inception(features(5, 40, 6, 0))),
]:
    print(f'#define {name:9} {value:.15g}')
