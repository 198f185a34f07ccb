"""Generation with WaveNet: the cached queues of its layers, a class drawn on the device at each time step."""

import torch
from torch import nn

from layers import copy_parameters
from measure import check, check_count, measure, peak_bytes, reset_peak, set_precision, variants
from models import CLASSES, WaveNet

# Beyond the longest dilation of the sizes, so that every ring has come round.
CHECKED_STEPS = 1100


def variants_of(kind, device):
    return variants({"matmul": ""}, device)


class Generator(nn.Module):
    """One time step of `batch` streams a call. Layer i keeps its inputs of the last `dilation` steps in a ring."""

    def __init__(self, net, batch, dtype):
        super().__init__()
        self.net = net
        residual = net.bias.shape[0]
        for i, dilation in enumerate(net.dilations):
            self.register_buffer(f"ring{i}", torch.zeros(dilation, batch, residual, dtype=dtype))
        self.register_buffer("dilations", torch.tensor(net.dilations))
        self.register_buffer("time", torch.zeros((), dtype=torch.long))
        self.register_buffer("before", torch.zeros(batch, residual, dtype=dtype))
        self.register_buffer("x", torch.full((batch,), CLASSES // 2))

    def restart(self):
        for buffer in (self.time, self.before, *(getattr(self, f"ring{i}") for i in range(len(self.net.dilations)))):
            buffer.zero_()
        self.x.fill_(CLASSES // 2)

    def logits(self, x):
        """The logits after the classes `x`; `before` is what they add to the next step."""
        net = self.net
        slots = (self.time % self.dilations).unsqueeze(1)
        h = net.current(x) + self.before + net.bias
        self.before.copy_(net.past(x))
        gated = []
        for i, dilated in enumerate(net.dilated):
            ring = getattr(self, f"ring{i}")
            past = ring.index_select(0, slots[i])[0]
            ring.index_copy_(0, slots[i], h.unsqueeze(0))
            a, b = nn.functional.linear(torch.cat([past, h], 1), dilated.weight, dilated.bias).chunk(2, 1)
            z = a.tanh() * b.sigmoid()
            gated.append(z)
            if i < len(net.residuals):
                h = h + net.residuals[i](z)
        self.time.add_(1)
        h = net.head[0](net.all_skips(torch.cat(gated, 1)).relu())
        return net.head[1](h.relu())

    def forward(self):
        probabilities = self.logits(self.x).float().softmax(1)
        # Dividing by exponential noise and taking the largest draws from the distribution.
        self.x.copy_((probabilities / torch.empty_like(probabilities).exponential_(1)).argmax(1))


class Workload:
    def __init__(self, kind, size, device):
        self.size, self.device = size, device
        torch.manual_seed(1)
        self.start = WaveNet(size, "conv1d")
        self.classes = torch.randint(CLASSES, (size["batch"], CHECKED_STEPS)).to(device)
        self.expected = None

    def expected_logits(self):
        """Those of the network over the whole sequence, in float64."""
        if self.expected is None:
            set_precision("f32")
            net = WaveNet(self.size, "conv1d")
            copy_parameters(self.start, net)
            self.expected = net.to(self.device, torch.float64).logits(self.classes)
        return self.expected

    @torch.no_grad()
    def measured(self, name, variant, runs, seconds):
        expected = self.expected_logits()
        set_precision(variant.precision)
        net = WaveNet(self.size, "matmul")
        check_count(net, self.size)
        copy_parameters(self.start, net)
        generator = Generator(net.to(variant.dtype), self.size["batch"], variant.dtype).to(self.device)
        static = self.classes[:, 0].clone()
        mode = "reduce-overhead" if "reduce-overhead" in variant.mode else None
        logits, step = (lambda: generator.logits(static)), generator
        if variant.compiled:
            logits, step = torch.compile(logits, mode=mode), torch.compile(generator, mode=mode)
        if variant.captured:
            logits, step = self.captured(logits), self.captured(step)
        deviation = 0.0
        generator.restart()
        largest = expected.abs().max()
        for t in range(CHECKED_STEPS):
            static.copy_(self.classes[:, t])
            error = (logits().double() - expected[:, :, t]).abs().max() / largest
            deviation = torch.maximum(error, torch.as_tensor(deviation, device=self.device))
        what = f"logits of {CHECKED_STEPS} given classes with those of the whole network in float64"
        checked = check(what, float(deviation), variant.precision)
        generator.restart()
        step()
        if not variant.captured:
            reset_peak(self.device)
        steps = self.size["steps"]

        def sequence():
            for _ in range(steps):
                step()

        # A sequence is as long as a run may be: its time is that of all its steps.
        fields = measure(sequence, self.device, runs, seconds, units=steps)
        return {"checked": checked, **fields, "peak_bytes": peak_bytes(self.device)}

    def captured(self, call):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        reset_peak(self.device)
        with torch.cuda.graph(graph):
            result = call()

        def replay():
            graph.replay()
            return result

        return replay
