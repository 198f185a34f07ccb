"""The workloads of benches/workloads.json in PyTorch, as its users write them: checked, timed, written as JSON."""

import argparse
import datetime
import gc
import json
import os
import platform
import sys
import time
import warnings

import torch

import conv
import generate
import training
from models import MODELS

KINDS = {"conv": conv, "wavenet_generate": generate, **{kind: training for kind in MODELS}}


def arguments():
    parser = argparse.ArgumentParser(prog="pytorch", description=__doc__)
    parser.add_argument("--workloads", default="benches/workloads.json", metavar="FILE")
    parser.add_argument("--json", metavar="FILE", help="where the results go; written after every row")
    parser.add_argument("--size", default=None, help="small or full, or the name of one size [full on a GPU, else small]")
    parser.add_argument("--only", default="", metavar="NAMES", help="workloads whose name begins so; several with commas")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--variants", default="", metavar="NAMES", help="exact names of variants, separated by ';'")
    parser.add_argument("--precisions", default="", metavar="NAMES", help="of f32,tf32,bf16,f16")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10, help="the most that the runs of a row may take")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="begin no more rows of a workload after this")
    parser.add_argument("--total", type=float, metavar="SECONDS", help="the same for all workloads, shared out evenly")
    parser.add_argument("--threads", type=int, help="of the CPU [as many as there are cores]")
    parser.add_argument("--list", action="store_true", help="name the rows, run nothing")
    return parser.parse_args()


def machine(device):
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" and torch.cuda.is_available() else None,
    }


def chosen(args, workloads, device):
    """Every workload, size and variant asked for."""
    wanted = args.size or ("full" if device.type == "cuda" else "small")
    for name, workload in workloads.items():
        if args.only and not any(name.startswith(part) for part in args.only.split(",")):
            continue
        if workload["kind"] not in KINDS:
            print(f"{name}: the kind {workload['kind']} is not written in PyTorch yet", file=sys.stderr)
            continue
        for size in workload["sizes"]:
            if size != wanted and not size.startswith(wanted + "_"):
                continue
            every = KINDS[workload["kind"]].variants_of(workload["kind"], device)
            if args.variants:
                every = [v for v in every if v.name in args.variants.split(";")]
            if args.precisions:
                every = [v for v in every if v.precision in args.precisions.split(",")]
            yield name, workload, size, every


def release(device):
    """What the row before left behind, so that it neither takes memory nor is compiled into the next."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def first_line(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"


def main():
    args = arguments()
    with open(args.workloads) as file:
        workloads = json.load(file)["workloads"]
    device = torch.device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    warnings.filterwarnings("ignore", message=".*TF32|.*TensorFloat32|.*tf32")
    report = {
        "program": f"pytorch {torch.__version__}",
        "machine": machine(device),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rows": [],
    }
    began = time.monotonic()
    every_size = list(chosen(args, workloads, device))
    for position, (name, workload, size_name, every) in enumerate(every_size):
        size = workload["sizes"][size_name]
        if args.list:
            for variant in every:
                print(f"{name} {size_name} {variant.precision} {variant.name}")
            continue
        limits = [args.limit] if args.limit else []
        if args.total:
            limits.append((args.total - (time.monotonic() - began)) / (len(every_size) - position))
        deadline = time.monotonic() + min(limits, default=float("inf"))
        made = KINDS[workload["kind"]].Workload(workload["kind"], size, device)
        for variant in every:
            row = {
                "workload": name,
                "size": size_name,
                "device": report["machine"]["gpu"] or "cpu",
                "variant": variant.name,
                "precision": variant.precision,
                **{key: size[key] for key in ("parameters", "samples", "flops")},
                "error": None,
            }
            now = time.monotonic()
            if now > deadline:
                row["error"] = "not run: the time allowed was used up"
            else:
                try:
                    row.update(made.measured(name, variant, args.runs, args.seconds))
                except Exception as error:  # a variant that fails, for want of memory say, is a row that says so
                    row["error"] = first_line(error)
                row["seconds"] = round(time.monotonic() - now, 1)
                release(device)
            report["rows"].append(row)
            show(row)
            if args.json:
                write(args.json, report)
    if not args.list and not report["rows"]:
        sys.exit("error: no workload of that name and size, or no such variant; --list names them")
    if not args.json and not args.list:
        json.dump(report, sys.stdout, indent=1)


def show(row):
    result = row["error"] or f"{row['ms']['median']:9.3f} ms  ({row['ms']['min']:.3f} to {row['ms']['max']:.3f})"
    print(f"{row['workload']} {row['size']} {row['precision']} {row['variant']}: {result}", file=sys.stderr, flush=True)


def write(path, report):
    """All or nothing, so that a stop in the middle leaves the rows before."""
    partial = path + ".partial"
    with open(partial, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
