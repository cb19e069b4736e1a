#!/usr/bin/env python3
"""Writes tests/reference.safetensors: what PyTorch computes for every operation, layer, loss and optimizer of gan.h.

    python3 tests/reference.py             writes the file
    python3 tests/reference.py --check     computes everything again and compares it with the file

Needs PyTorch alone (apt install python3-torch). Exit status: 0, 1 if --check finds a difference, 77 without PyTorch.

A case is one call of case() here and one line of CASES in operations.c, under the same name. The file holds for it
    NAME.a .. NAME.e      the inputs
    NAME.y                the output
    NAME.r                fixed weights of y's shape: every gradient is that of sum(y * r)
    NAME.da .. NAME.de    the gradients
    NAME.d_after ..       what the case made of an input that it changes (running statistics)
Everything has four dimensions. Inputs are multiples of 1/512, exact in single precision; the rest is computed in double
precision, and what single precision cannot hold is stored in double, so that one file serves both builds of gan.h.
"""
import json
import os
import random
import struct
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("reference.py: PyTorch is not installed (apt install python3-torch), so nothing was computed or compared")
    sys.exit(77)

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference.safetensors")
tensors = {}    # name -> tensor, in the order of the file
cases = 0


# ---- numbers ------------------------------------------------------------------------------------------------------------

def numbers(name, shape, low=-2.0, high=2.0):
    """Numbers that depend on name alone: a new case changes no other, and any version of Python draws the same."""
    draw = random.Random(name)
    count = 1
    for size in shape:
        count *= size
    steps = int((high - low) * 512)
    return torch.tensor([low + draw.randrange(steps + 1) / 512 for _ in range(count)], dtype=torch.float64).reshape(shape)


def row(*values):
    """A tensor (1,1,1,W) of just these values."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def case(name, f, *inputs, low=-2.0, high=2.0, constant=""):
    """Records f of inputs, each a shape (random numbers in [low,high]) or a tensor. constant: letters without a gradient."""
    global cases
    cases += 1
    assert f"{name}.a" not in tensors, f"two cases are called {name}"
    x = {}
    for letter, value in zip("abcde", inputs):
        if isinstance(value, tuple):
            value = numbers(f"{name}.{letter}", value, low, high)
        tensors[f"{name}.{letter}"] = value.clone()
        x[letter] = value.clone().requires_grad_(letter not in constant)
    y = f(*x.values())
    r = numbers(f"{name}.r", tuple(y.shape))
    wanted = [letter for letter in x if letter not in constant]
    gradients = torch.autograd.grad((y * r).sum(), [x[letter] for letter in wanted], allow_unused=True)
    tensors[f"{name}.y"] = y.detach()
    tensors[f"{name}.r"] = r
    for letter, gradient in zip(wanted, gradients):
        tensors[f"{name}.d{letter}"] = torch.zeros_like(x[letter]) if gradient is None else gradient
    for letter in constant:
        if not torch.equal(x[letter], tensors[f"{name}.{letter}"]):
            tensors[f"{name}.{letter}_after"] = x[letter]


def slope(f, x):
    """f'(x), to be differentiated again."""
    return torch.autograd.grad(f(x).sum(), x, create_graph=True)[0]


# ---- arithmetic ---------------------------------------------------------------------------------------------------------

FULL = (2, 3, 2, 5)
BROADCASTS = {
    "same": (FULL, FULL), "number": (FULL, (1, 1, 1, 1)), "to_number": ((1, 1, 1, 1), FULL), "channel": (FULL, (1, 3, 1, 1)),
    "image": (FULL, (2, 1, 1, 1)), "row": (FULL, (1, 1, 1, 5)), "plane": (FULL, (1, 1, 2, 5)),
    "both": ((2, 1, 2, 1), (1, 3, 1, 5)),
}


