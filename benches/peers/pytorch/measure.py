"""What every workload is timed with, and what a row says."""

import math
import statistics
import time
from dataclasses import dataclass

import torch

# A run is at least this long, so that the clock and the waits around a run do not count.
RUN_SECONDS = 0.03
# Half types, and TF32, keep 8 to 11 bits; a first loss may differ by this much of its value, and so may an output of
# its largest one. PyTorch's f32 is allowed the noise of Adam's first steps, which hardly look at a gradient's size.
TOLERANCES = {"f32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "f16": 2e-2}
DTYPES = {
    "f64": torch.float64,  # the references'
    "f32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
}


class Wrong(Exception):
    """The variant does not compute what it should, or is another model."""


@dataclass(frozen=True)
class Variant:
    """One way to write and run a workload."""

    layout: str  # a key of layers.CONVOLUTIONS, or what the kind says
    mode: str  # "eager", "compile", "compile reduce-overhead", "cuda graphs", "compile, cuda graphs"
    precision: str
    name: str

    @property
    def compiled(self):
        return self.mode.startswith("compile")

    @property
    def captured(self):
        return self.mode.endswith("cuda graphs")

    @property
    def dtype(self):
        return DTYPES[self.precision]

    @property
    def is_half(self):
        return self.precision in ("bf16", "f16")


def variants(layouts, device, modes=None):
    """All combinations of `layouts` (the name put before a mode, by layout), what compiles last: it takes minutes."""
    cuda = device.type == "cuda"
    if modes is None:
        modes = ["eager", "compile"]
        if cuda:
            # The fastest of those that compile first, should the time run out.
            modes = ["eager", "cuda graphs", "compile, cuda graphs", "compile", "compile reduce-overhead"]
    precisions = ["f32", "tf32", "bf16", "f16"] if cuda else ["f32", "bf16"]
    every = [
        Variant(layout, mode, precision, ", ".join(part for part in (prefix, mode) if part))
        for mode in modes
        for precision in precisions
        for layout, prefix in layouts.items()
    ]
    return sorted(every, key=lambda variant: variant.compiled)


def set_precision(precision):
    """What f32 products may be rounded to; the half types are for autocast or casts."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def reset_peak(device):
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device):
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None


def check_count(model, size):
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != size["parameters"]:
        raise Wrong(f"the model has {count} parameters, the workload {size['parameters']}")


def check(what, deviation, precision):
    text = f"{what}: largest relative deviation {deviation:.1e}"
    if not deviation <= TOLERANCES[precision]:  # NaN is not within it either
        raise Wrong(text)
    return text


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(call, device, runs, seconds, units=1):
    """Times `call`, which does `units` units of work; gives the fields of a row, in ms a unit.

    A run is several calls in a row with a wait only at its end, as a training loop runs. No more than about `seconds`
    are spent, but at least three runs are done.
    """

    def run(calls):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        return time.perf_counter() - started

    run(3)
    one = run(3) / 3
    calls = max(1, math.ceil(RUN_SECONDS / one))
    runs = max(3, min(runs, int(seconds / (one * calls))))
    walls, devices = [], []
    for _ in range(runs):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            walls.append(run(calls) * 1e3 / calls / units)
            end.record()
            end.synchronize()
            devices.append(start.elapsed_time(end) / calls / units)
        else:
            walls.append(run(calls) * 1e3 / calls / units)
    return {
        "runs": runs,
        "calls_per_run": calls,
        "ms": spread(walls),
        "device_ms": spread(devices) if devices else None,
    }
