#!/usr/bin/env python3
"""Writes tests/expected/reference.safetensors: what PyTorch computes for every operation, layer,
loss and optimizer of gan.h.

    python3 tests/expected/reference.py             writes the file
    python3 tests/expected/reference.py --check     computes everything again and compares it with
    the file

Needs PyTorch alone (apt install python3-torch). Exit status: 0, 1 if --check finds a difference,
77 without PyTorch.

A case is one call of case() here and one line of CASES in operations.c, under the same name. The
file holds for it
    NAME.a .. NAME.e      the inputs
    NAME.y                the output
    NAME.r                fixed weights of y's shape: every gradient is that of sum(y * r)
    NAME.da .. NAME.de    the gradients
    NAME.d_after ..       what the case made of an input that it changes (running statistics)
A layer's parameters are NAME.weight and so on under their own names, their gradients
NAME.d_weight, what they became NAME.weight_after.
What a case draws at random are gan_rand's numbers of seed 1 from the first on: rand() and randn()
are gan.h's generator once more.
Everything has four dimensions. Inputs are multiples of 1/512, exact in single precision; the rest
is computed in double
precision, and what single precision cannot hold is stored in double, so that one file serves both
builds of gan.h.
"""
import json
import math
import os
import random
import struct
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print(
        "reference.py: PyTorch is not installed (apt install python3-torch), so nothing was "
        "computed or compared"
    )
    sys.exit(77)

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference.safetensors")
tensors = {}  # name -> tensor, in the order of the file
cases = 0


# ---- numbers ------------------------------------------------------------------------------------


def numbers(name, shape, low=-2.0, high=2.0):
    """Numbers that depend on name alone: a new case changes no other, and any version of Python
    draws the same."""
    draw = random.Random(name)
    count = 1
    for size in shape:
        count *= size
    steps = int((high - low) * 512)
    return torch.tensor(
        [low + draw.randrange(steps + 1) / 512 for _ in range(count)], dtype=torch.float64
    ).reshape(shape)


def row(*values):
    """A tensor (1,1,1,W) of just these values."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def philox(seed, stream, index):
    """Four words (Salmon et al. 2011), from the paper's figure: each round multiplies, exchanges
    and mixes in the key."""
    c, key, full = (
        [index & 0xFFFFFFFF, index >> 32, stream & 0xFFFFFFFF, stream >> 32],
        [seed & 0xFFFFFFFF, seed >> 32],
        0xFFFFFFFF,
    )
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ key[0], b & full, (a >> 32) ^ c[3] ^ key[1], a & full]
        key = [(key[0] + 0x9E3779B9) & full, (key[1] + 0xBB67AE85) & full]
    return c


drawn = 0  # blocks of four that the case has drawn


def rand(*shape):
    """gan_rand's numbers: 24 bits each."""
    global drawn
    count = math.prod(shape)
    blocks = (count + 3) // 4
    words = [word for i in range(drawn, drawn + blocks) for word in philox(1, 0, i)]
    drawn += blocks
    return torch.tensor(
        [(word >> 8) / 2**24 for word in words[:count]], dtype=torch.float64
    ).reshape(shape)


