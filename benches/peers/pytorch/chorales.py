"""The polyphonic music of Bai, Kolter and Koltun (2018) as their script trains it: what `examples/tcn music` is compared with.

    venv/bin/python benches/peers/pytorch/chorales.py --data FILE.npz

The network, its initialisation, the loss (summed over the frames of a tune), the optimizer and the annealing are the reference code's;
so is that gradients are not clipped. Prints a line an epoch: losses in nats a frame.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Level(nn.Module):
    def __init__(self, inputs, channels, kernel, dilation, dropout):
        super().__init__()
        self.pad = (kernel - 1) * dilation
        self.conv1 = weight_norm(nn.Conv1d(inputs, channels, kernel, padding=self.pad, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(channels, channels, kernel, padding=self.pad, dilation=dilation))
        self.dropout = nn.Dropout(dropout)
        self.downsample = nn.Conv1d(inputs, channels, 1) if inputs != channels else None
        if self.downsample is not None:
            self.downsample.weight.data.normal_(0, 0.01)

    def forward(self, x):
        h = self.dropout(torch.relu(self.conv1(x)[:, :, : -self.pad]))
        h = self.dropout(torch.relu(self.conv2(h)[:, :, : -self.pad]))
        return torch.relu(h + (x if self.downsample is None else self.downsample(x)))


class Network(nn.Module):
    def __init__(self, keys, args):
        super().__init__()
        widths = [keys] + [args.hidden] * args.levels
        self.tcn = nn.Sequential(
            *(Level(widths[i], widths[i + 1], args.kernel, 2**i, args.dropout) for i in range(args.levels))
        )
        self.linear = nn.Linear(args.hidden, keys)

    def forward(self, frames):
        return self.linear(self.tcn(frames.t()[None])[0].t())


def tunes(file, part):
    rolls, offsets = file[part], file[part + "_offsets"]
    return [torch.from_numpy(rolls[first:end]).float() for first, end in zip(offsets, offsets[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--levels", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=150)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1111)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    order = np.random.default_rng(args.seed)
    file = np.load(args.data)
    train, valid, test = (tunes(file, part) for part in ("train", "valid", "test"))
    network = Network(train[0].shape[1], args)
    optimizer = torch.optim.Adam(network.parameters(), lr=args.learning_rate)
    loss_of = nn.BCEWithLogitsLoss(reduction="sum")
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters")

    def evaluate(part):
        network.eval()
        with torch.no_grad():
            losses = sum(loss_of(network(tune[:-1]), tune[1:]).item() for tune in part)
        return losses / sum(len(tune) - 1 for tune in part)

    validations = []
    for epoch in range(1, args.epochs + 1):
        network.train()
        total = 0.0
        for index in order.permutation(len(train)):
            tune = train[index]
            optimizer.zero_grad()
            loss = loss_of(network(tune[:-1]), tune[1:])
            loss.backward()
            optimizer.step()
            total += loss.item()
        of_valid, of_test = evaluate(valid), evaluate(test)
        total /= sum(len(tune) - 1 for tune in train)
        print(f"epoch {epoch}: training {total:.4f}, validation {of_valid:.4f}, test {of_test:.4f}", flush=True)
        if epoch > 10 and of_valid > max(validations[-3:]):
            for group in optimizer.param_groups:
                group["lr"] /= 10
        validations.append(of_valid)


if __name__ == "__main__":
    main()
