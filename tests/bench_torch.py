#!/usr/bin/env python3
"""The networks of tests/bench.c in PyTorch, layer by layer, and the same training step; one JSON line as bench's.

    OMP_NUM_THREADS=2 python3 tests/bench_torch.py dcgan28        (Debian: python3-torch)
"""
import json
import resource
import sys
import time

import torch
from torch import nn

NETS = {'dcgan28': (28, 64, 15), 'dcgan64': (64, 128, 3)}    # image size, batch, timed steps


def generator(size):
    layers = []

    def norm_relu(channels):
        layers.extend([nn.BatchNorm2d(channels), nn.ReLU(inplace=True)])

    if size == 28:
        layers += [nn.Flatten(), nn.Linear(100, 128 * 49, bias=False), nn.Unflatten(1, (128, 7, 7))]
        norm_relu(128)
        widths = [128, 64]
    else:
        layers.append(nn.ConvTranspose2d(100, 512, 4, 1, 0, bias=False))
        norm_relu(512)
        widths = [512, 256, 128, 64]
    for a, b in zip(widths, widths[1:]):
        layers.append(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False))
        norm_relu(b)
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=size == 28), nn.Tanh())


def discriminator(size):
    layers = [nn.Conv2d(1, 64, 4, 2, 1, bias=size == 28), nn.LeakyReLU(0.2, inplace=True)]
    widths = [64, 128] if size == 28 else [64, 128, 256, 512]
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, inplace=True)]
    head = [nn.Flatten(), nn.Linear(128 * 49, 1)] if size == 28 else [nn.Conv2d(512, 1, 4, 1, 0, bias=False)]
    return nn.Sequential(*layers, *head)


def main():
    name = sys.argv[1]
    size, batch, steps = NETS[name]
    torch.manual_seed(1)
    G, D = generator(size), discriminator(size)
    adam_g, adam_d = (torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (G, D))
    real = torch.rand(batch, 1, size, size) * 2 - 1

    def loss(logits, target):
        return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    def step():
        adam_d.zero_grad(set_to_none=True)
        loss(D(real), 1.0).backward()
        fake = G(torch.randn(batch, 100, 1, 1))
        loss(D(fake.detach()), 0.0).backward()
        adam_d.step()
        adam_g.zero_grad(set_to_none=True)
        D.requires_grad_(False)            # no weight gradient of D is wanted here
        loss(D(fake), 1.0).backward()
        D.requires_grad_(True)
        adam_g.step()

    seconds = []
    for i in range(2 + steps):
        start = time.perf_counter()
        step()
        if i >= 2:
            seconds.append(time.perf_counter() - start)
    median = sorted(seconds)[steps // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({'net': name, 'batch': batch, 'threads': torch.get_num_threads(), 'step_s': round(median, 6), 'peak_bytes': peak,
                      'torch': torch.__version__}))


if __name__ == '__main__':
    main()
