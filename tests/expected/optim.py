#!/usr/bin/env python3
"""Prints the tables at the top of tests/optim.c: what PyTorch's optimizers and learning rates do,
in double precision.

    python3 tests/expected/optim.py
"""
import math
import torch

torch.set_default_dtype(torch.float64)
INPUTS = torch.tensor([math.sin(i + 1) for i in range(15)]).reshape(5, 3)
TARGETS = torch.tensor([0.5 * math.cos(2 * i) for i in range(10)]).reshape(5, 2)


def lbfgs(parameters, lr):
    return torch.optim.LBFGS(
        parameters, lr=lr, max_iter=1, history_size=3, tolerance_grad=0, tolerance_change=0
    )


OPTIMIZERS = {
    "momentum": (1, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "adam": (1, lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.5, 0.99))),
    "adamw": (1, lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.5, 0.99), weight_decay=0.3)),
    "rmsprop": (1, lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9)),
    "lbfgs": (1, lambda p: lbfgs(p, 0.7)),
    "lbfgs_small": (
        2.0**-40,
        lambda p: lbfgs(p, 2.0**38),
    ),  # y.s is below 1e-10 at every step: no pair is kept
}


def train(scale, make, steps):
    """The loss scale * mean((tanh(x w^T + b) - t)^2), 5 examples, w (2,3), b (2)."""
    w = torch.tensor([0.3 * math.sin(3 * i + 1) for i in range(6)]).reshape(2, 3).requires_grad_()
    b = torch.tensor([0.1, -0.2]).requires_grad_()
    optimizer = make([w, b])
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            loss = scale * ((torch.tanh(INPUTS @ w.T + b) - TARGETS) ** 2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    return torch.cat([w.flatten(), b]).tolist()


def rates(make, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def table(numbers):
    return "{" + ", ".join("%.17g" % x for x in numbers) + "}"


for name, (scale, make) in OPTIMIZERS.items():
    for steps in (2, 10):
        print('    {"%s", %d, %s},' % (name, steps, table(train(scale, make, steps))))
of = torch.optim.lr_scheduler
print("step:  ", table(rates(lambda o: of.StepLR(o, 3, 0.5), 10)))
print("linear:", table(rates(lambda o: of.LinearLR(o, 1, 0, 8), 10)))
print("cosine:", table(rates(lambda o: of.CosineAnnealingLR(o, 9), 10)))
print("warmup:", table(rates(lambda o: of.LinearLR(o, 1 / 4, 1, 3), 10)))
