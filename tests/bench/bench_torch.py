#!/usr/bin/env python3
"""The networks of tests/bench/bench.c in PyTorch, layer by layer, and the same training step; one
JSON line as bench's.

    OMP_NUM_THREADS=2 python3 tests/bench/bench_torch.py dcgan28        (Debian: python3-torch)
    python3 tests/bench/bench_torch.py dcgan28 cuda                     (tensor cores in tf32)
"""
import json
import resource
import sys
import time

import torch
from torch import nn

NETS = {'dcgan28': (28, 64, 15), 'dcgan64': (64, 128, 3)}  # image size, batch, timed steps


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
        layers += [
            nn.Conv2d(a, b, 4, 2, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    head = (
        [nn.Flatten(), nn.Linear(128 * 49, 1)]
        if size == 28
        else [nn.Conv2d(512, 1, 4, 1, 0, bias=False)]
    )
    return nn.Sequential(*layers, *head)


def modulated_conv(x, weight, style):
    """StyleGAN2's: a weight for each image, and one grouped convolution."""
    n, c, h, w = x.shape
    weight = weight[None] * style.reshape(n, 1, c, 1, 1)
    weight = weight * (weight.square().sum([2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    return nn.functional.conv2d(
        x.reshape(1, n * c, h, w), weight.reshape(-1, c, 3, 3), padding=1, groups=n
    ).reshape(n, -1, h, w)


def upfirdn2d(x, up, down, pad0, pad1, gain):
    """Zeros between, zeros around, a convolution of each axis, every down-th pixel: the plain
    version of StyleGAN2's."""
    n, c, h, w = x.shape
    f = torch.tensor([1.0, 3, 3, 1]) / 8 * gain
    x = nn.functional.pad(x.reshape(n, c, h, 1, w, 1), [0, up - 1, 0, 0, 0, up - 1]).reshape(
        n, c, h * up, w * up
    )
    x = nn.functional.pad(x, [pad0, pad1, pad0, pad1])
    x = nn.functional.conv2d(x, f.reshape(1, 1, 1, -1).repeat(c, 1, 1, 1), groups=c)
    return nn.functional.conv2d(x, f.reshape(1, 1, -1, 1).repeat(c, 1, 1, 1), groups=c)[
        :, :, ::down, ::down
    ]


def operations():
    """The rows of bench's operations: NAME milliseconds."""
    F = nn.functional
    rows = {
        'batch_norm': ((64, 64, 64, 64), nn.BatchNorm2d(64)),
        'instance_norm': ((64, 64, 64, 64), nn.InstanceNorm2d(64, affine=True)),
        'upfirdn2d_up': ((16, 64, 64, 64), lambda x: upfirdn2d(x, 2, 1, 2, 1, 2)),
        'upfirdn2d_down': ((16, 64, 128, 128), lambda x: upfirdn2d(x, 1, 2, 1, 1, 1)),
        'bilinear': (
            (16, 64, 64, 64),
            lambda x: F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False),
        ),
        'softmax': ((16, 1, 1024, 1024), lambda x: x.softmax(3)),
        'tanh': ((64, 64, 64, 64), torch.tanh),
    }
    w, style = torch.randn(128, 128, 3, 3, requires_grad=True), torch.randn(
        16, 128, requires_grad=True
    )
    rows['modulated_conv'] = ((16, 128, 32, 32), lambda x: modulated_conv(x, w, style))

    def report(name, seconds):
        print(f'{name} {1e3 * sorted(seconds)[len(seconds) // 2]:.3f} ms', flush=True)

    p = nn.Parameter(torch.randn(10_000_000))
    adam, seconds = torch.optim.Adam([p], 1e-3), []
    p.grad = torch.randn(10_000_000)
    for _ in range(9):
        start = time.perf_counter()
        adam.step()
        seconds.append(time.perf_counter() - start)
    report('adam_10M', seconds[2:])
    for name, (shape, f) in rows.items():
        x, forward, backward = torch.randn(shape, requires_grad=True), [], []
        for i in range(9):
            start = time.perf_counter()
            y = f(x)
            middle = time.perf_counter()
            gy = torch.ones_like(y)
            start_back = time.perf_counter()
            y.backward(gy)
            if i >= 2:
                forward.append(middle - start)
                backward.append(time.perf_counter() - start_back)
            x.grad = w.grad = style.grad = None
        report(f'{name}_forward', forward)
        report(f'{name}_backward', backward)


def main():
    name = sys.argv[1]
    if name == 'operations':
        return operations()
    size, batch, steps = NETS[name]
    torch.manual_seed(1)
    device = sys.argv[2] if len(sys.argv) > 2 else 'cpu'
    torch.backends.cuda.matmul.allow_tf32 = (
        torch.backends.cudnn.allow_tf32
    ) = torch.backends.cudnn.benchmark = True
    G, D = generator(size).to(device), discriminator(size).to(device)
    adam_g, adam_d = (torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (G, D))
    real = torch.rand(batch, 1, size, size, device=device) * 2 - 1

    def loss(logits, target):
        return nn.functional.binary_cross_entropy_with_logits(
            logits, torch.full_like(logits, target)
        )

    def step():
        adam_d.zero_grad(set_to_none=True)
        loss(D(real), 1.0).backward()
        fake = G(torch.randn(batch, 100, 1, 1, device=device))
        loss(D(fake.detach()), 0.0).backward()
        adam_d.step()
        adam_g.zero_grad(set_to_none=True)
        D.requires_grad_(False)  # no weight gradient of D is wanted here
        loss(D(fake), 1.0).backward()
        D.requires_grad_(True)
        adam_g.step()

    seconds = []
    for i in range(2 + steps):
        start = time.perf_counter()
        step()
        if device != 'cpu':
            torch.cuda.synchronize()
        if i >= 2:
            seconds.append(time.perf_counter() - start)
    median = sorted(seconds)[steps // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                'net': name,
                'device': device,
                'batch': batch,
                'threads': torch.get_num_threads(),
                'step_s': round(median, 6),
                'peak_bytes': peak,
                'torch': torch.__version__,
            }
        )
    )


if __name__ == '__main__':
    main()
