#!/usr/bin/env python3
"""How good are sampled digits? Frechet distance (Heusel et al. 2017) between samples and MNIST's
test images, in the 500 features of a
LeNet classifier that neither side was trained with, and how many samples it takes for each digit.

    build/01_dcgan --samples 10000 --out out/x
    python3 tests/bench/frechet.py lenet_mnist.safetensors data/mnist/t10k-images-idx3-ubyte.gz
    out/x/samples-idx3-ubyte ...

The classifier: safetensors with conv1 (1 to 20, k5), conv2 (20 to 50, k5), fc1 (800 to 500), fc2
(500 to 10), max pooling by 2 after each
convolution, ReLU after fc1, images in [0,1]. Needs python3-torch.
"""
import gzip
import json
import os
import struct
import sys

try:
    import numpy as np
    import torch
    from torch.nn import functional as F
except ImportError:
    sys.exit('frechet.py: PyTorch is not here: apt-get install python3-torch')


def read_weights(path):
    with open(path, 'rb') as file:
        data = file.read()
    length = struct.unpack('<Q', data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != '__metadata__':
            begin, end = entry['data_offsets']
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], np.float32)
            tensors[name] = torch.from_numpy(values.reshape(entry['shape']).copy())
    return tensors


def read_images(path):
    with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as file:
        return np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 1, 28, 28)


def features(w, images):
    found, digits = [], []
    for start in range(0, len(images), 500):
        x = torch.from_numpy(images[start : start + 500].astype(np.float32) / 255)
        x = F.max_pool2d(F.conv2d(x, w['conv1.weight'], w['conv1.bias']), 2)
        x = F.max_pool2d(F.conv2d(x, w['conv2.weight'], w['conv2.bias']), 2)
        x = F.relu(F.linear(x.flatten(1), w['fc1.weight'], w['fc1.bias']))
        found.append(x.double())
        digits.append(F.linear(x, w['fc2.weight'], w['fc2.bias']).argmax(1))
    return torch.cat(found).numpy(), torch.cat(digits).numpy()


def frechet(a, b):
    """|mean a - mean b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2); the roots by eigenvalues, which
    singular covariances allow."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    for path in sys.argv[1:]:
        if not os.path.exists(path):
            sys.exit(f'frechet.py: {path} is not there')
    weights = read_weights(sys.argv[1])
    real, _ = features(weights, read_images(sys.argv[2]))
    for path in sys.argv[3:]:
        made, digits = features(weights, read_images(path))
        print(
            f'{path}: {len(made)} samples, Frechet distance {frechet(made, real):.1f}, '
            f'digits 0..9 {np.bincount(digits, minlength=10).tolist()}'
        )


if __name__ == '__main__':
    main()