def randn(*shape):
    """gan_randn's: two normals from two uniform numbers (Box and Muller 1958)."""
    count = math.prod(shape)
    u = rand((count + 3) // 4 * 4).reshape(-1, 2)
    radius, angle = (-2 * (u[:, 0] + 0.5 / 2**24).log()).sqrt(), 2 * math.pi * u[:, 1]
    return (
        torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
        .flatten()[:count]
        .reshape(shape)
    )


def whole(name, shape, count):
    """Whole numbers 0 .. count-1: labels and indices."""
    draw = random.Random(name)
    return torch.tensor(
        [float(draw.randrange(count)) for _ in range(math.prod(shape))], dtype=torch.float64
    ).reshape(shape)


def case(name, f, *inputs, low=-2.0, high=2.0, constant="", parameters=None):
    """Records f of inputs, each a shape (random numbers in [low,high]) or a tensor. constant:
    letters without a gradient.
    parameters: a layer's, by name; f gets them last, as a dictionary. Those called running_ or
    weight_u, weight_v are not learned.
    """
    global cases, drawn
    cases += 1
    drawn = 0
    assert f"{name}.a" not in tensors, f"two cases are called {name}"
    x = {}
    for letter, value in zip("abcde", inputs):
        if isinstance(value, tuple):
            value = numbers(f"{name}.{letter}", value, low, high)
        tensors[f"{name}.{letter}"] = value.clone()
        x[letter] = value.clone().requires_grad_(letter not in constant)
    learned = {}
    for key, value in (parameters or {}).items():
        if isinstance(value, tuple):
            value = numbers(f"{name}.{key}", value, low, high)
        tensors[f"{name}.{key}"] = value.clone()
        learned[key] = value.clone().requires_grad_(not key.startswith(("running_", "weight_")))
    y = f(*x.values(), learned) if learned else f(*x.values())
    r = numbers(f"{name}.r", tuple(y.shape))
    wanted = [letter for letter in x if letter not in constant]
    gradients = (
        torch.autograd.grad(
            (y * r).sum(), [x[letter] for letter in wanted], allow_unused=True, retain_graph=True
        )
        if wanted
        else []
    )
    tensors[f"{name}.y"] = y.detach()
    tensors[f"{name}.r"] = r
    for letter, gradient in zip(wanted, gradients):
        tensors[f"{name}.d{letter}"] = torch.zeros_like(x[letter]) if gradient is None else gradient
    for key, value in learned.items():
        if value.requires_grad:
            gradient = torch.autograd.grad(
                (y * r).sum(), value, allow_unused=True, retain_graph=True
            )[0]
            tensors[f"{name}.d_{key}"] = torch.zeros_like(value) if gradient is None else gradient
        elif not torch.equal(value, tensors[f"{name}.{key}"]):
            tensors[f"{name}.{key}_after"] = value
    for letter in constant:
        if not torch.equal(x[letter], tensors[f"{name}.{letter}"]):
            tensors[f"{name}.{letter}_after"] = x[letter]


def slope(f, x):
    """f'(x), to be differentiated again."""
    return torch.autograd.grad(f(x).sum(), x, create_graph=True)[0]


# ---- arithmetic ---------------------------------------------------------------------------------

FULL = (2, 3, 2, 5)
BROADCASTS = {
    "same": (FULL, FULL),
    "number": (FULL, (1, 1, 1, 1)),
    "to_number": ((1, 1, 1, 1), FULL),
    "channel": (FULL, (1, 3, 1, 1)),
    "image": (FULL, (2, 1, 1, 1)),
    "row": (FULL, (1, 1, 1, 5)),
    "plane": (FULL, (1, 1, 2, 5)),
    "both": ((2, 1, 2, 1), (1, 3, 1, 5)),
}


def softplus(x):
    return -F.logsigmoid(-x)  # F.softplus drops ln(1 + e^-x) above 20


def arithmetic():
    for name, f in {"add": torch.add, "sub": torch.sub, "mul": torch.mul}.items():
        for pattern, (a, b) in BROADCASTS.items():
            case(f"{name}_{pattern}", f, a, b)
    for pattern, (a, b) in BROADCASTS.items():
        case(f"div_{pattern}", torch.div, a, b, low=0.5)
    case("div_negative", torch.div, FULL, (1, 3, 1, 1), low=-2.0, high=-0.5)

    case("add_scalar", lambda a: a + 0.75, FULL)
    case("mul_scalar", lambda a: a * -1.5, FULL)
    case("neg", torch.neg, FULL)
    smooth = {
        "exp": torch.exp,
        "square": torch.square,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softplus": softplus,
    }
    positive = {"log": torch.log, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt}
    for name, f in smooth.items():
        case(name, f, FULL)
        case(f"{name}_slope", lambda a: slope(f, a), FULL)
    for name, f in positive.items():
        case(name, f, FULL, low=0.25)
        case(f"{name}_slope", lambda a: slope(f, a), FULL, low=0.25)
    far = row(-100.0, -30.0, -10.0, 0.0, 10.0, 30.0, 100.0)
    for name in ("tanh", "sigmoid", "softplus"):
        case(f"{name}_far", smooth[name], far)

    kink = row(
        -2.0, -0.5, -0.0, 0.0, 0.5, 2.0
    )  # these have no derivative at 0; PyTorch and gan.h choose the same one
    for name, f in {
        "abs": torch.abs,
        "relu": torch.relu,
        "leaky_relu": lambda a: F.leaky_relu(a, 0.2),
    }.items():
        case(name, f, FULL)
        case(f"{name}_at_0", f, kink)
    case("leaky_relu_negative", lambda a: F.leaky_relu(a, -0.3), FULL)
    case("clamp", lambda a: a.clamp(-0.5, 1.0), FULL)
    case(
        "clamp_ends",
        lambda a: a.clamp(-0.5, 1.0),
        row(-2.0, -0.501953125, -0.5, 0.0, 1.0, 1.001953125, 2.0),
    )
    case("relu_in_place", lambda a: torch.relu(2 * a), FULL)
    case("leaky_relu_in_place", lambda a: F.leaky_relu(2 * a, 0.2), FULL)
    case("used_twice", lambda a, b: a * (a + b), FULL, (1, 3, 1, 1))
    # Both sides of a sum get the same gradient: neither may overwrite it for the other.
    case("shared_gradient", lambda a, b: torch.tanh(a) + F.leaky_relu(b, 0.2), FULL, FULL)
    case("residual", lambda a: a + torch.sigmoid(a) + torch.relu(torch.tanh(a)), FULL)
    case("detach", lambda a: a.detach() ** 2 * a, FULL)
    case("unused", lambda a, b: a * 3, FULL, FULL)


def activations():
    kink = row(-2.0, -0.5, -0.0, 0.0, 0.5, 2.0)
    far = row(-100.0, -30.0, -10.0, -1.0, 1.0, 10.0, 30.0, 100.0)
    for name, f in {"elu": F.elu, "selu": F.selu, "silu": F.silu, "gelu": F.gelu}.items():
        case(name, f, FULL)
        case(f"{name}_slope", lambda a: slope(f, a), FULL)
        case(f"{name}_n1", f, (1, 1, 7, 3))
        case(f"{name}_at_0", f, kink)
        case(f"{name}_far", f, far)
    prelu = lambda a, b: F.prelu(a, b.flatten())
    case("prelu", prelu, FULL, (1, 3, 1, 1))
    case("prelu_one", prelu, FULL, (1, 1, 1, 1))
    case("prelu_n1", prelu, (1, 1, 7, 3), (1, 1, 1, 1))
    case("prelu_at_0", prelu, kink, (1, 1, 1, 1))


# ---- reduce, shape, matmul ----------------------------------------------------------------------

PARTS = {
    "all": (1, 1, 1, 1),
    "channel": (1, 3, 1, 1),
    "image": (2, 1, 1, 1),
    "plane": (2, 3, 1, 1),
    "columns": (1, 1, 1, 5),
    "rows": (1, 1, 2, 1),
    "batch": (1, 3, 2, 5),
    "width": (2, 3, 2, 1),
    "none": FULL,
}


def reduce_and_shape():
    case("sum", lambda a: a.sum().reshape(1, 1, 1, 1), FULL)
    case("mean", lambda a: a.mean().reshape(1, 1, 1, 1), FULL)
    for name, part in PARTS.items():
        dims = [i for i in range(4) if part[i] != FULL[i]]
        case(f"sum_to_{name}", lambda a: a.sum_to_size(part), FULL)
        case(f"mean_to_{name}", lambda a: a.mean(dims, keepdim=True) if dims else a + 0, FULL)
        case(f"expand_{name}", lambda a: a.expand(FULL), part)

    case("reshape", lambda a: a.reshape(3, 10, 1, 2), FULL)
    case("reshape_rest", lambda a: a.reshape(2, -1, 1, 1), FULL)
    case("permute_0231", lambda a: a.permute(0, 2, 3, 1), FULL)
    case("permute_3102", lambda a: a.permute(3, 1, 0, 2), FULL)
    case("permute_1203", lambda a: a.permute(1, 2, 0, 3), FULL)
    case("transpose_01", lambda a: a.transpose(0, 1), FULL)
    case("transpose_23", lambda a: a.transpose(2, 3), FULL)
    case("transpose_13", lambda a: a.transpose(1, 3), FULL)
    for dim, (start, length) in enumerate([(1, 2), (2, 1), (0, 3), (1, 4)]):
        case(f"slice_{dim}", lambda a: a.narrow(dim, start, length), (3, 3, 4, 5))
        shorter = [2, 3, 2, 5]
        shorter[dim] = 1
        case(f"concat_{dim}", lambda a, b: torch.cat([a, b], dim), FULL, tuple(shorter))


def gathering():
    for dim in range(4):
        shape = (3, 4, 2, 5)
        case(f"softmax_{dim}", lambda a: a.softmax(dim), shape)
        case(f"log_softmax_{dim}", lambda a: a.log_softmax(dim), shape)
        parts = [[3, 4, 2, 5], [3, 4, 2, 5], [3, 4, 2, 5]]
        parts[1][dim], parts[2][dim] = 1, 2
        case(f"concat_all_{dim}", lambda *parts: torch.cat(parts, dim), *map(tuple, parts))
        list_of = whole(f"gather_list_{dim}", (7, 1, 1, 1), shape[dim])
        case(
            f"gather_list_{dim}",
            lambda a, i: a.index_select(dim, i.flatten().long()),
            shape,
            list_of,
            constant="b",
        )
        longer = list(shape)
        longer[dim] = 6
        case(
            f"gather_{dim}",
            lambda a, i: a.gather(dim, i.long()),
            shape,
            whole(f"gather_{dim}", tuple(longer), shape[dim]),
            constant="b",
        )
        many = list(shape)
        many[dim] = 7
        case(
            f"scatter_list_{dim}",
            lambda a, i: torch.zeros(*shape, dtype=torch.float64).index_add(
                dim, i.flatten().long(), a
            ),
            tuple(many),
            whole(f"scatter_list_{dim}", (7, 1, 1, 1), shape[dim]),
            constant="b",
        )
        case(
            f"scatter_{dim}",
            lambda a, i: torch.zeros(*shape, dtype=torch.float64).scatter_add(dim, i.long(), a),
            tuple(longer),
            whole(f"scatter_{dim}", tuple(longer), shape[dim]),
            constant="b",
        )
    far = row(-100.0, -30.0, 0.0, 29.0, 30.0, 100.0)
    case("softmax_far", lambda a: a.softmax(3), far)
    case("log_softmax_far", lambda a: a.log_softmax(3), far)
    case("softmax_many", lambda a: a.softmax(1), (1, 67, 1, 1))
    case("log_softmax_many", lambda a: a.log_softmax(1), (1, 67, 1, 1))
    case("softmax_one", lambda a: a.softmax(1), (2, 1, 3, 1))
    case(
        "concat_all_5",
        lambda *parts: torch.cat(parts, 1),
        (2, 1, 2, 3),
        (2, 3, 2, 3),
        (2, 1, 2, 3),
        (2, 2, 2, 3),
        (2, 1, 2, 3),
    )
    case("concat_all_alone", lambda a: a + 0, FULL)
    case(
        "gather_one",
        lambda a, i: a.index_select(0, i.flatten().long()),
        (1, 1, 1, 1),
        torch.zeros(1, 1, 1, 1, dtype=torch.float64),
        constant="b",
    )
    one_hot = lambda a, i: a * F.one_hot(i[:, 0].long(), 4).permute(0, 3, 1, 2)
    case("one_hot", one_hot, (3, 4, 1, 1), whole("one_hot", (3, 1, 1, 1), 4), constant="b")
    case("one_hot_map", one_hot, (2, 4, 3, 5), whole("one_hot_map", (2, 1, 3, 5), 4), constant="b")
    case("one_hot_n1", one_hot, (1, 4, 1, 2), whole("one_hot_n1", (1, 1, 1, 2), 4), constant="b")


def matmul(transpose_a, transpose_b):
    return lambda a, b: (a.transpose(2, 3) if transpose_a else a) @ (
        b.transpose(2, 3) if transpose_b else b
    )


def linear(x, weight, bias=None):
    y = F.linear(x.flatten(1), weight.flatten(1), None if bias is None else bias.flatten())
    return y.reshape(*y.shape, 1, 1)


def products():
    case("matmul", matmul(0, 0), (1, 1, 3, 5), (1, 1, 5, 4))
    case("matmul_nn", matmul(0, 0), (2, 3, 3, 5), (2, 3, 5, 4))
    case("matmul_nt", matmul(0, 1), (2, 3, 3, 5), (2, 3, 4, 5))
    case("matmul_tn", matmul(1, 0), (2, 3, 5, 3), (2, 3, 5, 4))
    case("matmul_tt", matmul(1, 1), (2, 3, 5, 3), (2, 3, 4, 5))
    case("matmul_shared_b", matmul(0, 0), (2, 3, 2, 3), (1, 1, 3, 4))
    case("matmul_shared_a", matmul(0, 1), (1, 3, 2, 3), (2, 3, 4, 3))
    case("matmul_crossed", matmul(1, 0), (2, 1, 3, 2), (1, 3, 3, 4))
    case("matmul_dot", matmul(0, 0), (1, 1, 1, 7), (1, 1, 7, 1))
    case("matmul_outer", matmul(0, 0), (1, 1, 7, 1), (1, 1, 1, 6))
    case("matmul_odd", matmul(0, 0), (1, 1, 17, 33), (1, 1, 33, 19))
    case("linear", linear, (4, 6, 1, 1), (3, 6, 1, 1), (1, 3, 1, 1))
    case("linear_no_bias", linear, (4, 6, 1, 1), (3, 6, 1, 1))
    case("linear_flattens", linear, (3, 2, 2, 3), (5, 12, 1, 1), (1, 5, 1, 1))
    # One image: the output has the bias's shape, and so its gradient is the bias's too.
    case("linear_n1", linear, (1, 5, 1, 1), (3, 5, 1, 1), (1, 3, 1, 1))
    case("linear_one", linear, (1, 5, 1, 1), (1, 5, 1, 1), (1, 1, 1, 1))


# ---- convolution --------------------------------------------------------------------------------


def conv2d(stride, pad, groups=1):
    return lambda x, w, b=None: F.conv2d(
        x, w, None if b is None else b.flatten(), stride, pad, 1, groups
    )


def conv_transpose2d(stride, pad, output_pad=0, groups=1):
    return lambda x, w, b=None: F.conv_transpose2d(
        x, w, None if b is None else b.flatten(), stride, pad, output_pad, groups
    )


def conv2d_weight(shape, stride, pad, groups=1):
    """The gradient of <conv2d(x, w), gy> in w: linear in x and in gy, the same at every w."""

    def f(x, gy):
        w = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(
            (F.conv2d(x, w, None, stride, pad, 1, groups) * gy).sum(), w, create_graph=True
        )[0]

    return f


def convolutions():
    case("conv_1x1", conv2d(1, 0), (2, 3, 4, 5), (4, 3, 1, 1), (1, 4, 1, 1))
    case("conv_1x1_s2", conv2d(2, 0), (2, 3, 5, 4), (4, 3, 1, 1), (1, 4, 1, 1))
    case("conv_3x3", conv2d(1, 0), (2, 3, 5, 6), (4, 3, 3, 3), (1, 4, 1, 1))
    case("conv_3x3_p1", conv2d(1, 1), (2, 3, 5, 4), (4, 3, 3, 3), (1, 4, 1, 1))
    case("conv_3x3_s2_odd", conv2d(2, 1), (2, 2, 7, 5), (3, 2, 3, 3), (1, 3, 1, 1))
    case("conv_3x3_s2_even", conv2d(2, 0), (2, 2, 6, 8), (3, 2, 3, 3), (1, 3, 1, 1))
    case("conv_4x4_s2_p1", conv2d(2, 1), (2, 2, 8, 6), (3, 2, 4, 4), (1, 3, 1, 1))
    case("conv_4x4_s2_p1_odd", conv2d(2, 1), (1, 2, 7, 9), (3, 2, 4, 4))
    case("conv_5x3", conv2d(1, 1), (2, 2, 6, 7), (3, 2, 5, 3), (1, 3, 1, 1))
    case("conv_2x5_s2_p2", conv2d(2, 2), (2, 2, 5, 6), (3, 2, 2, 5), (1, 3, 1, 1))
    case("conv_s3_rest", conv2d(3, 0), (2, 2, 8, 9), (3, 2, 3, 2), (1, 3, 1, 1))
    case("conv_s3_gap", conv2d(3, 1), (2, 2, 7, 6), (3, 2, 2, 2), (1, 3, 1, 1))
    case("conv_5x5_on_3x3", conv2d(1, 1), (2, 2, 3, 3), (3, 2, 5, 5), (1, 3, 1, 1))
    case("conv_5x5_on_2x3_s2", conv2d(2, 2), (2, 2, 2, 3), (3, 2, 5, 5), (1, 3, 1, 1))
    case("conv_3x3_on_1x1", conv2d(1, 1), (2, 3, 1, 1), (4, 3, 3, 3), (1, 4, 1, 1))
    case("conv_to_1x1", conv2d(1, 0), (2, 3, 4, 4), (5, 3, 4, 4), (1, 5, 1, 1))
    case("conv_to_1x1_n1", conv2d(1, 0), (1, 3, 4, 4), (5, 3, 4, 4), (1, 5, 1, 1))
    case("conv_pad_2_of_3x3", conv2d(1, 2), (1, 2, 3, 4), (2, 2, 3, 3), (1, 2, 1, 1))
    case("conv_n1", conv2d(1, 1), (1, 1, 5, 5), (1, 1, 3, 3))
    case("conv_groups", conv2d(1, 1, 2), (2, 4, 4, 5), (6, 2, 3, 3), (1, 6, 1, 1))
    case("conv_depthwise", conv2d(1, 1, 3), (2, 3, 5, 6), (3, 1, 3, 3), (1, 3, 1, 1))
    case("conv_depthwise_s2", conv2d(2, 1, 3), (2, 3, 5, 6), (6, 1, 3, 3))
    case("conv_many_channels", conv2d(1, 1), (1, 17, 4, 5), (19, 17, 3, 3), (1, 19, 1, 1))

    case("up_1x1", conv_transpose2d(1, 0), (2, 3, 4, 5), (3, 4, 1, 1), (1, 4, 1, 1))
    case("up_3x3", conv_transpose2d(1, 0), (2, 3, 3, 4), (3, 2, 3, 3), (1, 2, 1, 1))
    case("up_3x3_p1", conv_transpose2d(1, 1), (2, 3, 3, 4), (3, 2, 3, 3), (1, 2, 1, 1))
    case("up_4x4_s2_p1", conv_transpose2d(2, 1), (2, 3, 3, 4), (3, 2, 4, 4), (1, 2, 1, 1))
    case("up_4x4_s2_p1_n1", conv_transpose2d(2, 1), (1, 2, 5, 3), (2, 1, 4, 4))
    case("up_from_1x1", conv_transpose2d(1, 0), (2, 5, 1, 1), (5, 3, 4, 4), (1, 3, 1, 1))
    case("up_5x3_s2", conv_transpose2d(2, 1), (2, 2, 3, 4), (2, 3, 5, 3), (1, 3, 1, 1))
    case("up_3x3_s2_out1", conv_transpose2d(2, 1, 1), (2, 2, 3, 4), (2, 3, 3, 3), (1, 3, 1, 1))
    case("up_4x4_s3_out2", conv_transpose2d(3, 1, 2), (2, 2, 3, 2), (2, 3, 4, 4), (1, 3, 1, 1))
    case("up_2x2_s3_gap", conv_transpose2d(3, 0, 1), (2, 2, 3, 2), (2, 3, 2, 2), (1, 3, 1, 1))
    case("up_5x5_p3", conv_transpose2d(1, 3), (1, 2, 4, 5), (2, 2, 5, 5), (1, 2, 1, 1))
    case("up_groups", conv_transpose2d(2, 1, 0, 2), (2, 4, 3, 3), (4, 3, 4, 4), (1, 6, 1, 1))
    case("up_depthwise", conv_transpose2d(2, 1, 1, 3), (2, 3, 3, 4), (3, 1, 3, 3), (1, 3, 1, 1))
    case("up_many_channels", conv_transpose2d(2, 1), (1, 17, 2, 3), (17, 11, 4, 4), (1, 11, 1, 1))

    case("weight_3x3_p1", conv2d_weight((4, 3, 3, 3), 1, 1), (2, 3, 4, 5), (2, 4, 4, 5))
    case("weight_4x4_s2_p1", conv2d_weight((3, 2, 4, 4), 2, 1), (2, 2, 6, 8), (2, 3, 3, 4))
    case("weight_5x3_rest", conv2d_weight((3, 2, 5, 3), 2, 1), (2, 2, 6, 6), (2, 3, 2, 3))
    case("weight_groups", conv2d_weight((4, 2, 3, 3), 2, 1, 2), (2, 4, 5, 5), (2, 4, 3, 3))


def dilated(stride, pad, dilation, groups=1):
    return lambda x, w, b=None: F.conv2d(
        x, w, None if b is None else b.flatten(), stride, pad, dilation, groups
    )


def dilations():
    case("dilated_2", dilated(1, 2, 2), (2, 3, 6, 5), (4, 3, 3, 3), (1, 4, 1, 1))
    case("dilated_3_s2", dilated(2, 3, 3), (1, 1, 7, 9), (2, 1, 3, 2))
    case("dilated_2_s2", dilated(2, 1, 2), (2, 2, 8, 7), (3, 2, 3, 4), (1, 3, 1, 1))
    case("dilated_groups", dilated(1, 2, 2, 2), (2, 4, 5, 6), (6, 2, 3, 3), (1, 6, 1, 1))
    case("dilated_depthwise", dilated(2, 4, 4, 3), (1, 3, 9, 8), (3, 1, 3, 3))
    case("dilated_to_1x1", dilated(1, 0, 3), (1, 5, 4, 7), (3, 5, 2, 3), (1, 3, 1, 1))


def axes():
    """Another stride, padding, dilation or window for each axis."""

    def conv(stride, pad, dilation, groups=1):
        return lambda x, w, b=None: F.conv2d(
            x, w, None if b is None else b.flatten(), stride, pad, dilation, groups
        )

    def up(stride, pad, output_pad, dilation, groups=1):
        return lambda x, w, b=None: F.conv_transpose2d(
            x, w, None if b is None else b.flatten(), stride, pad, output_pad, groups, dilation
        )

    case("conv_axes", conv((2, 1), (0, 3), (1, 2)), (2, 3, 8, 7), (4, 3, 3, 5), (1, 4, 1, 1))
    case("conv_axes_both", conv((3, 2), (2, 1), (2, 1)), (2, 2, 9, 6), (3, 2, 3, 4))
    case(
        "conv_axes_groups",
        conv((1, 3), (1, 0), (2, 1), 2),
        (1, 4, 7, 8),
        (6, 2, 3, 2),
        (1, 6, 1, 1),
    )
    case(
        "conv_axes_depthwise",
        conv((2, 1), (1, 2), (1, 3), 3),
        (2, 3, 6, 9),
        (3, 1, 3, 2),
        (1, 3, 1, 1),
    )
    case("conv_axes_row", conv((1, 1), (0, 3), (1, 1)), (2, 3, 4, 5), (2, 3, 1, 7), (1, 2, 1, 1))
    case("conv_axes_c1", conv((1, 2), (2, 0), (1, 1)), (3, 1, 5, 9), (12, 1, 5, 4), (1, 12, 1, 1))
    case("up_axes", up((2, 1), (1, 0), (1, 0), (1, 1)), (2, 3, 3, 4), (3, 4, 4, 3), (1, 4, 1, 1))
    case(
        "up_axes_both", up((2, 3), (1, 2), (0, 2), (1, 1)), (1, 6, 4, 3), (6, 5, 3, 5), (1, 5, 1, 1)
    )
    case(
        "up_axes_groups",
        up((1, 2), (0, 1), (0, 1), (1, 1), 2),
        (2, 4, 3, 3),
        (4, 3, 2, 4),
        (1, 6, 1, 1),
    )
    case(
        "up_axes_dilated",
        up((3, 2), (1, 2), (2, 1), (1, 2)),
        (2, 2, 3, 4),
        (2, 3, 3, 4),
        (1, 3, 1, 1),
    )
    case("up_dilated", up(1, 2, 0, 2), (2, 3, 5, 4), (3, 2, 3, 3), (1, 2, 1, 1))
    case("up_dilated_s2", up(2, 1, 1, 3), (1, 2, 3, 4), (2, 3, 3, 2))
    shape = (2, 3, 7, 8)
    for name, pool in {"avg": F.avg_pool2d, "max": F.max_pool2d}.items():
        case(f"{name}_pool_axes", lambda a: pool(a, (3, 2), (2, 1), (1, 0)), shape)
        case(
            f"{name}_pool_axes_ceil",
            lambda a: pool(a, (3, 4), (2, 3), (1, 2), ceil_mode=True),
            shape,
        )
        case(f"{name}_pool_axes_stride", lambda a: pool(a, (2, 3)), shape)
        case(f"{name}_pool_axes_width", lambda a: pool(a, (2, 8), (1, 1)), shape)
        case(f"{name}_pool_axes_height", lambda a: pool(a, (7, 3), (1, 2), (0, 1)), shape)
        case(f"{name}_pool_ceil_end", lambda a: pool(a, 3, 2, 0, ceil_mode=True), (1, 2, 6, 8))
        case(f"{name}_pool_ceil_far", lambda a: pool(a, 2, 5, 1, ceil_mode=True), (1, 2, 6, 9))


# ---- resampling ---------------------------------------------------------------------------------


def upfirdn2d(taps, up, down, pad0, pad1, gain):
    """Zeros put in, zeros put around (or a rim taken off), convolution, every DOWN-th: as
    StyleGAN2's paper tells it."""

    def f(x):
        n, c, h, w = x.shape
        spread = torch.zeros(n, c, h, up, w, up, dtype=torch.float64)
        spread[:, :, :, 0, :, 0] = x
        spread = F.pad(spread.reshape(n, c, h * up, w * up), (pad0, pad1, pad0, pad1))
        line = torch.tensor(taps, dtype=torch.float64) * gain
        kernel = torch.outer(line, line).flip(0, 1).expand(c, 1, -1, -1)
        return F.conv2d(spread, kernel, groups=c)[:, :, ::down, ::down]

    return f


def resampling():
    shapes = {"": (2, 3, 4, 5), "_c1": (1, 1, 7, 3), "_n3": (3, 2, 3, 6)}
    for suffix, shape in shapes.items():
        for mode, name in {
            "zeros": "constant",
            "reflect": "reflect",
            "replicate": "replicate",
        }.items():
            case(f"pad_{mode}{suffix}", lambda a: F.pad(a, (0, 2, 2, 1), name), shape)
            case(
                f"pad_{mode}_crop{suffix}",
                lambda a: F.pad(a, (1, 0, 0, 1), name)[:, :, 1:, :-1],
                shape,
            )
        for name, (up, down) in {
            "larger": ((8, 10), None),
            "smaller": ((3, 2), None),
            "one": ((1, 1), None),
            "mixed": ((2, 11), None),
        }.items():
            case(
                f"resize_nearest_{name}{suffix}",
                lambda a: F.interpolate(a, up, mode="nearest"),
                shape,
            )
            case(
                f"resize_bilinear_{name}{suffix}",
                lambda a: F.interpolate(a, up, mode="bilinear", align_corners=False),
                shape,
            )
            case(
                f"resize_aligned_{name}{suffix}",
                lambda a: F.interpolate(a, up, mode="bilinear", align_corners=True),
                shape,
            )
        case(f"fir_up{suffix}", upfirdn2d([0.125, 0.375, 0.375, 0.125], 2, 1, 2, 1, 2), shape)
        case(f"fir_down{suffix}", upfirdn2d([0.125, 0.375, 0.375, 0.125], 1, 2, 1, 1, 1), shape)
        case(f"fir_uneven{suffix}", upfirdn2d([1.0, -0.5, 0.25, 2.0, 0.75], 3, 2, 1, 3, 0.5), shape)
        case(f"fir_cropped{suffix}", upfirdn2d([1.0, 2.0, -0.5], 2, 1, -1, 3, 1), shape)
        case(f"avg_pool_2{suffix}", lambda a: F.avg_pool2d(a, 2, 2, 0), shape)
        case(f"avg_pool_3_s2{suffix}", lambda a: F.avg_pool2d(a, 3, 2, 1), shape)
        case(f"avg_pool_3_s1{suffix}", lambda a: F.avg_pool2d(a, 3, 1, 1), shape)
        case(f"avg_pool_all{suffix}", lambda a: a.mean((2, 3), keepdim=True), shape)
        case(f"max_pool_2{suffix}", lambda a: F.max_pool2d(a, 2, 2, 0), shape)
        case(f"max_pool_3_s2{suffix}", lambda a: F.max_pool2d(a, 3, 2, 1), shape)
        case(f"max_pool_ceil{suffix}", lambda a: F.max_pool2d(a, 2, 2, 0, ceil_mode=True), shape)
        case(
            f"max_pool_ceil_pad{suffix}", lambda a: F.max_pool2d(a, 3, 3, 1, ceil_mode=True), shape
        )
        case(f"max_pool_all{suffix}", lambda a: F.max_pool2d(a, a.shape[2:]), shape)
    case("max_pool_ties", lambda a: F.max_pool2d(a, 3, 2, 1), whole("ties", (2, 2, 5, 6), 3))
    case("resize_nearest_point", lambda a: F.interpolate(a, (4, 3), mode="nearest"), (2, 3, 1, 1))
    case("resize_bilinear_point", lambda a: F.interpolate(a, (4, 3), mode="bilinear"), (2, 3, 1, 1))
    case(
        "resize_aligned_point",
        lambda a: F.interpolate(a, (4, 3), mode="bilinear", align_corners=True),
        (2, 3, 1, 1),
    )
    case("pixel_shuffle_2", lambda a: F.pixel_shuffle(a, 2), (2, 12, 3, 5))
    case("pixel_shuffle_3", lambda a: F.pixel_shuffle(a, 3), (1, 9, 2, 1))
    case("pixel_shuffle_1", lambda a: F.pixel_shuffle(a, 1), (3, 2, 1, 4))


# ---- normalisations of each image ---------------------------------------------------------------


def flat(w):
    return None if w is None else w.flatten()


def instance_norm(eps=1e-5):
    return lambda x, weight=None, bias=None: F.instance_norm(
        x, weight=flat(weight), bias=flat(bias), eps=eps
    )


def group_norm(groups, eps=1e-5):
    return lambda x, weight=None, bias=None: F.group_norm(x, groups, flat(weight), flat(bias), eps)


def layer_norm(eps=1e-5):
    return lambda x, weight=None, bias=None: F.layer_norm(
        x,
        x.shape[1:],
        None if weight is None else weight[0],
        None if bias is None else bias[0],
        eps,
    )


def adain(x, y, eps=1e-5):
    deviation = lambda t: (t.var((2, 3), unbiased=True, keepdim=True) + eps).sqrt()
    mean = lambda t: t.mean((2, 3), keepdim=True)
    return deviation(y) * (x - mean(x)) / deviation(x) + mean(y)


def minibatch_stddev(group):
    def f(x):
        n, c, h, w = x.shape
        size = min(group, n)
        channel = torch.zeros(n, 1, h, w, dtype=torch.float64)
        for first in range(n // size):
            members = list(range(first, n, n // size))
            deviation = (x[members].var(0, unbiased=False) + 1e-8).sqrt().mean()
            for i in members:
                channel[i] = deviation
        return torch.cat([x, channel], 1)

    return f


def more_norms():
    shapes = {"": (2, 3, 4, 5), "_n1": (1, 1, 3, 7), "_thin": (3, 4, 1, 3)}
    for suffix, shape in shapes.items():
        channel, c = (1, shape[1], 1, 1), shape[1]
        case(f"instance_norm{suffix}", instance_norm(), shape, channel, channel)
        case(f"instance_norm_plain{suffix}", instance_norm(0.125), shape)
        case(
            f"instance_norm_each{suffix}",
            lambda a, b, c: F.instance_norm(a) * b + c,
            shape,
            (shape[0], c, 1, 1),
            (shape[0], c, 1, 1),
        )
        case(f"group_norm_1{suffix}", group_norm(1), shape, channel, channel)
        case(f"group_norm_c{suffix}", group_norm(c), shape, channel, channel)
        case(f"group_norm_plain{suffix}", group_norm(1, 0.125), shape)
        case(f"layer_norm{suffix}", layer_norm(), shape, (1, *shape[1:]), (1, *shape[1:]))
        case(f"layer_norm_plain{suffix}", layer_norm(0.125), shape)
        case(f"adain{suffix}", adain, shape, (*shape[:2], 2, 3))
        case(
            f"pixel_norm{suffix}",
            lambda a: a / (a.square().mean(1, keepdim=True) + 1e-8).sqrt(),
            (shape[0], c + 1, *shape[2:]),
        )
        for dim in range(4):
            case(f"normalize_{dim}{suffix}", lambda a: F.normalize(a, dim=dim), shape)
    case("group_norm_2", group_norm(2), (2, 6, 3, 1), (1, 6, 1, 1), (1, 6, 1, 1))
    case("instance_norm_offset", instance_norm(), numbers("offset", (2, 3, 4, 4), 7, 9))
    case("minibatch_stddev_2", minibatch_stddev(2), (6, 2, 3, 1))
    case("minibatch_stddev_4", minibatch_stddev(4), (8, 1, 1, 2))
    case("minibatch_stddev_all", minibatch_stddev(4), (3, 2, 2, 3))
    case("minibatch_stddev_one", minibatch_stddev(4), (1, 2, 3, 1))


# ---- layers -------------------------------------------------------------------------------------


def rows_of(table, labels):
    return table[labels.flatten().long()]


def conditional_batch_norm(x, labels, p):
    y = F.batch_norm(
        x, p["running_mean"].view(-1), p["running_var"].view(-1), None, None, True, 0.1, 1e-5
    )
    return y * rows_of(p["gamma.weight"], labels) + rows_of(p["beta.weight"], labels)


def self_attention(x, p):
    n, c, h, w = x.shape
    q, k, v = (
        F.conv2d(x, p[f"{part}.weight"], p[f"{part}.bias"].flatten()).flatten(2)
        for part in ("query", "key", "value")
    )
    y = torch.empty_like(x).flatten(2)
    y = torch.stack(
        [
            torch.stack(
                [(torch.softmax(q[i, :, place] @ k[i], 0) * v[i]).sum(1) for place in range(h * w)],
                1,
            )
            for i in range(n)
        ]
    )
    return x + p["gamma"] * y.reshape(n, c, h, w)


def attention_parameters(c):
    small = max(c // 8, 1)
    return {
        "query.weight": (small, c, 1, 1),
        "query.bias": (1, small, 1, 1),
        "key.weight": (small, c, 1, 1),
        "key.bias": (1, small, 1, 1),
        "value.weight": (c, c, 1, 1),
        "value.bias": (1, c, 1, 1),
        "gamma": (1, 1, 1, 1),
    }


def modulated_conv2d(demodulate, pad):
    """A weight for each image, as StyleGAN2's equations 1 and 3 have it; all images are groups of
    one convolution."""

    def f(x, weight, style):
        n, c, h, w = x.shape
        own = weight.unsqueeze(0) * style.reshape(n, 1, c, 1, 1)
        if demodulate:
            own = own / (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        y = F.conv2d(x.reshape(1, n * c, h, w), own.flatten(0, 1), None, 1, pad, 1, n)
        return y.reshape(n, -1, *y.shape[2:])

    return f


def demodulation(weight, style):
    own = weight.unsqueeze(0) * style.reshape(style.shape[0], 1, -1, 1, 1)
    return 1 / (own.square().sum((2, 3, 4)) + 1e-8).sqrt().reshape(style.shape[0], -1, 1, 1)


def modulated_layer(demodulate):
    def f(x, latent, p):
        style = linear(latent, p["affine.weight"], p["affine.bias"]) + 1
        return (
            modulated_conv2d(demodulate, p["weight"].shape[2] // 2)(x, p["weight"], style)
            + p["bias"]
        )

    return f


def modulated_parameters(c, latent, out, kernel):
    return {
        "affine.weight": (c, latent, 1, 1),
        "affine.bias": (1, c, 1, 1),
        "weight": (out, c, kernel, kernel),
        "bias": (1, out, 1, 1),
    }


def spectral(weight, p, transposed=False):
    """PyTorch's own hook on a layer that has this weight: one step of power iteration, and the
    weight divided."""
    layer = (
        torch.nn.ConvTranspose2d(*weight.shape[:2], 1)
        if transposed
        else torch.nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    )
    layer = torch.nn.utils.spectral_norm(layer.double(), eps=1e-30)
    with torch.no_grad():
        layer.weight_u = p["weight_u"].flatten().clone()
        layer.weight_v = p["weight_v"].flatten().clone()
    del layer.weight_orig
    layer.weight_orig = weight
    for hook in layer._forward_pre_hooks.values():
        hook(layer, None)
    p["weight_u"].copy_(layer.weight_u.reshape(p["weight_u"].shape))
    p["weight_v"].copy_(layer.weight_v.reshape(p["weight_v"].shape))
    return layer.weight


def vectors(out, rest):
    return {"weight_u": (1, out, 1, 1), "weight_v": (1, rest, 1, 1)}


def layers():
    channel = lambda c: {"weight": (1, c, 1, 1), "bias": (1, c, 1, 1)}
    running = lambda c: {
        "running_mean": (1, c, 1, 1),
        "running_var": numbers("layers.running_var", (1, c, 1, 1), 0.5, 2.0),
    }
    shapes = {"": (2, 4, 3, 5), "_n1": (1, 1, 2, 3), "_odd": (3, 2, 5, 1)}
    for suffix, shape in shapes.items():
        c = shape[1]
        case(
            f"layer_instance_norm{suffix}",
            lambda a, p: instance_norm()(a, p["weight"], p["bias"]),
            shape,
            parameters=channel(c),
        )
        case(
            f"layer_group_norm{suffix}",
            lambda a, p: group_norm(max(c // 2, 1))(a, p["weight"], p["bias"]),
            shape,
            parameters=channel(c),
        )
        case(
            f"layer_layer_norm{suffix}",
            lambda a, p: layer_norm()(a, p["weight"], p["bias"]),
            shape,
            parameters={"weight": (1, *shape[1:]), "bias": (1, *shape[1:])},
        )
        case(
            f"layer_prelu{suffix}",
            lambda a, p: F.prelu(a, p["weight"].flatten()),
            shape,
            parameters={"weight": (1, 1, 1, 1)},
        )
        for mode in "train", "eval", "freeze":
            still = (lambda t: t.detach()) if mode == "freeze" else (lambda t: t)
            case(
                f"layer_batch_norm_{mode}{suffix}",
                lambda a, p: F.batch_norm(
                    a,
                    p["running_mean"].view(-1),
                    p["running_var"].view(-1),
                    still(p["weight"]).flatten(),
                    still(p["bias"]).flatten(),
                    mode == "train",
                ),
                shape,
                parameters={**channel(c), **running(c)},
            )
        labels = whole(f"conditional{suffix}", (shape[0], 1, 1, 1), 3)
        case(
            f"conditional_batch_norm{suffix}",
            conditional_batch_norm,
            shape,
            labels,
            constant="b",
            parameters={"gamma.weight": (3, c, 1, 1), "beta.weight": (3, c, 1, 1), **running(c)},
        )
        case(f"self_attention{suffix}", self_attention, shape, parameters=attention_parameters(c))
        case(
            f"modulated_layer{suffix}",
            modulated_layer(True),
            shape,
            (shape[0], 3, 1, 1),
            parameters=modulated_parameters(c, 3, 3, 3),
        )
        case(
            f"modulated_plain{suffix}",
            modulated_layer(False),
            shape,
            (shape[0], 2, 1, 1),
            parameters=modulated_parameters(c, 2, 5, 1),
        )
        case(
            f"modulated_f{suffix}",
            modulated_conv2d(True, 1),
            shape,
            (3, c, 3, 3),
            (shape[0], c, 1, 1),
        )
        case(
            f"modulated_f_plain{suffix}",
            modulated_conv2d(False, 0),
            shape,
            (3, c, 1, 1),
            (shape[0], c, 1, 1),
        )
        case(f"demodulation{suffix}", demodulation, (3, c, 3, 2), (shape[0], c, 1, 1))
        case(f"dropout{suffix}", lambda a: a * (rand(*a.shape) > 0.25) / 0.75, shape)
    case(
        "self_attention_8",
        self_attention,
        (2, 17, 2, 3),
        low=-1.0,
        high=1.0,
        parameters=attention_parameters(17),
    )
    case(
        "embedding",
        lambda a, p: rows_of(p["weight"], a),
        whole("embedding.labels", (6, 1, 1, 1), 4),
        constant="a",
        parameters={"weight": (4, 3, 1, 1)},
    )
    case(
        "embedding_one",
        lambda a, p: rows_of(p["weight"], a),
        whole("embedding.one", (1, 1, 1, 1), 1),
        constant="a",
        parameters={"weight": (1, 5, 1, 1)},
    )
    case(
        "embedding_unused",
        lambda a, p: rows_of(p["weight"], a),
        row(2.0, 2.0, 0.0).reshape(3, 1, 1, 1),
        constant="a",
        parameters={"weight": (5, 1, 1, 1)},
    )
    case("spectral", spectral, (4, 3, 3, 2), parameters=vectors(4, 18))
    case("spectral_row", spectral, (1, 7, 1, 1), parameters=vectors(1, 7))
    case("spectral_column", spectral, (5, 1, 1, 1), parameters=vectors(5, 1))
    case(
        "spectral_conv",
        lambda x, p: F.conv2d(x, spectral(p["weight"], p), p["bias"].flatten(), 2, 1),
        (2, 3, 5, 4),
        parameters={"weight": (4, 3, 3, 3), "bias": (1, 4, 1, 1), **vectors(4, 27)},
    )
    case(
        "spectral_up",
        lambda x, p: F.conv_transpose2d(
            x, spectral(p["weight"], p, True), p["bias"].flatten(), 2, 1
        ),
        (1, 3, 2, 3),
        parameters={"weight": (3, 2, 4, 4), "bias": (1, 2, 1, 1), **vectors(2, 48)},
    )
    case(
        "spectral_fc",
        lambda x, p: linear(x, spectral(p["weight"], p), p["bias"]),
        (3, 2, 2, 2),
        parameters={"weight": (4, 8, 1, 1), "bias": (1, 4, 1, 1), **vectors(4, 8)},
    )
    case(
        "equalized_conv",
        lambda x, p: F.conv2d(
            x, p["weight"] * 0.5 / math.sqrt(27), p["bias"].flatten() * 0.5, 1, 1
        ),
        (2, 3, 5, 4),
        parameters={"weight": (4, 3, 3, 3), "bias": (1, 4, 1, 1)},
    )
    case(
        "equalized_fc",
        lambda x, p: linear(x, p["weight"] * 0.5 / math.sqrt(8), p["bias"] * 0.5),
        (3, 2, 2, 2),
        parameters={"weight": (4, 8, 1, 1), "bias": (1, 4, 1, 1)},
    )


# ---- augmentation, with gan.h's own random numbers ----------------------------------------------


def colored(x, p):
    n = x.shape[0]
    u, chosen = rand(n, 1, 1, 1), rand(n, 1, 1, 1) < p
    x = torch.where(chosen, x + u - 0.5, x)
    mean, u, chosen = x.mean(1, keepdim=True), rand(n, 1, 1, 1), rand(n, 1, 1, 1) < p
    x = torch.where(chosen, (x - mean) * 2 * u + mean, x)
    mean, u, chosen = x.mean((1, 2, 3), keepdim=True), rand(n, 1, 1, 1), rand(n, 1, 1, 1) < p
    return torch.where(chosen, (x - mean) * (u + 0.5) + mean, x)


def augmented(flip, shift, cutout, color, p):
    def f(x):
        n, c, h, w = x.shape
        if color:
            x = colored(x, p)
        if flip or shift:
            moved = []
            for image, u in zip(x, rand(5 * n).reshape(n, 5).tolist()):
                if flip and u[3] < p and u[4] < 0.5:
                    image = image.flip(2)
                if (
                    shift and u[0] < p
                ):  # y[i] = x[i + down]; flipped first, an image moves the other way
                    down, right = (
                        int(u[1] * (h // 8 * 2 + 1)) - h // 8,
                        int(u[2] * (w // 8 * 2 + 1)) - w // 8,
                    )
                    right = -right if flip and u[3] < p and u[4] < 0.5 else right
                    image = F.pad(image, (-right, right, -down, down))
                moved.append(image)
            x = torch.stack(moved)
        if cutout:
            mask = torch.ones(n, 1, h, w, dtype=torch.float64)
            for image, u in zip(mask, rand(3 * n).reshape(n, 3).tolist()):
                top, left = (
                    int(u[0] * (h + 1 - h // 2 % 2)) - h // 2 // 2,
                    int(u[1] * (w + 1 - w // 2 % 2)) - w // 2 // 2,
                )
                if u[2] < p:
                    image[
                        :, max(top, 0) : max(top + h // 2, 0), max(left, 0) : max(left + w // 2, 0)
                    ] = 0
            x = x * mask
        return x

    return f


def cropped(h, w):
    def f(x):
        places = rand(2 * x.shape[0]).reshape(-1, 2).tolist()
        return torch.stack(
            [
                image[:, top : top + h, left : left + w]
                for image, (top, left) in (
                    (image, (int(u * (x.shape[2] - h + 1)), int(v * (x.shape[3] - w + 1))))
                    for image, (u, v) in zip(x, places)
                )
            ]
        )

    return f


def augmentation():
    shapes = {"": (6, 3, 8, 9), "_n1": (1, 1, 17, 8), "_odd": (5, 2, 7, 16)}
    for suffix, shape in shapes.items():
        case(f"augment_flip{suffix}", augmented(1, 0, 0, 0, 1), shape)
        case(f"augment_shift{suffix}", augmented(0, 1, 0, 0, 1), shape)
        case(f"augment_cutout{suffix}", augmented(0, 0, 1, 0, 1), shape)
        case(f"augment_color{suffix}", augmented(0, 0, 0, 1, 1), shape)
        case(f"augment_diff{suffix}", augmented(0, 1, 1, 1, 1), shape)
        case(f"augment_half{suffix}", augmented(1, 1, 1, 1, 0.5), shape)
        case(f"augment_crop{suffix}", cropped(5, 8), shape)


# ---- batch normalisation, second derivatives ----------------------------------------------------


def batch_norm(training, momentum=0.1, eps=1e-5):
    return lambda x, weight, bias, mean, var: F.batch_norm(
        x, mean.view(-1), var.view(-1), weight.flatten(), bias.flatten(), training, momentum, eps
    )


def batch_norm_slope(x, weight, bias, b):
    """The squared norm of a gradient of batch norm: its derivatives are second derivatives."""
    y = F.batch_norm(x, None, None, weight.flatten(), bias.flatten(), True, 0.1, 1e-5)
    return (
        torch.autograd.grad((y * b).sum(), x, create_graph=True)[0]
        .square()
        .sum()
        .reshape(1, 1, 1, 1)
    )


def penalty(x, conv_weight, conv_bias, fc_weight, fc_bias):
    """WGAN-GP's penalty (Gulrajani et al. 2017) of a small critic."""
    h = F.leaky_relu(F.conv2d(x, conv_weight, conv_bias.flatten(), 2, 1), 0.2)
    dx = torch.autograd.grad(linear(h, fc_weight, fc_bias).sum(), x, create_graph=True)[0]
    return (dx.square().sum((1, 2, 3)).sqrt() - 1).square().mean().reshape(1, 1, 1, 1)


def penalty_norm(x, conv_weight, bn_weight, bn_bias, fc_weight):
    """The same through batch norm and tanh, where every derivative of every operation is used."""
    h = F.batch_norm(
        F.conv2d(x, conv_weight, None, 2, 1),
        None,
        None,
        bn_weight.flatten(),
        bn_bias.flatten(),
        True,
        0.1,
        1e-5,
    )
    dx = torch.autograd.grad(linear(torch.tanh(h), fc_weight).square().sum(), x, create_graph=True)[
        0
    ]
    return (dx.square().sum((1, 2, 3)).sqrt() - 1).square().mean().reshape(1, 1, 1, 1)


def normalisation():
    channel = (1, 3, 1, 1)
    variance = numbers("running_var", channel, 0.5, 2.0)
    case(
        "batch_norm",
        batch_norm(True),
        (2, 3, 4, 5),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    case(
        "batch_norm_n1",
        batch_norm(True),
        (1, 3, 3, 3),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    case(
        "batch_norm_1x1",
        batch_norm(True),
        (7, 3, 1, 1),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    case(
        "batch_norm_options",
        batch_norm(True, 0.25, 0.125),
        (2, 3, 4, 5),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    # A mean of 8 deviations: E[x^2] - E[x]^2 in single precision would lose two digits.
    case(
        "batch_norm_offset",
        batch_norm(True),
        numbers("offset", (3, 3, 4, 4), 7, 9),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    case(
        "batch_norm_eval",
        batch_norm(False),
        (2, 3, 4, 5),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    case(
        "batch_norm_eval_one",
        batch_norm(False),
        (1, 3, 1, 1),
        channel,
        channel,
        channel,
        variance,
        constant="de",
    )
    case("batch_norm_slope", batch_norm_slope, (2, 3, 3, 2), channel, channel, (2, 3, 3, 2))
    case(
        "penalty",
        penalty,
        (3, 2, 6, 5),
        (4, 2, 4, 4),
        (1, 4, 1, 1),
        (1, 24, 1, 1),
        (1, 1, 1, 1),
        low=-1.0,
        high=1.0,
    )
    case(
        "penalty_norm",
        penalty_norm,
        (3, 2, 4, 6),
        (3, 2, 4, 4),
        channel,
        channel,
        (1, 18, 1, 1),
        low=-1.0,
        high=1.0,
    )


# ---- losses -------------------------------------------------------------------------------------


def bce(target):
    return lambda x: F.binary_cross_entropy_with_logits(x, torch.full_like(x, target)).reshape(
        1, 1, 1, 1
    )


def losses():
    far = row(-100.0, -30.0, -1.0, 0.0, 1.0, 30.0, 100.0)
    for name, target in {"0": 0.0, "1": 1.0, "09": 0.9}.items():
        case(f"bce_{name}", bce(target), (5, 1, 1, 1))
        case(f"bce_{name}_far", bce(target), far)
    case("mse", lambda a, b: F.mse_loss(a, b).reshape(1, 1, 1, 1), FULL, FULL)
    case("l1", lambda a, b: F.l1_loss(a, b).reshape(1, 1, 1, 1), FULL, FULL)
    case(
        "l1_equal",
        lambda a, b: F.l1_loss(a, b).reshape(1, 1, 1, 1),
        row(-1.0, 0.0, 1.0, 2.0),
        row(-1.0, 0.0, 0.5, 3.0),
    )


def number(y):
    return y.reshape(1, 1, 1, 1)


def gan_losses():
    ln = lambda x: softplus(x).mean()
    square = lambda x, target: (x - target).square().mean()
    relativistic = lambda a, b: ln(b.mean() - a) + ln(b - a.mean())  # -(a - E b) and b - E a
    d = {
        "minimax": lambda a, b: ln(-a) + ln(b),
        "non_saturating": lambda a, b: ln(-a) + ln(b),
        "least_squares": lambda a, b: (square(a, 1) + square(b, 0)) / 2,
        "hinge": lambda a, b: torch.relu(1 - a).mean() + torch.relu(1 + b).mean(),
        "wasserstein": lambda a, b: b.mean() - a.mean(),
        "relativistic": relativistic,
    }
    g = {
        "minimax": lambda a, b: -ln(b),
        "non_saturating": lambda a, b: ln(-b),
        "least_squares": lambda a, b: square(b, 1),
        "hinge": lambda a, b: -b.mean(),
        "wasserstein": lambda a, b: -b.mean(),
        "relativistic": lambda a, b: relativistic(b, a),
    }
    for side, functions in ("d", d), ("g", g):
        for name, f in functions.items():
            case(f"{side}_{name}", lambda a, b: number(f(a, b)), (5, 1, 1, 1), (5, 1, 1, 1))
            case(f"{side}_{name}_uneven", lambda a, b: number(f(a, b)), (3, 1, 2, 3), (4, 1, 1, 5))
            case(f"{side}_{name}_one", lambda a, b: number(f(a, b)), (1, 1, 1, 1), (1, 1, 1, 1))


def gram(x):
    n, c, h, w = x.shape
    f = x.reshape(n, c, h * w)
    return (f @ f.transpose(1, 2) / (c * h * w)).reshape(n, 1, c, c)


def total_variation(x):
    return number(
        ((x[:, :, 1:] - x[:, :, :-1]).abs().sum() + (x[..., 1:] - x[..., :-1]).abs().sum())
        / x.shape[0]
    )


def patch_nce(q, k):
    n, c, _, p = q.shape
    scores = torch.stack([q[i, :, 0].T @ k.detach()[i, :, 0] / 0.25 for i in range(n)])  # (N,P,P)
    return number(F.cross_entropy(scores.reshape(n * p, p), torch.arange(p).repeat(n)))


def more_losses():
    shapes = {"": FULL, "_one": (1, 1, 1, 1), "_odd": (1, 1, 3, 7)}
    for suffix, shape in shapes.items():
        targets = numbers(f"targets{suffix}", shape, 0, 1)
        case(
            f"bce_to{suffix}",
            lambda a, b: number(F.binary_cross_entropy_with_logits(a, b)),
            shape,
            targets,
        )
        case(
            f"bce_probabilities{suffix}",
            lambda a, b: number(F.binary_cross_entropy(a, b)),
            numbers(f"probabilities{suffix}", shape, 0.0625, 0.9375),
            targets,
            constant="b",
        )
        case(f"smooth_l1{suffix}", lambda a, b: number(F.smooth_l1_loss(a, b)), shape, shape)
        case(f"cycle{suffix}", lambda a, b: number((a - b).abs().mean()), shape, shape)
        case(f"identity{suffix}", lambda a, b: number((a - b).abs().mean()), shape, shape)
    case(
        "bce_to_far",
        lambda a, b: number(F.binary_cross_entropy_with_logits(a, b)),
        row(-100.0, -30.0, 100.0, 30.0),
        row(0.0, 1.0, 0.5, 1.0),
    )
    case(
        "smooth_l1_ends",
        lambda a, b: number(F.smooth_l1_loss(a, b)),
        row(-1.0, 1.0, 0.0, -1.5, 3.0, 0.5),
        row(0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    )
    for suffix, (n, c, h, w) in {
        "": (5, 4, 1, 1),
        "_map": (2, 3, 3, 5),
        "_one": (1, 1, 1, 1),
        "_n1": (1, 7, 2, 1),
    }.items():
        case(
            f"cross_entropy{suffix}",
            lambda a, b: number(F.cross_entropy(a, b[:, 0].long())),
            (n, c, h, w),
            whole(f"labels{suffix}", (n, 1, h, w), c),
            constant="b",
        )
    for suffix, shape, masked in (("", (5, 4, 1, 1), 2), ("_map", (2, 3, 2, 5), 0)):
        logits = numbers(f"masked_logits{suffix}", shape)
        logits[:, masked] = -math.inf  # a class that is impossible, and nobody's label
        n, c, h, w = shape
        labels = (whole(f"masked_labels{suffix}", (n, 1, h, w), c - 1) + masked + 1) % c
        case(
            f"cross_entropy_masked{suffix}",
            lambda a, b: number(F.cross_entropy(a, b[:, 0].long())),
            logits,
            labels,
            constant="b",
        )
    case("gram", gram, (2, 3, 4, 5))
    case("gram_n1", gram, (1, 5, 3, 1))
    case("gram_c1", gram, (3, 1, 2, 7))
    case(
        "perceptual",
        lambda a, b, c, d: number(F.mse_loss(b, a.detach()) + F.mse_loss(d, c.detach())),
        FULL,
        FULL,
        (1, 1, 3, 7),
        (1, 1, 3, 7),
    )
    case(
        "perceptual_one", lambda a, b: number(F.mse_loss(b, a.detach())), (1, 1, 1, 3), (1, 1, 1, 3)
    )
    case(
        "style",
        lambda a, b, c, d: number(
            F.mse_loss(gram(b), gram(a).detach()) + F.mse_loss(gram(d), gram(c).detach())
        ),
        FULL,
        FULL,
        (2, 4, 3, 3),
        (2, 4, 3, 3),
    )
    case(
        "style_of_one",
        lambda a, b: number(F.mse_loss(gram(b), gram(a).detach().expand(3, 1, 2, 2))),
        (1, 2, 4, 3),
        (3, 2, 5, 1),
    )
    case(
        "feature_matching",
        lambda a, b, c, d: number(
            F.mse_loss(b.mean(0), a.detach().mean(0)) + F.mse_loss(d.mean(0), c.detach().mean(0))
        ),
        FULL,
        (4, 3, 2, 5),
        (1, 1, 1, 7),
        (3, 1, 1, 7),
    )
    case("total_variation", total_variation, (2, 3, 4, 5))
    case("total_variation_row", total_variation, (1, 1, 1, 7))
    case("total_variation_column", total_variation, (3, 1, 6, 1))
    case("patch_nce", patch_nce, (2, 3, 1, 5), (2, 3, 1, 5))
    case("patch_nce_n1", patch_nce, (1, 4, 1, 3), (1, 4, 1, 3))
    case("patch_nce_c1", patch_nce, (3, 1, 1, 2), (3, 1, 1, 2))
    case(
        "flipped_labels",
        lambda a: a * torch.where(rand(9, 1, 1, 1) < 0.25, 1 - 0.875, 0.875),
        (9, 1, 1, 1),
    )


# ---- penalties: the gradient of a gradient through a critic with a normalisation ----------------


def conv_leaky(x, w, b, fc, fc_bias):
    return linear(F.leaky_relu(F.conv2d(x, w, b.flatten(), 2, 1), 0.2), fc, fc_bias)


def conv_instance_tanh(x, w, norm_weight, norm_bias, fc):
    return linear(
        torch.tanh(
            F.instance_norm(
                F.conv2d(x, w, None, 2, 1), weight=norm_weight.flatten(), bias=norm_bias.flatten()
            )
        ),
        fc,
    )


def conv_layer_leaky(x, w, norm_weight, norm_bias, fc):
    h = F.conv2d(x, w, None, 1, 1)
    return linear(F.leaky_relu(F.layer_norm(h, h.shape[1:], norm_weight[0], norm_bias[0]), 0.2), fc)


def conv_group_gelu(x, w, norm_weight, norm_bias, fc):
    return linear(
        F.gelu(
            F.group_norm(F.conv2d(x, w, None, 2, 1), 2, norm_weight.flatten(), norm_bias.flatten())
        ),
        fc,
    )


CRITICS = {  # name -> the critic, the shapes of its inputs
    "conv": (conv_leaky, ((3, 2, 6, 5), (4, 2, 4, 4), (1, 4, 1, 1), (1, 24, 1, 1), (1, 1, 1, 1))),
    "instance": (
        conv_instance_tanh,
        ((3, 2, 6, 5), (4, 2, 4, 4), (1, 4, 1, 1), (1, 4, 1, 1), (1, 24, 1, 1)),
    ),
    "layer": (
        conv_layer_leaky,
        ((2, 1, 5, 3), (3, 1, 3, 3), (1, 3, 5, 3), (1, 3, 5, 3), (1, 45, 1, 1)),
    ),
    "group": (
        conv_group_gelu,
        ((1, 3, 7, 4), (4, 3, 3, 3), (1, 4, 1, 1), (1, 4, 1, 1), (1, 32, 1, 1)),
    ),
}


def slope_squared(critic, x, *weights):
    dx = torch.autograd.grad(critic(x, *weights).sum(), x, create_graph=True)[0]
    return dx.square().sum((1, 2, 3))


def penalties():
    for name, (critic, shapes) in CRITICS.items():
        for kind, f in {
            "r1": lambda s: s.mean(),
            "r2": lambda s: s.mean(),
            "gp": lambda s: (s.sqrt() - 1).square().mean(),
            "gp_0": lambda s: s.sqrt().square().mean(),
        }.items():
            case(
                f"{kind}_{name}",
                lambda *x: number(f(slope_squared(critic, *x))),
                *shapes,
                low=-1.0,
                high=1.0,
            )

        def wgan_gp(real, fake, *weights):
            between = real + rand(real.shape[0], 1, 1, 1) * (fake - real)
            return number(
                (slope_squared(critic, between.detach().requires_grad_(), *weights).sqrt() - 1)
                .square()
                .mean()
            )

        def dragan(real, *weights):
            noise = (
                rand(*real.shape) * rand(real.shape[0], 1, 1, 1) * 0.5 * real.std(unbiased=False)
            )
            return number(
                (
                    slope_squared(critic, (real + noise).detach().requires_grad_(), *weights).sqrt()
                    - 1
                )
                .square()
                .mean()
            )

        weights = shapes[1:] if name != "conv" else ((4, 2, 4, 4), (1, 24, 1, 1), (1, 1, 1, 1))
        if name == "conv":
            f = lambda real, fake, w, fc, fc_bias: wgan_gp(
                real, fake, w, torch.zeros(4, dtype=torch.float64), fc, fc_bias
            )
            case("wgan_gp_conv", f, shapes[0], shapes[0], *weights, low=-1.0, high=1.0)
        else:  # the norm's bias is a constant 0: five inputs are all there are
            f = lambda real, fake, w, norm_weight, fc: wgan_gp(
                real, fake, w, norm_weight, torch.zeros_like(norm_weight), fc
            )
            case(
                f"wgan_gp_{name}",
                f,
                shapes[0],
                shapes[0],
                weights[0],
                weights[1],
                weights[3],
                low=-1.0,
                high=1.0,
            )
        case(f"dragan_{name}", dragan, *shapes, low=-1.0, high=1.0)

    def path_length(layers):
        def f(w, first, second, p=None):
            mean = p["running_mean"] if p else torch.zeros(1, 1, 1, 1, dtype=torch.float64)
            one = w.mean(2, keepdim=True) if layers > 1 else w
            image = F.conv2d(torch.tanh(F.conv_transpose2d(one, first)), second, None, 1, 1)
            if layers > 1:
                image = image * (1 + w[:, :1, 1:2])  # so that the layers' gradients differ
            noise = randn(*image.shape) / math.sqrt(image.shape[2] * image.shape[3])
            dw = torch.autograd.grad((image * noise).sum(), w, create_graph=True)[0]
            length = dw.square().sum(1).mean(1).reshape(-1).sqrt()
            a = mean + 0.01 * (length.mean() - mean)
            if p:
                mean.copy_(a.detach())
            return number((length - a).square().mean())

        return f

    case(
        "path_length",
        path_length(1),
        (3, 4, 1, 1),
        (4, 3, 3, 4),
        (2, 3, 3, 3),
        parameters={"running_mean": torch.full((1, 1, 1, 1), 0.75, dtype=torch.float64)},
    )
    case("path_length_n1", path_length(1), (1, 2, 1, 1), (2, 3, 2, 5), (1, 3, 3, 3))
    case("path_length_layers", path_length(3), (2, 5, 3, 1), (5, 2, 3, 3), (3, 2, 3, 3))


# ---- optimizers: ten steps of every layer -------------------------------------------------------


class Net(torch.nn.Module):
    """The leaky ReLU stands before the batch norm, which would make the gradient of conv.bias a
    rounding error."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3, 2, 1)
        self.bn = torch.nn.BatchNorm2d(3)
        self.up = torch.nn.ConvTranspose2d(3, 2, 4, 2, 1)
        self.fc = torch.nn.Linear(72, 1)

    def forward(self, x):
        x = self.bn(F.leaky_relu(self.conv(x), 0.2))
        return self.fc(torch.tanh(self.up(x)).flatten(1))


def state(net, prefix):
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if value.dim() == 1:
            value = value.reshape(1, -1, 1, 1)
        if value.dim() == 2:
            value = value.reshape(*value.shape, 1, 1)
        tensors[f"{prefix}.{name}"] = value.clone()


def optimizers():
    torch.set_default_dtype(torch.float64)
    x, target = numbers("net.x", (4, 2, 5, 5)), numbers("net.target", (4, 1, 1, 1))
    tensors["net.x"], tensors["net.target"] = x, target

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.05)

    def momentum(parameters):
        return torch.optim.SGD(parameters, lr=0.02, momentum=0.9)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=0.01, betas=(0.5, 0.999))

    # The last column multiplies the loss: gradients as small as Adam's eps show where eps is added.
    for name, make, scale in (
        ("sgd", sgd, 1),
        ("momentum", momentum, 1),
        ("adam", adam, 1),
        ("adam_small", adam, 2.0**-24),
    ):
        net = Net()
        with torch.no_grad():
            for key, value in net.named_parameters():
                low, high = (0.5, 1.5) if key == "bn.weight" else (-0.5, 0.5)
                value.copy_(numbers(f"net.start.{key}", tuple(value.shape), low, high))
        if name == "sgd":
            state(net, "net.start")
        optimizer = make(net.parameters())
        losses = []
        for step in range(1, 11):
            loss = F.mse_loss(net(x).reshape(4, 1, 1, 1), target)
            losses.append(loss.item())
            optimizer.zero_grad()
            (loss * scale).backward()
            optimizer.step()
            if step in (1, 10):
                state(net, f"{name}.{step}")
        tensors[f"{name}.losses"] = row(*losses)
        tensors[f"{name}.eval"] = net.eval()(x).detach().reshape(4, 1, 1, 1)


# ---- the file -----------------------------------------------------------------------------------


def write(path):
    header, data = {}, bytearray()
    for name, value in tensors.items():
        values = value.reshape(-1).tolist()
        exact = torch.equal(value.float().double(), value)
        packed = struct.pack(f"<{len(values)}{'f' if exact else 'd'}", *values)
        header[name] = {
            "dtype": "F32" if exact else "F64",
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(packed)],
        }
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    print(
        f"{os.path.relpath(path)}: {cases} cases, {len(tensors)} tensors, "
        f"{8 + len(text) + len(data)} bytes"
    )


def read(path):
    with open(path, "rb") as file:
        text = file.read(struct.unpack("<Q", file.read(8))[0])
        data = file.read()
    found = {}
    for name, entry in json.loads(text).items():
        begin, end = entry["data_offsets"]
        size, code = (4, "f") if entry["dtype"] == "F32" else (8, "d")
        values = struct.unpack(f"<{(end - begin) // size}{code}", data[begin:end])
        found[name] = torch.tensor(values, dtype=torch.float64).reshape(entry["shape"])
    return found


def check(path):
    stored = read(path)
    wrong = [f"{name}: in one of the two only" for name in sorted(set(stored) ^ set(tensors))]
    for name, value in tensors.items():
        if name not in stored:
            continue
        if stored[name].shape != value.shape:
            wrong.append(
                f"{name}: {tuple(stored[name].shape)} in the file, {tuple(value.shape)} computed"
            )
            continue
        # Another processor or PyTorch may add in another order: a few units of 1e-16, many times
        # over in ten steps.
        # Infinities are equal where they are the same, and else no number.
        difference = torch.where(
            stored[name] == value, torch.zeros_like(value), stored[name] - value
        )
        error = difference.norm().item() / (1 + value[value.isfinite()].norm().item())
        if not error <= 1e-12:
            wrong.append(f"{name}: differs by {error:.1e}")
    for line in wrong:
        print(f"FAIL reference {line}")
    if not wrong:
        print(
            f"ok   reference: {os.path.relpath(path)} holds what PyTorch {torch.__version__} "
            f"computes, {len(tensors)} tensors"
        )
    print(f"{0 if wrong else 1} passed, {len(wrong)} failed")
    return 1 if wrong else 0


def main():
    torch.set_num_threads(1)
    arithmetic()
    activations()
    reduce_and_shape()
    gathering()
    products()
    convolutions()
    dilations()
    axes()
    resampling()
    normalisation()
    more_norms()
    layers()
    losses()
    gan_losses()
    more_losses()
    penalties()
    augmentation()
    optimizers()
    tensors["cases.count"] = row(float(cases))  # operations.c must have as many
    if sys.argv[1:] == ["--check"]:
        return check(PATH)
    if sys.argv[1:]:
        print(__doc__)
        return 1
    write(PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
