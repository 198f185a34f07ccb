"""Training steps: the model, its precision, clipping and Adam, eager, compiled or captured."""

import torch
from torch import nn

from layers import LAYOUTS, copy_parameters
from measure import Variant, check, check_count, measure, peak_bytes, reset_peak, set_precision, variants
from models import MODELS

BATCHES = 4
RECURRENT_DROPOUT = 0.2


def variants_of(kind, device):
    every = variants({"conv1d": ""} if kind in ("gru", "lstm") else LAYOUTS, device)
    if kind in ("gru", "conv_gru"):
        # Not compiled: that unrolls the loop, and takes longer than many a training.
        modes = ["eager", "cuda graphs"] if device.type == "cuda" else ["eager"]
        every += variants({"cell loop": "cell loop, recurrent dropout"}, device, modes)
    return every


def build(kind, size, layout, dropout):
    """The model in a layout. Dropout is off where losses are compared."""
    if not dropout and "dropout" in size:
        size = {**size, "dropout": 0.0}
    if layout == "cell loop":
        return MODELS[kind](size, recurrent_dropout=RECURRENT_DROPOUT if dropout else 0.0)
    return MODELS[kind](size, layout)


class Trainer:
    """Steps of one variant, beginning at the weights of `start`."""

    def __init__(self, kind, size, variant, start, batches, dropout, device):
        self.size, self.variant, self.device = size, variant, device
        model = build(kind, size, variant.layout, dropout)
        check_count(model, size)
        copy_parameters(start, model)
        if variant.layout == "conv2d":
            model = model.to(memory_format=torch.channels_last)
        self.model = model.to(device, torch.float32 if variant.is_half else variant.dtype)
        self.batches = batches
        self.scaler = torch.amp.GradScaler(device.type) if variant.precision == "f16" else None
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=size["lr"], betas=(0.9, 0.999), eps=1e-8, fused=True, capturable=variant.captured
        )
        self.loss = self.model
        if variant.compiled:
            mode = "reduce-overhead" if "reduce-overhead" in variant.mode else None
            self.loss = torch.compile(self.model, mode=mode)
        self.next = 0
        reset_peak(device)
        if variant.captured:
            self.capture()

    def step_on(self, batch):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.variant.dtype, enabled=self.variant.is_half):
            loss = self.loss(*batch)
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        if "clip" in self.size:
            if self.scaler:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.size["clip"])
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        return loss.detach()

    def capture(self):
        """Records a step into a CUDA graph, as PyTorch's notes on whole-network capture do it."""
        self.static = [tensor.clone() for tensor in self.batches[0]]
        saved = [parameter.detach().clone() for parameter in self.model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step_on(self.static)
        torch.cuda.current_stream().wait_stream(stream)
        scale = self.scaler.state_dict() if self.scaler else None
        reset_peak(self.device)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.static_loss = self.step_on(self.static)
        # Back to where training begins; in place, since the graph holds these tensors.
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), saved):
                parameter.copy_(value)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
        if self.scaler:
            self.scaler.load_state_dict(scale)

    def step(self):
        """A step on the next of the batches; its loss, which the following step may overwrite."""
        batch = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        if not self.variant.captured:
            return self.step_on(batch)
        for static, tensor in zip(self.static, batch):
            static.copy_(tensor)
        self.graph.replay()
        return self.static_loss

    def first_losses(self):
        return [float(self.step()) for _ in self.batches]


class Workload:
    """A model with its data; `measured` checks and times a variant of it."""

    def __init__(self, kind, size, device):
        self.kind, self.size, self.device = kind, size, device
        torch.manual_seed(1)
        self.start = build(kind, size, "conv1d", False)
        self.batches = [[t.to(device) for t in MODELS[kind].make_batch(size)] for _ in range(BATCHES)]
        self.reference = None

    def reference_losses(self):
        """The first losses in float64, eager, with nn.Conv1d and nn.GRU."""
        if self.reference is None:
            set_precision("f32")
            variant = Variant("conv1d", "eager", "f64", "reference")
            batches = [[t.double() if t.is_floating_point() else t for t in batch] for batch in self.batches]
            arguments = (self.kind, self.size, variant, self.start, batches)
            self.reference = Trainer(*arguments, False, self.device).first_losses()
        return self.reference

    def measured(self, name, variant, runs, seconds):
        expected = self.reference_losses()
        set_precision(variant.precision)
        arguments = (self.kind, self.size, variant, self.start, self.batches)
        trainer = Trainer(*arguments, False, self.device)
        losses = trainer.first_losses()
        deviation = max(abs(a - b) / abs(b) for a, b in zip(losses, expected))
        what = f"losses of the first {BATCHES} steps, dropout off, with those of eager float64"
        checked = check(what, deviation, variant.precision)
        if "dropout" in self.size or variant.layout == "cell loop":
            trainer = Trainer(*arguments, True, self.device)
            trainer.first_losses()
        if not variant.captured:
            reset_peak(self.device)
        fields = measure(trainer.step, self.device, runs, seconds)
        return {"checked": checked, **fields, "peak_bytes": peak_bytes(self.device)}
