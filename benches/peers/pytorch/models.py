"""The models that are trained. Each is made from a size of workloads.json; `forward(*batch)` is its loss.

`make_batch` gives one batch of random data on the CPU, sequences as [batch, time, channels].
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from layers import CONVOLUTIONS, MatmulConv1d

CLASSES = 256


class Model(nn.Module):
    def __init__(self, layout):
        super().__init__()
        self.conv = CONVOLUTIONS[layout]
        self.arranged, self.over_time = self.conv.arranged, self.conv.over_time


class WaveNet(Model):
    def __init__(self, size, layout="conv1d"):
        super().__init__(layout)
        conv, residual, skip = self.conv, size["residual"], size["skip"]
        self.dilations = [2**i for _ in range(size["stacks"]) for i in range(size["layers_per_stack"])]
        last = len(self.dilations) - 1
        self.past = nn.Embedding(CLASSES, residual)
        self.current = nn.Embedding(CLASSES, residual)
        self.bias = nn.Parameter(torch.zeros(residual))
        self.dilated = nn.ModuleList(conv(residual, 2 * residual, 2, d, causal=True) for d in self.dilations)
        self.skips = nn.ModuleList(conv(residual, skip) for _ in self.dilations)
        self.residuals = nn.ModuleList(conv(residual, residual) for _ in range(last))
        self.head = nn.ModuleList([conv(skip, skip), conv(skip, CLASSES)])

    def logits(self, x):
        h = self.current(x) + F.pad(self.past(x[:, :-1]), (0, 0, 1, 0)) + self.bias
        h = self.arranged(h)
        skip, gated = 0, []
        for i, dilated in enumerate(self.dilated):
            a, b = dilated(h).chunk(2, self.conv.channels)
            z = a.tanh() * b.sigmoid()
            if self.conv is MatmulConv1d:
                gated.append(z)
            else:
                skip = skip + self.skips[i](z)
            if i < len(self.residuals):
                h = h + self.residuals[i](z)
        if gated:
            skip = self.all_skips(torch.cat(gated, -1))
        h = self.head[0](skip.relu())
        return self.head[1](h.relu())

    def all_skips(self, gated):
        """The sum of all skip connections as one product: as matrices this is faster than layer by layer."""
        weight = torch.cat([skip.weight for skip in self.skips], 1)
        bias = torch.stack([skip.bias for skip in self.skips]).sum(0)
        return F.linear(gated, weight, bias)

    def forward(self, x, target):
        logits = self.logits(x)
        if self.conv is MatmulConv1d:
            return F.cross_entropy(logits.flatten(0, 1), target.flatten())
        return F.cross_entropy(logits.reshape(*logits.shape[:2], -1), target)

    @staticmethod
    def make_batch(size):
        sequence = torch.randint(CLASSES, (size["batch"], size["time"] + 1))
        return sequence[:, :-1].contiguous(), sequence[:, 1:].contiguous()


class TcnLevel(nn.Module):
    def __init__(self, conv, c_in, c_out, kernel, dilation, dropout):
        super().__init__()
        self.first = weight_norm(conv(c_in, c_out, kernel, dilation, causal=True))
        self.second = weight_norm(conv(c_out, c_out, kernel, dilation, causal=True))
        self.shortcut = conv(c_in, c_out) if c_in != c_out else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        y = self.dropout(self.first(x).relu())
        y = self.dropout(self.second(y).relu())
        return (y + self.shortcut(x)).relu()


class Tcn(Model):
    def __init__(self, size, layout="conv1d"):
        super().__init__(layout)
        widths = [size["in_channels"]] + [size["hidden"]] * size["levels"]
        self.levels = nn.Sequential(
            *(
                TcnLevel(self.conv, c_in, c_out, size["kernel"], 2**i, size["dropout"])
                for i, (c_in, c_out) in enumerate(zip(widths, widths[1:]))
            )
        )


class TcnClassify(Tcn):
    def __init__(self, size, layout="conv1d"):
        super().__init__(size, layout)
        self.out = nn.Linear(size["hidden"], size["classes"])

    def forward(self, x, target):
        h = self.over_time(self.levels(self.arranged(x)))
        return F.cross_entropy(self.out(h[:, -1]), target)

    @staticmethod
    def make_batch(size):
        x = torch.rand(size["batch"], size["time"], size["in_channels"])
        return x, torch.randint(size["classes"], (size["batch"],))


class TcnMusic(Tcn):
    def __init__(self, size, layout="conv1d"):
        super().__init__(size, layout)
        self.out = nn.Linear(size["hidden"], size["out_channels"])

    def forward(self, x, target):
        h = self.over_time(self.levels(self.arranged(x)))
        return F.binary_cross_entropy_with_logits(self.out(h), target)

    @staticmethod
    def make_batch(size):
        notes = (torch.rand(size["batch"], size["time"] + 1, size["in_channels"]) < 0.1).float()
        return notes[:, :-1].contiguous(), notes[:, 1:].contiguous()


class TextCnn(Model):
    def __init__(self, size, layout="conv1d"):
        super().__init__(layout)
        filters, widths = size["filters"], size["widths"]
        self.embedding = nn.Embedding(size["vocab"], size["embed"])
        self.convs = nn.ModuleList(self.conv(size["embed"], filters, width) for width in widths)
        self.dropout = nn.Dropout(size["dropout"])
        self.out = nn.Linear(filters * len(widths), size["classes"])

    def forward(self, x, target):
        h = self.arranged(self.embedding(x))
        features = torch.cat([conv(h).relu().amax(self.conv.time).flatten(1) for conv in self.convs], 1)
        return F.cross_entropy(self.out(self.dropout(features)), target)

    @staticmethod
    def make_batch(size):
        batch = size["batch"]
        return torch.randint(size["vocab"], (batch, size["length"])), torch.randint(size["classes"], (batch,))


class CellLoop(nn.Module):
    """A GRU with recurrent dropout, which nn.GRU does not have: one mask a sequence on the state, a cell a step."""

    def __init__(self, c_in, hidden, dropout):
        super().__init__()
        # The same parameter names as nn.GRU.
        cell = nn.GRUCell(c_in, hidden)
        self.weight_ih_l0, self.weight_hh_l0 = cell.weight_ih, cell.weight_hh
        self.bias_ih_l0, self.bias_hh_l0 = cell.bias_ih, cell.bias_hh
        self.hidden, self.dropout = hidden, dropout

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.hidden)
        mask = F.dropout(torch.ones_like(h), self.dropout, self.training)
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        for step in x.unbind(1):
            h = torch.gru_cell(step, h * mask, *weights)
        return None, h[None]


class Gru(Model):
    def __init__(self, size, layout="conv1d", recurrent_dropout=None):
        super().__init__(layout)
        c_in, hidden = size.get("filters", size["in_features"]), size["hidden"]
        if recurrent_dropout is None:
            self.gru = nn.GRU(c_in, hidden, batch_first=True)
        else:
            self.gru = CellLoop(c_in, hidden, recurrent_dropout)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x, target):
        _, h = self.gru(x)
        return F.l1_loss(self.out(h[0])[:, 0], target)

    @staticmethod
    def make_batch(size):
        return torch.randn(size["batch"], size["time"], size["in_features"]), torch.randn(size["batch"])


class Lstm(Gru):
    def __init__(self, size, layout="conv1d", recurrent_dropout=None):
        super().__init__(size, layout, recurrent_dropout)
        self.gru = nn.LSTM(size["in_features"], size["hidden"], batch_first=True)

    def forward(self, x, target):
        _, (h, _) = self.gru(x)
        return F.l1_loss(self.out(h[0])[:, 0], target)


class ConvGru(Gru):
    def __init__(self, size, layout="conv1d", recurrent_dropout=None):
        super().__init__(size, layout, recurrent_dropout)
        self.first = self.conv(size["in_features"], size["filters"], size["kernel"])
        self.second = self.conv(size["filters"], size["filters"], size["kernel"])
        self.pool = size["pool"]

    def forward(self, x, target):
        h = self.conv.max_pool(self.first(self.arranged(x)).relu(), self.pool)
        h = self.second(h).relu()
        return super().forward(self.over_time(h), target)


MODELS = {
    "wavenet": WaveNet,
    "tcn_classify": TcnClassify,
    "tcn_music": TcnMusic,
    "textcnn": TextCnn,
    "conv_gru": ConvGru,
    "gru": Gru,
    "lstm": Lstm,
}
