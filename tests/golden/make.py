#!/usr/bin/env python3
"""Makes the golden cases in this folder with PyTorch.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0
    venv/bin/python tests/golden/make.py

Run with Python 3.11.7 and the versions above, on the CPU. The seeds are fixed, so the same versions give the same
files. Every input is drawn as float32 and computed in float64; results are rounded to float32 once, when stored.
The script also computes every case in float32 and prints how far PyTorch's own float32 lies from what is stored.
README.md beside this file says what the files hold.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_model
from torch import nn

FOLDER = Path(__file__).resolve().parent


class Draw:
    """Seeded inputs: exactly float32, handed out in the dtype to compute in."""

    def __init__(self, seed, dtype):
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype

    def values(self, array):
        return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(self.dtype)

    def normal(self, *shape, scale=1.0):
        return self.values(self.rng.standard_normal(shape) * scale)

    def ids(self, below, *shape):
        return torch.from_numpy(self.rng.integers(0, below, shape))

    def mask(self, targets, share):
        """The targets with about `share` of them replaced by -1."""
        hit = torch.from_numpy(self.rng.random(tuple(targets.shape)) < share)
        return targets.masked_fill(hit, -1)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_(True)


def conv_weight_to_crate(weight):
    """PyTorch's [c_out, c_in, taps] as the crate's [taps, c_in, c_out]."""
    return weight.permute(2, 1, 0)


def conv_by_definition(x, weight, bias, dilation, stride, pad_left, time_out):
    """The crate's definition, written out: y[t] = b + sum_k x[t*stride + k*dilation - pad_left] w[k]."""
    batch, time, _ = x.shape
    taps, _, c_out = weight.shape
    y = x.new_zeros(batch, time_out, c_out)
    for t in range(time_out):
        for k in range(taps):
            source = t * stride + k * dilation - pad_left
            if 0 <= source < time:
                y[:, t] += x[:, source] @ weight[k]
    return y if bias is None else y + bias


# Convolution


def conv_configs():
    def causal(kernel, dilation):
        return (kernel - 1) * dilation, 0

    def same(kernel, dilation):
        total = (kernel - 1) * dilation
        return total // 2, total - total // 2

    valid = (0, 0)
    rows = [
        # batch, time, c_in, c_out, kernel, dilation, stride, (pad_left, pad_right), bias
        (2, 17, 3, 5, 1, 1, 1, valid, True),
        (2, 20, 1, 3, 2, 1, 1, causal(2, 1), True),
        (1, 33, 5, 1, 2, 2, 1, causal(2, 2), False),
        (3, 21, 8, 16, 2, 5, 1, causal(2, 5), True),
        (2, 40, 4, 8, 2, 16, 1, causal(2, 16), True),
        (2, 31, 25, 25, 3, 2, 1, causal(3, 2), True),
        (1, 24, 3, 25, 7, 1, 1, causal(7, 1), True),
        (1, 40, 5, 3, 7, 16, 1, causal(7, 16), False),  # reaches further back than the sequence is long
        (2, 19, 5, 5, 3, 1, 1, valid, True),
        (1, 52, 3, 4, 3, 16, 1, valid, True),
        (2, 30, 25, 3, 2, 5, 1, valid, False),
        (2, 18, 5, 3, 3, 1, 1, same(3, 1), True),
        (2, 18, 3, 5, 2, 1, 1, same(2, 1), True),  # an even kernel: nothing on the left, one on the right
        (1, 23, 4, 4, 2, 5, 1, same(2, 5), True),
        (1, 37, 1, 25, 7, 5, 1, same(7, 5), False),
        (2, 21, 3, 5, 1, 1, 2, valid, True),
        (2, 22, 5, 4, 2, 1, 2, valid, True),
        (2, 23, 3, 3, 3, 2, 2, causal(3, 2), True),
        (1, 26, 25, 5, 3, 1, 3, causal(3, 1), False),
        (1, 41, 3, 5, 7, 2, 3, same(7, 2), True),
        (2, 24, 3, 3, 2, 1, 3, valid, True),  # a stride beyond the kernel: some samples are never read
        (2, 20, 5, 3, 1, 1, 1, (-4, 0), True),
        (2, 25, 3, 5, 3, 2, 1, (-5, 0), True),
        (1, 25, 4, 3, 2, 5, 1, (-3, -2), False),
        (1, 30, 3, 4, 3, 1, 2, (-1, 0), True),
        (1, 20, 5, 5, 3, 2, 1, (6, -3), True),
        (1, 130, 33, 65, 2, 2, 1, causal(2, 2), True),
    ]
    names = "batch time c_in c_out kernel dilation stride pad bias".split()
    configs = []
    for row in rows:
        config = dict(zip(names, row))
        config["pad_left"], config["pad_right"] = config.pop("pad")
        configs.append(config)
    return configs