def softplus(x):
    return -F.logsigmoid(-x)    # F.softplus drops ln(1 + e^-x) above 20


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
    smooth = {"exp": torch.exp, "square": torch.square, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": softplus}
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

    kink = row(-2.0, -0.5, -0.0, 0.0, 0.5, 2.0)     # these have no derivative at 0; PyTorch and gan.h choose the same one
    for name, f in {"abs": torch.abs, "relu": torch.relu, "leaky_relu": lambda a: F.leaky_relu(a, 0.2)}.items():
        case(name, f, FULL)
        case(f"{name}_at_0", f, kink)
    case("leaky_relu_negative", lambda a: F.leaky_relu(a, -0.3), FULL)
    case("clamp", lambda a: a.clamp(-0.5, 1.0), FULL)
    case("clamp_ends", lambda a: a.clamp(-0.5, 1.0), row(-2.0, -0.501953125, -0.5, 0.0, 1.0, 1.001953125, 2.0))
    case("relu_in_place", lambda a: torch.relu(2 * a), FULL)
    case("leaky_relu_in_place", lambda a: F.leaky_relu(2 * a, 0.2), FULL)
    case("used_twice", lambda a, b: a * (a + b), FULL, (1, 3, 1, 1))
    # Both sides of a sum get the same gradient: neither may overwrite it for the other.
    case("shared_gradient", lambda a, b: torch.tanh(a) + F.leaky_relu(b, 0.2), FULL, FULL)
    case("residual", lambda a: a + torch.sigmoid(a) + torch.relu(torch.tanh(a)), FULL)
    case("detach", lambda a: a.detach() ** 2 * a, FULL)
    case("unused", lambda a, b: a * 3, FULL, FULL)


# ---- reduce, shape, matmul ----------------------------------------------------------------------------------------------

PARTS = {"all": (1, 1, 1, 1), "channel": (1, 3, 1, 1), "image": (2, 1, 1, 1), "plane": (2, 3, 1, 1), "columns": (1, 1, 1, 5),
         "rows": (1, 1, 2, 1), "batch": (1, 3, 2, 5), "width": (2, 3, 2, 1), "none": FULL}


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


def matmul(transpose_a, transpose_b):
    return lambda a, b: (a.transpose(2, 3) if transpose_a else a) @ (b.transpose(2, 3) if transpose_b else b)


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


# ---- convolution --------------------------------------------------------------------------------------------------------

def conv2d(stride, pad, groups=1):
    return lambda x, w, b=None: F.conv2d(x, w, None if b is None else b.flatten(), stride, pad, 1, groups)


def conv_transpose2d(stride, pad, output_pad=0, groups=1):
    return lambda x, w, b=None: F.conv_transpose2d(x, w, None if b is None else b.flatten(), stride, pad, output_pad, groups)


def conv2d_weight(shape, stride, pad, groups=1):
    """The gradient of <conv2d(x, w), gy> in w: linear in x and in gy, the same at every w."""
    def f(x, gy):
        w = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad((F.conv2d(x, w, None, stride, pad, 1, groups) * gy).sum(), w, create_graph=True)[0]
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


# ---- batch normalisation, second derivatives ----------------------------------------------------------------------------

def batch_norm(training, momentum=0.1, eps=1e-5):
    return lambda x, weight, bias, mean, var: F.batch_norm(x, mean.view(-1), var.view(-1), weight.flatten(), bias.flatten(),
                                                           training, momentum, eps)


def batch_norm_slope(x, weight, bias, b):
    """The squared norm of a gradient of batch norm: its derivatives are second derivatives."""
    y = F.batch_norm(x, None, None, weight.flatten(), bias.flatten(), True, 0.1, 1e-5)
    return torch.autograd.grad((y * b).sum(), x, create_graph=True)[0].square().sum().reshape(1, 1, 1, 1)


def penalty(x, conv_weight, conv_bias, fc_weight, fc_bias):
    """WGAN-GP's penalty (Gulrajani et al. 2017) of a small critic."""
    h = F.leaky_relu(F.conv2d(x, conv_weight, conv_bias.flatten(), 2, 1), 0.2)
    dx = torch.autograd.grad(linear(h, fc_weight, fc_bias).sum(), x, create_graph=True)[0]
    return (dx.square().sum((1, 2, 3)).sqrt() - 1).square().mean().reshape(1, 1, 1, 1)


def penalty_norm(x, conv_weight, bn_weight, bn_bias, fc_weight):
    """The same through batch norm and tanh, where every derivative of every operation is used."""
    h = F.batch_norm(F.conv2d(x, conv_weight, None, 2, 1), None, None, bn_weight.flatten(), bn_bias.flatten(), True, 0.1, 1e-5)
    dx = torch.autograd.grad(linear(torch.tanh(h), fc_weight).square().sum(), x, create_graph=True)[0]
    return (dx.square().sum((1, 2, 3)).sqrt() - 1).square().mean().reshape(1, 1, 1, 1)


def normalisation():
    channel = (1, 3, 1, 1)
    variance = numbers("running_var", channel, 0.5, 2.0)
    case("batch_norm", batch_norm(True), (2, 3, 4, 5), channel, channel, channel, variance, constant="de")
    case("batch_norm_n1", batch_norm(True), (1, 3, 3, 3), channel, channel, channel, variance, constant="de")
    case("batch_norm_1x1", batch_norm(True), (7, 3, 1, 1), channel, channel, channel, variance, constant="de")
    case("batch_norm_options", batch_norm(True, 0.25, 0.125), (2, 3, 4, 5), channel, channel, channel, variance, constant="de")
    # A mean of 8 deviations: E[x^2] - E[x]^2 in single precision would lose two digits.
    case("batch_norm_offset", batch_norm(True), numbers("offset", (3, 3, 4, 4), 7, 9), channel, channel, channel, variance,
         constant="de")
    case("batch_norm_eval", batch_norm(False), (2, 3, 4, 5), channel, channel, channel, variance, constant="de")
    case("batch_norm_eval_one", batch_norm(False), (1, 3, 1, 1), channel, channel, channel, variance, constant="de")
    case("batch_norm_slope", batch_norm_slope, (2, 3, 3, 2), channel, channel, (2, 3, 3, 2))
    case("penalty", penalty, (3, 2, 6, 5), (4, 2, 4, 4), (1, 4, 1, 1), (1, 24, 1, 1), (1, 1, 1, 1), low=-1.0, high=1.0)
    case("penalty_norm", penalty_norm, (3, 2, 4, 6), (3, 2, 4, 4), channel, channel, (1, 18, 1, 1), low=-1.0, high=1.0)


# ---- losses -------------------------------------------------------------------------------------------------------------

def bce(target):
    return lambda x: F.binary_cross_entropy_with_logits(x, torch.full_like(x, target)).reshape(1, 1, 1, 1)


def losses():
    far = row(-100.0, -30.0, -1.0, 0.0, 1.0, 30.0, 100.0)
    for name, target in {"0": 0.0, "1": 1.0, "09": 0.9}.items():
        case(f"bce_{name}", bce(target), (5, 1, 1, 1))
        case(f"bce_{name}_far", bce(target), far)
    case("mse", lambda a, b: F.mse_loss(a, b).reshape(1, 1, 1, 1), FULL, FULL)
    case("l1", lambda a, b: F.l1_loss(a, b).reshape(1, 1, 1, 1), FULL, FULL)
    case("l1_equal", lambda a, b: F.l1_loss(a, b).reshape(1, 1, 1, 1), row(-1.0, 0.0, 1.0, 2.0), row(-1.0, 0.0, 0.5, 3.0))


# ---- optimizers: ten steps of every layer -------------------------------------------------------------------------------

class Net(torch.nn.Module):
    """The leaky ReLU stands before the batch norm, which would make the gradient of conv.bias a rounding error."""
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
    for name, make, scale in ("sgd", sgd, 1), ("momentum", momentum, 1), ("adam", adam, 1), ("adam_small", adam, 2.0 ** -24):
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


# ---- the file -----------------------------------------------------------------------------------------------------------

def write(path):
    header, data = {}, bytearray()
    for name, value in tensors.items():
        values = value.reshape(-1).tolist()
        exact = torch.equal(value.float().double(), value)
        packed = struct.pack(f"<{len(values)}{'f' if exact else 'd'}", *values)
        header[name] = {"dtype": "F32" if exact else "F64", "shape": list(value.shape),
                        "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    print(f"{os.path.relpath(path)}: {cases} cases, {len(tensors)} tensors, {8 + len(text) + len(data)} bytes")


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
            wrong.append(f"{name}: {tuple(stored[name].shape)} in the file, {tuple(value.shape)} computed")
            continue
        # Another processor or PyTorch may add in another order: a few units of 1e-16, many times over in ten steps.
        error = (stored[name] - value).norm().item() / (1 + value.norm().item())
        if not error <= 1e-12:
            wrong.append(f"{name}: differs by {error:.1e}")
    for line in wrong:
        print(f"FAIL reference {line}")
    if not wrong:
        print(f"ok   reference: {os.path.relpath(path)} holds what PyTorch {torch.__version__} computes, {len(tensors)} tensors")
    print(f"{0 if wrong else 1} passed, {len(wrong)} failed")
    return 1 if wrong else 0


def main():
    torch.set_num_threads(1)
    arithmetic()
    reduce_and_shape()
    products()
    convolutions()
    normalisation()
    losses()
    optimizers()
    tensors["cases.count"] = row(float(cases))    # operations.c must have as many
    if sys.argv[1:] == ["--check"]:
        return check(PATH)
    if sys.argv[1:]:
        print(__doc__)
        return 1
    write(PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
