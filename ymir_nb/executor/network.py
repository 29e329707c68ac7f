"""The detector: a residual backbone, a feature pyramid down to stride 4, one centre heatmap a class."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

STRIDE = 4
"""Input pixels a cell of the output."""
BOX_UNIT_PX = 16.0
WIDTHS = (16, 32, 64, 128, 192)
PYRAMID_WIDTH = 48
HEAD_WIDTH = 48
PRIOR_LOGIT = -4.6
"""Start of the heatmap: every cell says one per cent, as nearly all of them are background."""


class Unit(nn.Module):
    """Convolution, batch norm and, unless told otherwise, ReLU."""

    def __init__(self, n_in: int, n_out: int, *, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(n_out)
        self.active = active

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        y = self.norm(self.conv(x))
        return functional.relu(y, inplace=True) if self.active else y

    def fuse(self) -> None:
        """Fold the batch norm into the convolution: the same function in one step, for inference."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = nn.utils.fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Stage(nn.Module):
    """Halve the resolution, then one residual block."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.down = Unit(n_in, n_out, stride=2)
        self.first = Unit(n_out, n_out)
        self.second = Unit(n_out, n_out, active=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        x = self.down(x)
        return functional.relu(x + self.second(self.first(x)), inplace=True)


class Detector(nn.Module):
    """Anchor-free detector with 1.4 million parameters.

    Parameters
    ----------
    n_classes : int
        Number of heatmaps.

    Notes
    -----
    `forward` maps (n, 3, height, width) to heatmap logits (n, n_classes, height / 4, width / 4) and
    distances (n, 4, height / 4, width / 4): left, top, right and bottom edge from the cell's centre, in
    input pixels.

    Source: the form follows X. Zhou et al., Objects as Points, 2019 (arXiv:1904.07850), and Z. Liu et
    al., Training-Time-Friendly Network, 2019 (arXiv:1909.00700).
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = Unit(3, WIDTHS[0], stride=2)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(WIDTHS))
        self.laterals = nn.ModuleList(nn.Conv2d(width, PYRAMID_WIDTH, 1) for width in WIDTHS[1:])
        self.head = Unit(PYRAMID_WIDTH, HEAD_WIDTH)
        self.heatmap = nn.Conv2d(HEAD_WIDTH, n_classes, 1)
        self.distances = nn.Conv2d(HEAD_WIDTH, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply it."""
        return self.answers(self.features(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Give the map that heatmaps and distances are read from: (n, 48, height / 4, width / 4)."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        y = self.laterals[-1](maps[-1])
        for lateral, finer in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            y = lateral(finer) + functional.interpolate(y, size=finer.shape[-2:], mode="nearest")
        features: torch.Tensor = self.head(y)
        return features

    def answers(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read heatmaps and distances off the features, in float32 so that close scores keep their order."""
        y = features.float().permute(0, 2, 3, 1)
        # As one matrix product over the channels: two narrow convolutions took a third of a step's backward pass.
        weight = torch.cat([self.heatmap.weight, self.distances.weight]).flatten(1)
        bias = torch.cat([_bias(self.heatmap), _bias(self.distances)])
        with torch.autocast(y.device.type, enabled=False):
            y = functional.linear(y, weight, bias).permute(0, 3, 1, 2)
        return y[:, :-4], functional.softplus(y[:, -4:]) * BOX_UNIT_PX


def new_detector(n_classes: int, generator: torch.Generator) -> Detector:
    """Make a detector with fresh weights from the generator alone (on the CPU)."""
    model = Detector(n_classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in (model.heatmap, model.distances):
        nn.init.normal_(layer.weight, std=0.01, generator=generator)
    nn.init.constant_(_bias(model.heatmap), PRIOR_LOGIT)
    return model


def twin(model: Detector) -> Detector:
    """Copy a detector so that the copy has the same weights, not equal ones, and buffers of its own."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, memo=dict(shared))


def for_inference(model: Detector, *, half: bool) -> Detector:
    """Copy a detector with its batch norms folded in, its body in bfloat16 if `half`."""
    fast = copy.deepcopy(model).eval()
    for module in fast.modules():
        if isinstance(module, Unit):
            module.fuse()
    if half:
        fast = fast.to(torch.bfloat16)
        fast.heatmap.float()
        fast.distances.float()
    return fast.requires_grad_(False)


def _bias(layer: nn.Conv2d) -> torch.Tensor:
    """Give a bias that is known to be there."""
    if layer.bias is None:
        raise TypeError("this layer has no bias")
    return layer.bias
