"""The layers that the models share, in the three ways that PyTorch's users write a convolution over time.

`Conv1d` is nn.Conv1d on [batch, channels, time]. `ImageConv1d` is nn.Conv2d on images one high whose channels are
contiguous in memory. `MatmulConv1d` lays the rows of its taps side by side and multiplies once, on [batch, time,
channels]. Which one is fastest differs from device to device. They have the same parameters.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Conv1d(nn.Conv1d):
    """Convolution of [batch, channels, time]; causal: zeros on the left, the length stays."""

    channels, time = 1, 2

    def __init__(self, c_in, c_out, kernel=1, dilation=1, causal=False):
        super().__init__(c_in, c_out, kernel, dilation=dilation)
        self.left = (kernel - 1) * dilation if causal else 0

    def forward(self, x):
        return super().forward(F.pad(x, (self.left, 0)) if self.left else x)

    @staticmethod
    def arranged(x):
        """From [batch, time, channels] to what the convolution takes."""
        return x.transpose(1, 2)

    @staticmethod
    def over_time(x):
        """Back to [batch, time, channels]."""
        return x.transpose(1, 2)

    @staticmethod
    def max_pool(x, size):
        return F.max_pool1d(x, size)


class ImageConv1d(nn.Conv2d):
    """The same of [batch, channels, 1, time], as channels-last images."""

    channels, time = 1, 3

    def __init__(self, c_in, c_out, kernel=1, dilation=1, causal=False):
        super().__init__(c_in, c_out, (1, kernel), dilation=(1, dilation))
        self.left = (kernel - 1) * dilation if causal else 0

    def forward(self, x):
        return super().forward(F.pad(x, (self.left, 0)) if self.left else x)

    @staticmethod
    def arranged(x):
        # The strides of channels-last already: nothing is copied.
        return x.transpose(1, 2).unsqueeze(2)

    @staticmethod
    def over_time(x):
        return x.squeeze(2).transpose(1, 2)

    @staticmethod
    def max_pool(x, size):
        return F.max_pool2d(x, (1, size))


class MatmulConv1d(nn.Module):
    """The same of [batch, time, channels]."""

    channels, time = 2, 1

    def __init__(self, c_in, c_out, kernel=1, dilation=1, causal=False):
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.left = (kernel - 1) * dilation if causal else 0
        bound = (c_in * kernel) ** -0.5
        self.weight = nn.Parameter(torch.empty(c_out, kernel * c_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(c_out).uniform_(-bound, bound))

    def forward(self, x):
        if self.left:
            x = F.pad(x, (0, 0, self.left, 0))
        if self.kernel > 1:
            length = x.shape[1] - (self.kernel - 1) * self.dilation
            x = torch.cat([x[:, i * self.dilation :][:, :length] for i in range(self.kernel)], -1)
        return F.linear(x, self.weight, self.bias)

    @staticmethod
    def arranged(x):
        return x

    @staticmethod
    def over_time(x):
        return x

    @staticmethod
    def max_pool(x, size):
        # An incomplete window at the end is left out, as max_pool1d does.
        return x[:, : x.shape[1] // size * size].unflatten(1, (-1, size)).amax(2)


CONVOLUTIONS = {"conv1d": Conv1d, "conv2d": ImageConv1d, "matmul": MatmulConv1d}
# What stands before a mode in the name of a variant.
LAYOUTS = {"conv1d": "", "conv2d": "channels-last conv2d", "matmul": "matmul"}


def copy_parameters(source, target):
    """Gives `target` the weights of `source`, a model of nn.Conv1d, whatever its own layout and precision."""
    weights = dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            value = weights[name]
            if value.dim() == 3 and parameter.dim() == 2:  # [out, in, taps] to [out, taps * in]
                value = value.permute(0, 2, 1).reshape(parameter.shape)
            parameter.copy_(value.reshape(parameter.shape))
