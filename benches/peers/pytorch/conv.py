"""The dilated convolution alone: forward, and each of its two gradients."""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv1d_input, conv1d_weight, conv2d_input, conv2d_weight

from layers import LAYOUTS
from measure import Wrong, check, measure, peak_bytes, reset_peak, set_precision, variants

SETS = 4
PASSES = ("forward", "grad_input", "grad_weight")


def variants_of(kind, device):
    modes = ["eager", "cuda graphs"] if device.type == "cuda" else ["eager"]
    return variants(LAYOUTS, device, modes)


class Conv1d:
    """[batch, channels, time], as the workload gives the data."""

    def __init__(self, size, data):
        self.x, self.w, self.b, self.dy = data
        self.taps, self.dilation, self.time = size["kernel"], size["dilation"], size["time"]

    def forward(self):
        return F.conv1d(self.x, self.w, self.b, dilation=self.dilation)

    def grad_input(self):
        return conv1d_input(self.x.shape, self.w, self.dy, dilation=self.dilation)

    def grad_weight(self):
        return conv1d_weight(self.x, self.w.shape, self.dy, dilation=self.dilation)

    @staticmethod
    def as_conv1d(result):
        return result


class Conv2d(Conv1d):
    """The same as a convolution of images one high, channels contiguous: what cuDNN's matrix units like best."""

    def __init__(self, size, data):
        x, w, b, dy = data
        image = lambda t: t.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        super().__init__(size, (image(x), image(w), b, image(dy)))

    def forward(self):
        return F.conv2d(self.x, self.w, self.b, dilation=(1, self.dilation))

    def grad_input(self):
        return conv2d_input(self.x.shape, self.w, self.dy, dilation=(1, self.dilation))

    def grad_weight(self):
        return conv2d_weight(self.x, self.w.shape, self.dy, dilation=(1, self.dilation))

    @staticmethod
    def as_conv1d(result):
        return result.squeeze(2)


class Matmul(Conv1d):
    """[batch, time, channels], a matrix product for each tap on the rows shifted to it."""

    def __init__(self, size, data):
        x, w, b, dy = data
        super().__init__(
            size, (x.transpose(1, 2).contiguous(), w.permute(2, 0, 1).contiguous(), b, dy.transpose(1, 2).contiguous())
        )

    def rows(self, x, tap):
        return x[:, tap * self.dilation :][:, : self.time]

    def forward(self):
        y = F.linear(self.rows(self.x, 0), self.w[0], self.b)
        for tap in range(1, self.taps):
            y += F.linear(self.rows(self.x, tap), self.w[tap])
        return y

    def grad_input(self):
        dx = torch.zeros_like(self.x)
        for tap in range(self.taps):
            self.rows(dx, tap).add_(self.dy @ self.w[tap])
        return dx

    def grad_weight(self):
        dy = self.dy.flatten(0, 1).t()
        return torch.stack([dy @ self.rows(self.x, tap).flatten(0, 1) for tap in range(self.taps)])

    @staticmethod
    def as_conv1d(result):
        return result.permute(1, 2, 0) if result.dim() == 3 else result


class Workload:
    def __init__(self, kind, size, device):
        self.kind, self.size, self.device = kind, size, device

    def data(self):
        size = self.size
        c_in, c_out, taps, batch = size["in_channels"], size["out_channels"], size["kernel"], size["batch"]
        padded = size["time"] + (taps - 1) * size["dilation"]
        x, dy = torch.randn(batch, c_in, padded), torch.randn(batch, c_out, size["time"])
        return x, torch.randn(c_out, c_in, taps) * (c_in * taps) ** -0.5, torch.randn(c_out), dy

    def measured(self, name, variant, runs, seconds):
        parts = [part for part in PASSES if name.startswith(f"conv_{part}")]
        if len(parts) != 1:
            raise Wrong(f"the name {name} says none of {PASSES}")
        part = parts[0]
        torch.manual_seed(1)
        sets = [self.data() for _ in range(SETS)]
        count = sets[0][1].numel() + sets[0][2].numel()
        if count != self.size["parameters"]:
            raise Wrong(f"weights and biases are {count}, the workload says {self.size['parameters']}")
        set_precision("f32")
        form = {"conv1d": Conv1d, "conv2d": Conv2d, "matmul": Matmul}[variant.layout]
        deviation, calls = 0.0, []
        for data in sets:
            exact = Conv1d(self.size, [t.to(self.device, torch.float64) for t in data])
            rounded = form(self.size, [t.to(self.device, variant.dtype) for t in data])
            expected = getattr(exact, part)()
            set_precision(variant.precision)
            result = getattr(rounded, part)()
            set_precision("f32")
            if variant.layout == "matmul" and part != "grad_weight":
                result = result.transpose(1, 2)
            else:
                result = form.as_conv1d(result)
            error = (result.double() - expected).abs().max() / expected.abs().max()
            deviation = max(deviation, float(error))
            calls.append(getattr(rounded, part))
        checked = check(f"all of the {part} of {SETS} data sets with float64's", deviation, variant.precision)
        set_precision(variant.precision)
        return {"checked": checked, **self.timed(variant, calls, runs, seconds)}

    def timed(self, variant, calls, runs, seconds):
        def all_sets():
            for call in calls:
                call()

        call = all_sets
        if variant.captured:
            all_sets()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            reset_peak(self.device)
            with torch.cuda.graph(graph):
                all_sets()
            call = graph.replay
        else:
            reset_peak(self.device)
        fields = measure(call, self.device, runs, seconds, units=SETS)
        return {**fields, "peak_bytes": peak_bytes(self.device)}