def conv_cases(dtype):
    draw = Draw(101, dtype)
    tensors = {}
    configs = conv_configs()
    for i, c in enumerate(configs):
        x = leaf(draw.normal(c["batch"], c["time"], c["c_in"]))
        weight = leaf(draw.normal(c["c_out"], c["c_in"], c["kernel"], scale=(c["c_in"] * c["kernel"]) ** -0.5))
        bias = leaf(draw.normal(c["c_out"], scale=0.5)) if c["bias"] else None
        rows = x.transpose(1, 2)
        padded = F.pad(rows, (c["pad_left"], c["pad_right"]))
        y = F.conv1d(padded, weight, bias, stride=c["stride"], dilation=c["dilation"]).transpose(1, 2)
        total = (c["kernel"] - 1) * c["dilation"]
        if c["stride"] == 1 and (c["pad_left"], c["pad_right"]) == (total // 2, total - total // 2):
            own = F.conv1d(rows, weight, bias, dilation=c["dilation"], padding="same").transpose(1, 2)
            torch.testing.assert_close(own, y)
        ours = conv_by_definition(
            x, conv_weight_to_crate(weight), bias, c["dilation"], c["stride"], c["pad_left"], y.shape[1]
        )
        torch.testing.assert_close(ours, y)

        dy = draw.normal(*y.shape)
        y.backward(dy)
        tensors[f"{i}.x"], tensors[f"{i}.dx"] = x, x.grad
        tensors[f"{i}.weight"] = conv_weight_to_crate(weight)
        tensors[f"{i}.dweight"] = conv_weight_to_crate(weight.grad)
        if bias is not None:
            tensors[f"{i}.bias"], tensors[f"{i}.dbias"] = bias, bias.grad
        tensors[f"{i}.y"], tensors[f"{i}.dy"] = y, dy
    return configs, tensors


# Pointwise operations, losses and embeddings


class OpCases:
    def __init__(self):
        self.configs = []
        self.tensors = {}

    def add(self, config, **tensors):
        for name, tensor in tensors.items():
            self.tensors[f"{len(self.configs)}.{name}"] = tensor
        self.configs.append(config)


def gate_cases(draw, cases):
    for batch, time, channels, cond, scale in [
        (2, 9, 5, "none", 2.0),
        (1, 16, 8, "none", 60.0),
        (2, 9, 5, "full", 1.0),
        (3, 7, 4, "broadcast", 1.0),
        (2, 11, 7, "broadcast", 2.0),
    ]:
        x = leaf(draw.normal(batch, time, 2 * channels, scale=scale))
        z, extra = x, {}
        if cond != "none":
            added = leaf(draw.normal(batch, time if cond == "full" else 1, 2 * channels))
            z = x + added
            extra["cond"] = added
        a, b = z.split(channels, dim=-1)
        y = torch.tanh(a) * torch.sigmoid(b)
        dy = draw.normal(*y.shape)
        y.backward(dy)
        if extra:
            extra["dcond"] = extra["cond"].grad
        config = {"op": "gate", "batch": batch, "time": time, "channels": channels, "cond": cond}
        cases.add(config, x=x, y=y, dy=dy, dx=x.grad, **extra)


def activation_cases(draw, cases):
    functions = [
        ({"op": "relu"}, F.relu),
        ({"op": "leaky_relu", "slope": 0.01}, lambda x: F.leaky_relu(x, 0.01)),
        ({"op": "leaky_relu", "slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
        ({"op": "tanh"}, torch.tanh),
        ({"op": "sigmoid"}, torch.sigmoid),
    ]
    for config, function in functions:
        x = draw.normal(2, 13, 5, scale=2.0)
        # Zero, where the slope is a convention, and magnitudes whose exponential overflows float32.
        x.view(-1)[:9] = draw.values([0.0, 1e-4, -1e-4, 10.0, -10.0, 30.0, -30.0, 95.0, -95.0])
        x = leaf(x)
        y = function(x)
        dy = draw.normal(*y.shape)
        y.backward(dy)
        cases.add(config, x=x, y=y, dy=dy, dx=x.grad)


def cross_entropy_cases(draw, cases):
    for batch, time, classes, scale, masked in [
        (2, 7, 5, 1.5, 0.0),
        (3, 9, 16, 2.0, 0.4),
        (1, 4, 256, 3.0, 0.2),
        (2, 3, 2, 1.0, 0.3),
        (2, 6, 7, None, 0.25),
    ]:
        target = draw.mask(draw.ids(classes, batch, time), masked)
        assert (target >= 0).any(), "a batch with every target masked has no mean"
        if scale is None:
            logits = draw.values(draw.rng.choice([-80.0, 0.0, 80.0], (batch, time, classes)))
            # One position certain and right, one certain and wrong.
            target[0, 0], target[0, 1] = 2, 3
            logits[0, 0], logits[0, 1] = -80.0, 80.0
            logits[0, 0, 2], logits[0, 1, 3] = 80.0, -80.0
        else:
            logits = draw.normal(batch, time, classes, scale=scale)
        logits = leaf(logits)
        loss = F.cross_entropy(logits.view(-1, classes), target.view(-1), ignore_index=-1)
        loss.backward()
        config = {"op": "cross_entropy", "batch": batch, "time": time, "classes": classes, "reduction": "mean"}
        cases.add(config, logits=logits, target=target, loss=loss, dlogits=logits.grad)


def regression_cases(draw, cases):
    for op, function in [("mse", F.mse_loss), ("l1", F.l1_loss)]:
        for reduction in ["mean", "sum"]:
            x = draw.normal(2, 9, 3)
            target = draw.normal(2, 9, 3)
            x[1, 4] = target[1, 4]  # the slope of |0| is 0 in PyTorch
            x = leaf(x)
            loss = function(x, target, reduction=reduction)
            loss.backward()
            cases.add({"op": op, "reduction": reduction}, x=x, target=target, loss=loss, dx=x.grad)


def embedding_cases(draw, cases):
    for batch, time, vocabulary, channels in [(2, 11, 7, 5), (3, 40, 50, 8), (1, 6, 4, 1)]:
        ids = draw.ids(vocabulary - 1, batch, time)  # the last row is never looked up
        table = leaf(draw.normal(vocabulary, channels))
        y = F.embedding(ids, table)
        dy = draw.normal(*y.shape)
        y.backward(dy)
        config = {"op": "embedding", "batch": batch, "time": time, "vocabulary": vocabulary, "channels": channels}
        cases.add(config, ids=ids, table=table, y=y, dy=dy, dtable=table.grad)


def embedding_conv_cases(draw, cases):
    for batch, time, classes, channels, kernel, dilation, with_bias in [
        (2, 15, 9, 6, 2, 1, True),
        (1, 20, 16, 5, 3, 2, True),
        (2, 12, 5, 4, 1, 1, False),
        (1, 9, 6, 3, 4, 5, False),
    ]:
        ids = draw.ids(classes, batch, time)
        table = leaf(draw.normal(kernel, classes, channels))
        bias = leaf(draw.normal(channels)) if with_bias else None
        y = torch.zeros(batch, time, channels, dtype=draw.dtype)
        for k in range(kernel):
            shift = (kernel - 1 - k) * dilation
            if shift < time:
                looked_up = F.embedding(ids[:, : time - shift], table[k])
                y = y + F.pad(looked_up, (0, 0, shift, 0))
        if with_bias:
            y = y + bias
        one_hot = F.one_hot(ids, classes).to(draw.dtype).transpose(1, 2)
        weight = table.permute(2, 1, 0)
        by_conv = F.conv1d(F.pad(one_hot, ((kernel - 1) * dilation, 0)), weight, bias, dilation=dilation)
        torch.testing.assert_close(by_conv.transpose(1, 2), y)
        dy = draw.normal(*y.shape)
        y.backward(dy)
        extra = {"bias": bias, "dbias": bias.grad} if with_bias else {}
        config = {
            "op": "embedding_conv", "batch": batch, "time": time, "classes": classes, "channels": channels,
            "kernel": kernel, "dilation": dilation, "bias": with_bias,
        }  # fmt: skip
        cases.add(config, ids=ids, table=table, y=y, dy=dy, dtable=table.grad, **extra)


def op_cases(dtype):
    draw = Draw(202, dtype)
    cases = OpCases()
    gate_cases(draw, cases)
    activation_cases(draw, cases)
    cross_entropy_cases(draw, cases)
    regression_cases(draw, cases)
    embedding_cases(draw, cases)
    embedding_conv_cases(draw, cases)
    return cases.configs, cases.tensors


# Pooling


def pool_configs():
    def moving(op, shape, size, stride, pad, **more):
        return {"op": op, "shape": shape, "size": size, "stride": stride, "pad": pad, **more}

    configs = []
    for lengths in [None, "some"]:
        for shape, size, stride, pad in [
            ([2, 13, 3], 2, 2, 0),
            ([2, 14, 5], 3, 2, 1),
            ([1, 17, 4], 4, 1, 2),
            ([3, 9, 1], 2, 5, 0),
            ([4, 7, 8], 7, 7, 3),
        ]:
            configs.append(moving("max", shape, size, stride, pad, lengths=lengths))
            for count_padding in [False, True]:
                configs.append(moving("avg", shape, size, stride, pad, count_padding=count_padding, lengths=lengths))
        for op in ["adaptive_max", "adaptive_avg"]:
            for shape, out in [([2, 13, 3], 4), ([4, 7, 5], 7), ([2, 5, 4], 8), ([4, 11, 2], 1)]:
                configs.append({"op": op, "shape": shape, "out": out, "lengths": lengths})
        for op in ["global_max", "global_avg"]:
            for shape in [[4, 19, 5], [2, 1, 4]]:
                configs.append({"op": op, "shape": shape, "lengths": lengths})
        for shape, k in [([2, 13, 3], 4), ([4, 7, 5], 7), ([3, 30, 4], 1)]:
            configs.append({"op": "k_max", "shape": shape, "k": k, "lengths": lengths})
    return configs


def pool_moving(config, x, there):
    """Windows over [B, C, T], where `there` is 1 and elsewhere 0; without lengths by PyTorch's own layers alone."""
    size, stride, pad = config["size"], config["stride"], config["pad"]
    if config["op"] == "max":
        y = F.max_pool1d(torch.where(there > 0, x, -torch.inf), size, stride, pad)
        return torch.where(y == -torch.inf, 0.0, y)
    if config["lengths"] is None:
        return F.avg_pool1d(x, size, stride, pad, count_include_pad=config["count_padding"])
    total = F.avg_pool1d(x * there, size, stride, pad)
    return total if config["count_padding"] else total / F.avg_pool1d(there, size, stride, pad).clamp(min=1e-9)


def pool_sequence(config, x):
    """The values and, where they are told, the positions of one sequence [C, L], L above 0, as it is without padding."""
    op = config["op"]
    if op.startswith("adaptive"):
        return (F.adaptive_max_pool1d if op == "adaptive_max" else F.adaptive_avg_pool1d)(x, config["out"]), None
    if op == "global_avg":
        return F.adaptive_avg_pool1d(x, 1), None
    if op == "global_max":
        return F.adaptive_max_pool1d(x, 1, return_indices=True)
    k = min(config["k"], x.shape[1])
    at = torch.topk(x, k, dim=1).indices.sort(dim=1).values
    return F.pad(x.gather(1, at), (0, config["k"] - k)), F.pad(at, (0, config["k"] - k), value=-1)


def pool_cases(dtype):
    draw = Draw(707, dtype)
    tensors = {}
    configs = pool_configs()
    for i, config in enumerate(configs):
        batch, time, channels = config["shape"]
        x = leaf(draw.normal(batch, time, channels))
        lengths = torch.full((batch,), time)
        if config["lengths"] is not None:
            # None, one, some and all.
            lengths = torch.tensor([0, 1, (time + 1) // 2, time])[-batch:]
            tensors[f"{i}.lengths"] = lengths.unsqueeze(1)
        rows = x.transpose(1, 2)
        positions = None
        if config["op"] in ["max", "avg"]:
            there = (torch.arange(time) < lengths[:, None, None]).to(dtype).expand(batch, channels, time)
            y = pool_moving(config, rows, there)
        else:
            count = config.get("out", config.get("k", 1))
            nothing = x.new_zeros(channels, count), torch.full((channels, count), -1)
            pairs = [pool_sequence(config, r[:, :n]) if n > 0 else nothing for r, n in zip(rows, lengths)]
            y = torch.stack([values for values, _ in pairs])
            if config["op"] in ["global_max", "k_max"]:
                positions = torch.stack([at for _, at in pairs])
        y = y.transpose(1, 2)
        dy = draw.normal(*y.shape)
        y.backward(dy)
        tensors |= {f"{i}.x": x, f"{i}.dx": x.grad, f"{i}.y": y, f"{i}.dy": dy}
        if positions is not None:
            tensors[f"{i}.positions"] = positions.transpose(1, 2).to(dtype)
    return configs, tensors


# Optimizers


def optim_cases(dtype):
    adam = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
    sgd = {"lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
    configs = [
        {"optimizer": "adam", **adam},
        {"optimizer": "adamw", "lr": 1e-3, "betas": [0.8, 0.99], "eps": 1e-4, "weight_decay": 0.01},
        {"optimizer": "sgd", **sgd, "momentum": 0.9, "weight_decay": 0.01},
        {"optimizer": "sgd", **sgd, "momentum": 0.9, "nesterov": True},
        {"optimizer": "sgd", **sgd},
        {"optimizer": "adam", **adam, "clip_norm": 0.5},
    ]
    return trajectories(Draw(303, dtype), configs)


def adaptive_optim_cases(dtype):
    rmsprop = {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False, "weight_decay": 0.0}
    adagrad = {"lr": 1e-2, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "weight_decay": 0.0}
    adadelta = {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}
    configs = [
        {"optimizer": "rmsprop", **rmsprop},
        {"optimizer": "rmsprop", **rmsprop, "lr": 1e-3, "alpha": 0.9, "eps": 1e-7},  # the defaults of Keras
        {"optimizer": "rmsprop", **rmsprop, "momentum": 0.9, "weight_decay": 0.01},
        {"optimizer": "rmsprop", **rmsprop, "centered": True},
        {"optimizer": "rmsprop", **rmsprop, "momentum": 0.5, "centered": True, "eps": 1e-3, "clip_norm": 0.5},
        {"optimizer": "adagrad", **adagrad},
        {"optimizer": "adagrad", **adagrad, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.01},
        {"optimizer": "adadelta", **adadelta},
        {"optimizer": "adadelta", **adadelta, "lr": 0.5, "rho": 0.95, "weight_decay": 0.01},
    ]
    return trajectories(Draw(808, dtype), configs)


def trajectories(draw, configs):
    """What each optimizer makes of six steps with given gradients."""
    steps = 6
    kinds = {
        "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad, "adadelta": torch.optim.Adadelta,
    }  # fmt: skip
    described = {"optimizer", "clip_norm", "steps", "shapes"}
    tensors = {}
    for i, config in enumerate(configs):
        clip_norm = config.setdefault("clip_norm", None)
        config["steps"] = steps
        shapes = config["shapes"] = [[37]] if clip_norm is None else [[37], [3, 5]]
        params = [leaf(draw.normal(*shape)) for shape in shapes]
        grads = [draw.normal(steps, *shape) for shape in shapes]
        for grad in grads:
            grad.view(steps, -1)[:, 0] = 0.0  # an element that never has a gradient
            grad.view(steps, -1)[:, 1] *= 1e-3
            # Small on two of the steps, so that the norm is also met below the limit.
            grad[[1, 4]] *= 0.03
        optimizer = kinds[config["optimizer"]](params, **{k: v for k, v in config.items() if k not in described})
        for j, param in enumerate(params):
            tensors[f"{i}.{j}.initial"] = param.detach().clone()
            tensors[f"{i}.{j}.grads"] = grads[j].clone()
        norms, after = [], [[] for _ in params]
        for step in range(steps):
            for param, grad in zip(params, grads):
                param.grad = grad[step].clone()
            if clip_norm is not None:
                norms.append(nn.utils.clip_grad_norm_(params, clip_norm))
            optimizer.step()
            for history, param in zip(after, params):
                history.append(param.detach().clone())
        for j, history in enumerate(after):
            tensors[f"{i}.{j}.params"] = torch.stack(history)
        if clip_norm is not None:
            tensors[f"{i}.norms"] = torch.stack(norms)
            assert min(norms) < clip_norm < max(norms)
    return configs, tensors


# WaveNet


class WaveNet(nn.Module):
    """WaveNet as van den Oord et al. (2016) have it: residual and skip connections, gated activations, [B, C, T]."""

    def __init__(self, config):
        super().__init__()
        self.config = c = config
        biases = c["biases"]
        last = len(c["dilations"]) - 1
        channels_in = 1 if c["scalar_input"] else c["classes"]
        self.input = nn.Conv1d(channels_in, c["residual"], c["input_kernel"], bias=c["input_bias"])
        self.dilated, self.skip = nn.ModuleList(), nn.ModuleList()
        self.residual = nn.ModuleList()
        for i, dilation in enumerate(c["dilations"]):
            self.dilated.append(nn.Conv1d(c["residual"], 2 * c["gate"], c["kernel"], dilation=dilation, bias=biases))
            self.skip.append(nn.Conv1d(c["gate"], c["skip"], 1, bias=biases))
            if i < last or c["residual_in_last_layer"]:
                self.residual.append(nn.Conv1d(c["gate"], c["residual"], 1, bias=biases))
        self.head = nn.ModuleList(
            [nn.Conv1d(c["skip"], c["head"], 1, bias=biases), nn.Conv1d(c["head"], c["classes"], 1, bias=biases)]
        )

    def forward(self, x):
        """`x` [B, T]: class numbers or samples. Gives logits [B, T, classes] and what the two ReLUs were given."""
        if self.config["scalar_input"]:
            h = x.unsqueeze(1)
        else:
            h = F.one_hot(x, self.config["classes"]).to(self.input.weight.dtype).transpose(1, 2)
        h = self.causal(self.input, h)
        skips = 0.0
        last = len(self.dilated) - 1
        for i, (dilated, skip) in enumerate(zip(self.dilated, self.skip)):
            a, b = self.causal(dilated, h).chunk(2, dim=1)
            z = torch.tanh(a) * torch.sigmoid(b)
            skips = skips + skip(z)
            if i < last:
                h = h + self.residual[i](z)
        hidden = self.head[0](F.relu(skips))
        return self.head[1](F.relu(hidden)).transpose(1, 2), (skips, hidden)

    @staticmethod
    def causal(conv, x):
        return conv(F.pad(x, ((conv.kernel_size[0] - 1) * conv.dilation[0], 0)))

    def receptive_field(self):
        c = self.config
        return 1 + (c["input_kernel"] - 1) + (c["kernel"] - 1) * sum(c["dilations"])

    def loss(self, x, target):
        logits, _ = self(x)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1), ignore_index=-1)

    def tensors(self, of):
        """The parameters, or what `of` takes from each, under the crate's names and in its layouts."""
        out = {}

        def add(name, conv):
            out[f"{name}.weight"] = conv_weight_to_crate(of(conv.weight))
            if conv.bias is not None:
                out[f"{name}.bias"] = of(conv.bias)

        add("input", self.input)
        for i, conv in enumerate(self.dilated):
            add(f"layers.{i}.dilated", conv)
        for i, conv in enumerate(self.residual):
            add(f"layers.{i}.residual", conv)
        out["skip.weight"] = torch.stack([conv_weight_to_crate(of(conv.weight))[0] for conv in self.skip])
        if self.config["biases"]:
            out["skip.bias"] = torch.stack([of(conv.bias) for conv in self.skip])
        for i, conv in enumerate(self.head):
            add(f"head.{i}", conv)
        return {name: tensor.detach().clone() for name, tensor in out.items()}


def wavenet_by_definition(config, params, x):
    """The logits from the crate's names and layouts alone, to check that `WaveNet.tensors` hands them out right."""

    def conv(name, h, dilation=1):
        weight = params[f"{name}.weight"]
        left = (weight.shape[0] - 1) * dilation
        return conv_by_definition(h, weight, params.get(f"{name}.bias"), dilation, 1, left, h.shape[1])

    params = {name: tensor.double() for name, tensor in params.items()}
    signal = x.double().unsqueeze(-1) if config["scalar_input"] else F.one_hot(x, config["classes"]).double()
    h = conv("input", signal)
    skips = 0.0
    for i, dilation in enumerate(config["dilations"]):
        z = conv(f"layers.{i}.dilated", h, dilation)
        z = torch.tanh(z[..., : config["gate"]]) * torch.sigmoid(z[..., config["gate"] :])
        skips = skips + z @ params["skip.weight"][i]
        if config["biases"]:
            skips = skips + params["skip.bias"][i]
        if i + 1 < len(config["dilations"]):
            h = h + conv(f"layers.{i}.residual", z)
    return conv("head.1", F.relu(conv("head.0", F.relu(skips))))


WAVENETS = {
    "wavenet_classes": dict(
        classes=16, scalar_input=False, input_kernel=2, input_bias=True, kernel=2, dilations=[1, 2, 4, 8, 1, 2, 4, 8],
        residual=8, gate=8, skip=12, head=12, biases=True, residual_in_last_layer=False,
        batch=2, time=48, masked="none", adam_steps=5, seed=404,
    ),
    "wavenet_scalar": dict(
        classes=11, scalar_input=True, input_kernel=5, input_bias=False, kernel=3, dilations=[1, 3, 9],
        residual=5, gate=7, skip=9, head=6, biases=False, residual_in_last_layer=False,
        batch=1, time=40, masked="random", adam_steps=0, seed=505,
    ),
    "wavenet_last_residual": dict(
        classes=10, scalar_input=False, input_kernel=2, input_bias=False, kernel=2, dilations=[1, 2, 4, 1, 2, 4],
        residual=8, gate=4, skip=6, head=5, biases=True, residual_in_last_layer=True,
        batch=3, time=33, masked="receptive_field", adam_steps=0, seed=606,
    ),
}  # fmt: skip


def wavenet_case(config, dtype):
    draw = Draw(config["seed"], dtype)
    model = WaveNet(config).to(dtype)
    with torch.no_grad():
        for name, param in model.named_parameters():
            scale = 0.2 if name.endswith("bias") else (param.shape[1] * param.shape[2]) ** -0.5
            param.copy_(draw.normal(*param.shape, scale=scale))
    batch, time, classes = config["batch"], config["time"], config["classes"]
    x = draw.normal(batch, time, scale=0.5) if config["scalar_input"] else draw.ids(classes, batch, time)
    target = draw.ids(classes, batch, time)
    if config["masked"] == "random":
        target = draw.mask(target, 0.3)
    elif config["masked"] == "receptive_field":
        target[:, : model.receptive_field() - 1] = -1

    tensors = {"input": x, "target": target}
    logits, before_relu = model(x)
    # A ReLU met this near its corner could go either way in float32.
    assert all(value.abs().min() > 1e-6 for value in before_relu), "choose another seed"
    loss = model.loss(x, target)
    loss.backward()
    tensors["logits"], tensors["loss"] = logits, loss
    params = model.tensors(lambda param: param)
    if dtype == torch.float64:
        torch.testing.assert_close(wavenet_by_definition(config, params, x), logits.detach())
    grads = model.tensors(lambda param: torch.zeros_like(param) if param.grad is None else param.grad)
    tensors |= {f"param.{name}": tensor for name, tensor in params.items()}
    tensors |= {f"grad.{name}": tensor for name, tensor in grads.items()}

    if config["adam_steps"]:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
        losses = []
        for _ in range(config["adam_steps"]):
            optimizer.zero_grad()
            loss = model.loss(x, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        tensors["losses"] = torch.stack(losses)
        tensors |= {f"after.param.{name}": t for name, t in model.tensors(lambda param: param).items()}
    described = dict(config, parameters=sum(p.numel() for p in params.values()))
    described["receptive_field"] = model.receptive_field()
    del described["seed"]
    return described, tensors


def check_published_sizes():
    """Two configurations whose number of parameters is known."""
    powers = [2**i for i in range(10)]
    published = WaveNet(dict(
        classes=256, scalar_input=False, input_kernel=2, input_bias=False, kernel=2, dilations=powers * 5,
        residual=32, gate=32, skip=512, head=512, biases=True, residual_in_last_layer=True,
    ))  # fmt: skip
    assert sum(p.numel() for p in published.parameters()) == 1_515_968
    assert published.receptive_field() == 5_117
    wide = WaveNet(dict(
        classes=256, scalar_input=False, input_kernel=2, input_bias=True, kernel=2, dilations=powers * 3,
        residual=64, gate=64, skip=256, head=256, biases=True, residual_in_last_layer=False,
    ))  # fmt: skip
    assert sum(p.numel() for p in wide.parameters()) == 1_279_616
    # The crate's names cover every parameter once.
    for model in (published, wide):
        named = model.tensors(lambda param: param)
        assert sum(t.numel() for t in named.values()) == sum(p.numel() for p in model.parameters())


# Recurrent layers

RECURRENT = [
    {"cell": "gru", "hidden": 5},
    {"cell": "gru", "hidden": 4, "layers": 2, "bidirectional": True, "initial": True},
    {"cell": "gru", "hidden": 7, "layers": 2, "lengths": [6, 3, 1]},
    {"cell": "gru", "hidden": 8, "bidirectional": True, "lengths": [4, 6, 2], "initial": True},
    {"cell": "gru", "hidden": 3, "bias": False},
    {"cell": "lstm", "hidden": 5},
    {"cell": "lstm", "hidden": 4, "layers": 2, "bidirectional": True, "initial": True},
    {"cell": "lstm", "hidden": 7, "layers": 2, "lengths": [6, 3, 1]},
    {"cell": "lstm", "hidden": 9, "bidirectional": True, "lengths": [4, 6, 2], "initial": True},
    {"cell": "lstm", "hidden": 3, "bias": False},
    {"cell": "tanh", "hidden": 5, "layers": 2, "bidirectional": True, "initial": True},
    {"cell": "relu", "hidden": 6, "lengths": [6, 3, 1]},
    {"cell": "keras_gru", "hidden": 5},
    {"cell": "keras_gru", "hidden": 8, "initial": True},
    {"cell": "gru", "hidden": 5, "layers": 2, "bidirectional": True, "lengths": [1, 6, 4], "initial": True},
    {"cell": "lstm", "hidden": 5, "layers": 2, "bidirectional": True, "lengths": [5, 1, 6], "initial": True},
    {"cell": "keras_gru", "hidden": 6, "lengths": [4, 0, 6], "initial": True},
    {"cell": "keras_lstm", "hidden": 5},
    {"cell": "keras_lstm", "hidden": 7, "forget_bias": 1.0, "lengths": [0, 6, 3], "initial": True},
    {"cell": "gru", "hidden": 5, "mask": 0.4, "initial": True},
    {"cell": "lstm", "hidden": 6, "mask": 0.4, "lengths": [6, 2, 5]},
    {"cell": "tanh", "hidden": 5, "mask": 0.4},
    {"cell": "keras_gru", "hidden": 7, "mask": 0.5, "lengths": [3, 6, 1], "initial": True},
    {"cell": "keras_lstm", "hidden": 5, "mask": 0.5},
]


class ByDefinition(torch.nn.Module):
    """A recurrent layer step by step, for what torch.nn has not; names, gate order and layout of the weights are PyTorch's.

    `keras_gru` and `keras_lstm` are the layers of Keras 2.0.8 (keras/layers/recurrent.py, `GRUCell.call` and `LSTMCell.call`):
    one bias, the GRU's reset gate before the product, and gates `hard_sigmoid` (keras/backend, clip(0.2 x + 0.5, 0, 1)). Its
    LSTM's order i, f, c, o is PyTorch's, its GRU's is z, r, h. A mask is what those layers' `recurrent_dropout` multiplies the
    state by where a weight does, the same for all gates (`implementation=2`) and at all steps (Gal and Ghahramani 2016).
    """

    def __init__(self, cell, inputs, hidden):
        super().__init__()
        self.cell, self.hidden = cell, hidden
        gates = {"gru": 3, "lstm": 4}.get(cell.removeprefix("keras_"), 1)
        self.weight_ih_l0 = torch.nn.Parameter(torch.zeros(gates * hidden, inputs))
        self.weight_hh_l0 = torch.nn.Parameter(torch.zeros(gates * hidden, hidden))
        self.bias_ih_l0 = torch.nn.Parameter(torch.zeros(gates * hidden))
        if not cell.startswith("keras_"):
            self.bias_hh_l0 = torch.nn.Parameter(torch.zeros(gates * hidden))

    def gate(self, value):
        return torch.clamp(0.2 * value + 0.5, 0.0, 1.0) if self.cell.startswith("keras_") else torch.sigmoid(value)

    def step(self, given, states, mask):
        """The states after a step; `given` is what the inputs add to the gates."""
        h, weight, bias = states[0], self.weight_hh_l0, getattr(self, "bias_hh_l0", None)
        read = h * mask
        match self.cell:
            case "gru":
                xr, xz, xn = given.chunk(3, dim=-1)
                hr, hz, hn = F.linear(read, weight, bias).chunk(3, dim=-1)
                r, z = self.gate(xr + hr), self.gate(xz + hz)
                return [(1 - z) * torch.tanh(xn + r * hn) + z * h]
            case "keras_gru":
                xr, xz, xn = given.chunk(3, dim=-1)
                wr, wz, wn = weight.chunk(3)
                r, z = self.gate(xr + read @ wr.T), self.gate(xz + read @ wz.T)
                return [z * h + (1 - z) * torch.tanh(xn + (r * read) @ wn.T)]
            case "lstm" | "keras_lstm":
                i, f, g, o = (given + F.linear(read, weight, bias)).chunk(4, dim=-1)
                c = self.gate(f) * states[1] + self.gate(i) * torch.tanh(g)
                return [self.gate(o) * torch.tanh(c), c]
            case "tanh":
                return [torch.tanh(given + F.linear(read, weight, bias))]

    def forward(self, x, initial, mask=None, lengths=None):
        batch, time, _ = x.shape
        count = 2 if self.cell.endswith("lstm") else 1
        states = [x.new_zeros(batch, self.hidden)] * count if initial is None else [state[0] for state in initial]
        mask = torch.ones_like(states[0]) if mask is None else mask[:, 0]
        ends = torch.tensor([time] * batch if lengths is None else lengths)
        outputs = []
        for t in range(time):
            given = F.linear(x[:, t], self.weight_ih_l0, self.bias_ih_l0)
            there = (t < ends)[:, None]
            after = self.step(given, states, mask)
            states = [torch.where(there, new, old) for new, old in zip(after, states)]
            outputs.append(torch.where(there, states[0], 0.0))
        return torch.stack(outputs, dim=1), tuple(state[None] for state in states)


def check_recurrent_definition():
    """Where torch.nn has the same layer, both give the same."""
    draw = Draw(12, torch.float64)
    for cell, builtin in [("gru", nn.GRU), ("lstm", nn.LSTM), ("tanh", nn.RNN)]:
        theirs, ours = builtin(4, 5, batch_first=True).double(), ByDefinition(cell, 4, 5).double()
        ours.load_state_dict(theirs.state_dict())
        x, states = draw.normal(2, 6, 4), [draw.normal(1, 2, 5) for _ in range(2 if cell == "lstm" else 1)]
        y, last = theirs(x, tuple(states) if cell == "lstm" else states[0])
        own, own_last = ours(x, states)
        torch.testing.assert_close(own, y)
        torch.testing.assert_close(own_last, last if cell == "lstm" else (last,))


def recurrent_module(config, inputs):
    hidden, layers = config["hidden"], config.get("layers", 1)
    options = {
        "num_layers": layers,
        "bidirectional": config.get("bidirectional", False),
        "bias": config.get("bias", True),
        "batch_first": True,
    }
    if config["cell"].startswith("keras_") or "mask" in config:
        return ByDefinition(config["cell"], inputs, hidden)
    match config["cell"]:
        case "gru":
            return torch.nn.GRU(inputs, hidden, **options)
        case "lstm":
            return torch.nn.LSTM(inputs, hidden, **options)
        case kind:
            return torch.nn.RNN(inputs, hidden, nonlinearity=kind, **options)


def recurrent_cases(dtype):
    draw, cases = Draw(11, dtype), OpCases()
    batch, time, inputs = 3, 6, 4
    for config in RECURRENT:
        module = recurrent_module(config, inputs).to(dtype)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(draw.normal(*parameter.shape, scale=0.5))
        hidden = config["hidden"]
        if "forget_bias" in config:
            # As Keras' `unit_forget_bias` starts them, which is what the layer under test starts with.
            module.bias_ih_l0.data.zero_()
            module.bias_ih_l0.data[hidden : 2 * hidden] = config["forget_bias"]
        x = leaf(draw.normal(batch, time, inputs))
        walks = config.get("layers", 1) * (2 if config.get("bidirectional") else 1)
        is_lstm = config["cell"].endswith("lstm")
        tensors = {"x": x}
        names = ["h", "c"] if is_lstm else ["h"]
        initial = None
        if config.get("initial"):
            states = [leaf(draw.normal(walks, batch, hidden)) for _ in names]
            tensors |= {f"{name}0": state for name, state in zip(names, states)}
            initial = tuple(states) if is_lstm else states[0]
        lengths = config.get("lengths")
        if isinstance(module, ByDefinition):
            mask = None
            if "mask" in config:
                share = config["mask"]
                mask = draw.values((draw.rng.random((batch, 1, hidden)) >= share) / (1 - share))
                tensors["mask"] = mask
            y, last = module(x, states if config.get("initial") else None, mask, lengths)
            last = last if is_lstm else last[0]
        elif lengths:
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
            )
            y, last = module(packed, initial)
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=time)
        else:
            y, last = module(x, initial)
        last = last if is_lstm else (last,)
        tensors["y"], tensors["dy"] = y, draw.normal(*y.shape)
        loss = (y * tensors["dy"]).sum()
        for name, state in zip(names, last):
            tensors[f"{name}n"], tensors[f"d{name}n"] = state, draw.normal(*state.shape)
            loss = loss + (state * tensors[f"d{name}n"]).sum()
        loss.backward()
        tensors["dx"] = x.grad
        if initial is not None:
            tensors |= {f"d{name}0": state.grad for name, state in zip(names, states)}
        for name, parameter in module.named_parameters():
            tensors[name], tensors[f"d{name}"] = parameter, parameter.grad
        cases.add(config | {"inputs": inputs, "batch": batch, "time": time}, **tensors)
    return cases.configs, cases.tensors


# Temporal convolutional networks

TCN = {"inputs": 3, "channels": [5, 5], "kernel": 3, "batch": 2, "time": 11}

TCNS = [
    TCN | {"weight_norm": "hooks"},
    TCN | {"weight_norm": "parametrizations"},
    TCN | {"weight_norm": "hooks", "activation": "gelu"},
    TCN | {"norm": "none", "activation": "glu", "causal": False},
    TCN | {"norm": "layer"},
    TCN | {"norm": "layer", "activation": "glu", "padding": "replicate"},
    TCN | {"norm": "batch", "activation": "gelu"},
    TCN | {"norm": "batch", "activation": "tanh", "causal": False, "padding": "reflect"},
    TCN | {"weight_norm": "hooks", "causal": False, "padding": "replicate"},
]


class TcnLevel(nn.Module):
    """A level of the TCN of Bai et al. (2018), with the names of their code."""

    def __init__(self, config, inputs, channels, dilation):
        super().__init__()
        normed = {
            "hooks": torch.nn.utils.weight_norm,
            "parametrizations": torch.nn.utils.parametrizations.weight_norm,
            None: lambda conv: conv,
        }[config.get("weight_norm")]
        self.gated = config.get("activation") == "glu"
        self.activation = {
            "relu": F.relu,
            "tanh": torch.tanh,
            "gelu": F.gelu,
            "glu": lambda x: F.glu(x, dim=1),
        }[config.get("activation", "relu")]
        total = (config["kernel"] - 1) * dilation
        self.pad = (total, 0) if config.get("causal", True) else (total // 2, total - total // 2)
        self.padding = {"zeros": "constant"}.get(config.get("padding", "zeros"), config.get("padding"))
        made = channels * (2 if self.gated else 1)

        def conv(inputs):
            return normed(nn.Conv1d(inputs, made, config["kernel"], dilation=dilation))

        self.conv1, self.conv2 = conv(inputs), conv(channels)
        norm = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}.get(config.get("norm"))
        self.norm1, self.norm2 = (norm(made), norm(made)) if norm else (None, None)
        # Their code has these modules twice in a state dict.
        self.net = nn.Sequential(self.conv1, nn.Identity(), nn.ReLU(), nn.Dropout(0.0), self.conv2)
        self.downsample = nn.Conv1d(inputs, channels, 1) if inputs != channels else None

    def forward(self, x):
        h = x
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            h = conv(F.pad(h, self.pad, self.padding))
            if isinstance(norm, nn.LayerNorm):
                h = norm(h.transpose(1, 2)).transpose(1, 2)
            elif norm is not None:
                h = norm(h)
            h = self.activation(h)
        h = h + (x if self.downsample is None else self.downsample(x))
        return h if self.gated else self.activation(h)


class Tcn(nn.Module):
    """What their code calls `TemporalConvNet`, of `[batch, channels, time]`."""

    def __init__(self, config):
        super().__init__()
        channels = [config["inputs"]] + config["channels"]
        self.network = nn.Sequential(
            *(TcnLevel(config, channels[i], channels[i + 1], 2**i) for i in range(len(channels) - 1))
        )

    def forward(self, x):
        return self.network(x)


def tcn_cases(dtype):
    draw, cases = Draw(13, dtype), OpCases()
    for config in TCNS:
        model = Tcn(config).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(draw.normal(*parameter.shape, scale=0.5))
            running = {name: buffer for name, buffer in model.named_buffers() if "running" in name}
            for buffer in running.values():
                buffer.copy_(draw.normal(*buffer.shape).abs())
        before = {name: buffer.clone() for name, buffer in running.items()}
        x = leaf(draw.normal(config["batch"], config["time"], config["inputs"]))
        y = model(x.transpose(1, 2)).transpose(1, 2)
        dy = draw.normal(*y.shape)
        y.backward(dy)
        tensors = {"x": x, "dx": x.grad, "y": y, "dy": dy}
        for name, parameter in model.named_parameters():
            tensors[name], tensors[f"d{name}"] = parameter, parameter.grad
        if running:
            tensors |= before | {f"after.{name}": buffer for name, buffer in running.items()}
            tensors["evaluated"] = model.eval()(x.transpose(1, 2)).transpose(1, 2)
        cases.add(config, **tensors)
    return cases.configs, cases.tensors


def check_state_dict(folder):
    """A state dict that the crate wrote, loaded by PyTorch, gives the outputs that the crate computed."""
    with safe_open(folder / "outputs.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        x, expected = file.get_tensor("x"), file.get_tensor("y")
    for style in ["hooks", "parametrizations"]:
        model = nn.ModuleDict({"tcn": Tcn(config | {"weight_norm": style})})
        missing, unexpected = load_model(model, folder / "state_dict.safetensors")
        assert not missing and not unexpected, (missing, unexpected)
        y = model["tcn"](x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        print(f"{folder}: {style}: outputs differ by at most {(y - expected).abs().max().item():.1e}")


# Sentences


class TextCnn(nn.Module):
    """Kim's network (2014) for sentences padded with word 0, of which `lengths` says how long they are."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        words, dimensions, classes, filters = (config[key] for key in ["words", "dimensions", "classes", "filters"])
        tables = {"random": ["trained"], "non-static": ["trained"], "static": ["static"], "multichannel": ["static", "trained"]}
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(words, dimensions, padding_idx=0) for name in tables[config["channels"]]}
        )
        if "static" in self.tables:
            self.tables["static"].weight.requires_grad_(False)
        inputs = dimensions * len(self.tables)
        self.convs = nn.ModuleList(
            nn.Conv1d(inputs, filters, width, padding=width - 1 if config["wide"] else 0) for width in config["widths"]
        )
        self.linear = nn.Linear(filters * len(self.convs), classes)

    def forward(self, ids, lengths, dropout):
        x = torch.cat([table(ids) for table in self.tables.values()], dim=-1).transpose(1, 2)
        pooled = []
        for conv, width in zip(self.convs, self.config["widths"]):
            features = torch.relu(conv(x))
            # The windows that see a word of the sentence, or nothing but words of it.
            count = torch.where(lengths > 0, lengths + width - 1, 0) if self.config["wide"] else lengths - width + 1
            hidden = torch.arange(features.shape[-1])[None, :] >= count[:, None]
            maxima = features.masked_fill(hidden[:, None, :], -torch.inf).amax(dim=-1)
            pooled.append(torch.where(count[:, None] > 0, maxima, 0.0))
        return self.linear(torch.cat(pooled, dim=-1) * (1 - dropout))

    def named(self, of):
        """By the crate's names, in its layout; `of` says what of each parameter."""
        tensors = {{"trained": "embedding.weight", "static": "static.weight"}[name]: of(table.weight) for name, table in self.tables.items()}
        for i, conv in enumerate(self.convs):
            tensors[f"convs.{i}.weight"] = conv_weight_to_crate(of(conv.weight))
            tensors[f"convs.{i}.bias"] = of(conv.bias)
        return tensors | {"linear.weight": of(self.linear.weight).T, "linear.bias": of(self.linear.bias)}


def text_cnn_cases(dtype):
    draw, cases = Draw(1408, dtype), OpCases()
    sizes = {"words": 12, "dimensions": 5, "classes": 3, "filters": 6, "widths": [2, 3, 5], "steps": 4}
    steps = {"rho": 0.95, "eps": 1e-6, "lr": 1.0, "max_norm": 0.9}
    lengths = torch.tensor([7, 1, 0, 4, 2, 5])
    for channels in ["random", "static", "non-static", "multichannel"]:
        for wide in [True, False] if channels in ["random", "multichannel"] else [True]:
            config = {"channels": channels, "wide": wide} | sizes | steps
            model = TextCnn(config).to(dtype)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(draw.normal(*parameter.shape, scale=0.5))
                for table in model.tables.values():
                    table.weight[0] = 0.0
                # One class' weights are short enough and two are too long.
                model.linear.weight[0] *= 0.2
            time = int(lengths.max())
            ids = draw.ids(sizes["words"] - 1, len(lengths), time) + 1
            ids = ids.masked_fill(torch.arange(time)[None, :] >= lengths[:, None], 0)
            target = draw.ids(sizes["classes"], len(lengths))
            tensors = {"ids": ids, "lengths": lengths, "target": target}
            tensors |= {f"param.{name}": t.detach().clone() for name, t in model.named(lambda p: p).items()}
            tensors["half"] = model(ids, lengths, 0.5)
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.Adadelta(trained, lr=steps["lr"], rho=steps["rho"], eps=steps["eps"])
            losses = []
            for step in range(sizes["steps"]):
                optimizer.zero_grad()
                logits = model(ids, lengths, 0.0)
                loss = F.cross_entropy(logits, target)
                loss.backward()
                losses.append(loss.detach())
                if step == 0:
                    gradient = lambda p: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                    named = model.named(gradient)
                    tensors["logits"] = logits
                    tensors |= {f"grad.{name}": t for name, t in named.items() if name != "static.weight"}
                optimizer.step()
                with torch.no_grad():
                    weight = model.linear.weight
                    before = weight.norm(dim=1)
                    weight.copy_(torch.renorm(weight, p=2, dim=0, maxnorm=steps["max_norm"]))
                    if step == 0:
                        assert (before > steps["max_norm"]).sum() == 2, before
            tensors["losses"] = torch.stack(losses)
            tensors |= {f"after.{name}": t.detach().clone() for name, t in model.named(lambda p: p).items()}
            cases.add(config, **tensors)
    return cases.configs, cases.tensors


# Files


def stored(tensor):
    """As it goes into a file: float32 or int32, at least one dimension."""
    tensor = torch.atleast_1d(tensor.detach())
    array = tensor.numpy().astype(np.float32 if tensor.is_floating_point() else np.int32)
    assert np.isfinite(array).all()
    return np.ascontiguousarray(array)


def distance(exact, single):
    """The largest |float32 - float64|, each tensor's relative to its own largest magnitude (at least 1e-3)."""
    worst = (0.0, "-")
    for name, tensor in exact.items():
        if tensor.is_floating_point():
            difference = (tensor.detach() - single[name].detach().double()).abs().max().item()
            worst = max(worst, (difference / max(tensor.abs().max().item(), 1e-3), name))
    return worst


def write(name, case):
    config, tensors = case(torch.float64)
    _, single = case(torch.float32)
    path = FOLDER / f"{name}.safetensors"
    arrays = {key: stored(tensor) for key, tensor in tensors.items()}
    save_file(arrays, path, metadata={"config": json.dumps(config)})
    worst, where = distance(tensors, single)
    print(f"{path.name}: {path.stat().st_size} bytes, float32 differs by at most {worst:.1e} (in {where})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="files to write; all of them, if none is named")
    parser.add_argument("--check", type=Path, help="instead: a folder that the crate's tests wrote a state dict to")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*weight_norm.*is deprecated")
    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    check_published_sizes()
    if args.check:
        return check_state_dict(args.check)
    check_recurrent_definition()
    files = {
        "conv1d": conv_cases,
        "ops": op_cases,
        "pool": pool_cases,
        "optim": optim_cases,
        "optim_adaptive": adaptive_optim_cases,
        "recurrent": recurrent_cases,
        "tcn": tcn_cases,
        "text_cnn": text_cnn_cases,
    }
    for name, config in WAVENETS.items():
        files[name] = lambda dtype, config=config: wavenet_case(config, dtype)
    for name in args.names or files:
        write(name, files[name])


if __name__ == "__main__":
    main()
