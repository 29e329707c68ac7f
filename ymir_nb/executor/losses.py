"""What the detector shall answer, and how wrong it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from ymir_nb.executor.augmentation import Objects
from ymir_nb.executor.network import STRIDE

SPREAD = 0.54
MIN_SIGMA = 0.45
BOX_WEIGHT = 5.0


@dataclass(frozen=True, eq=False)
class Targets:
    """What the output should be.

    Parameters
    ----------
    heatmap : Tensor, shape (n, n_classes, rows, columns)
        1 at the centre of an object of the class, falling off like a Gaussian around it.
    edges : Tensor, shape (n, 4, rows, columns)
        x1 y1 x2 y2 of the box that a cell answers for, input pixels.
    weight : Tensor, shape (n, rows, columns)
        Weight of a cell in the box loss; 0 where it answers for none.
    """

    heatmap: torch.Tensor
    edges: torch.Tensor
    weight: torch.Tensor


def make_targets(objects: Objects, n_images: int, n_classes: int, rows: int, columns: int) -> Targets:
    """Draw the targets of a batch.

    Parameters
    ----------
    objects : Objects
        The boxes, in input pixels, inside the input.
    n_images, n_classes, rows, columns : int
        Shape of the heatmap.

    Notes
    -----
    Where two boxes claim a cell, the smaller one has it.

    Source: Z. Liu et al., Training-Time-Friendly Network, 2019 (arXiv:1909.00700), section 3.
    """
    device = objects.boxes.device
    heatmap = torch.zeros(n_images * n_classes, rows, columns, device=device)
    edges = torch.zeros(n_images, rows, columns, 4, device=device)
    weight = torch.zeros(n_images, rows, columns, device=device)
    if len(objects.boxes):
        boxes = objects.boxes / STRIDE
        sides = boxes[:, 2:] - boxes[:, :2]
        limit = torch.tensor([columns - 1, rows - 1], device=device)
        centres = torch.minimum(((boxes[:, :2] + boxes[:, 2:]) / 2).floor().long(), limit)
        bumps = _bumps(centres, (sides * SPREAD / 6).clamp(min=MIN_SIGMA), rows, columns)
        planes = objects.image * n_classes + objects.classes
        inside = bumps * (bumps > 0.1)
        areas = sides.prod(1)
        for i in sorted(range(len(areas)), key=lambda k: -float(areas[k])):
            image, claimed = objects.image[i], inside[i] > 0
            torch.maximum(heatmap[planes[i]], bumps[i], out=heatmap[planes[i]])
            edges[image, claimed] = objects.boxes[i]
            share = torch.log1p(areas[i]) / inside[i].sum()
            weight[image, claimed] = inside[i][claimed] * share
    return Targets(heatmap.view(n_images, n_classes, rows, columns), edges.permute(0, 3, 1, 2), weight)


def _bumps(centres: torch.Tensor, sigmas: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Draw a Gaussian for each centre, exactly 1 there: shape (n, rows, columns)."""
    x = torch.arange(columns, device=centres.device) - centres[:, :1]
    y = torch.arange(rows, device=centres.device) - centres[:, 1:]
    along_x = torch.exp(-(x**2) / (2 * sigmas[:, :1] ** 2))
    along_y = torch.exp(-(y**2) / (2 * sigmas[:, 1:] ** 2))
    return along_y[:, :, None] * along_x[:, None, :]


def heatmap_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Focal loss of a heatmap, per object.

    Source: X. Zhou et al., Objects as Points, 2019 (arXiv:1904.07850), equation 1.
    """
    chance = torch.sigmoid(logits)
    centre = target == 1
    at_centres = -((1 - chance) ** 2) * functional.logsigmoid(logits) * centre
    elsewhere = -((1 - target) ** 4) * chance**2 * functional.logsigmoid(-logits) * ~centre
    return (at_centres + elsewhere).sum() / centre.sum().clamp(min=1)


def box_loss(distances: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Weighted mean of 1 - GIoU over the cells that answer for a box.

    Source: H. Rezatofighi et al., Generalized Intersection over Union, 2019 (arXiv:1902.09630).
    """
    image, row, column = torch.nonzero(targets.weight, as_tuple=True)
    if not len(image):
        return distances.sum() * 0
    weight = targets.weight[image, row, column]
    truth = targets.edges[image, :, row, column]
    x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
    left, top, right, bottom = distances[image, :, row, column].unbind(1)
    guess = torch.stack([x - left, y - top, x + right, y + bottom], dim=1)
    return (weight * (1 - _giou(guess, truth))).sum() / weight.sum()


def _giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Generalised IoU of boxes, row by row."""
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(1) for box in (a, b))
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = area_a + area_b - shared
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def detection_loss(
    logits: torch.Tensor, distances: torch.Tensor, targets: Targets
) -> tuple[torch.Tensor, dict[str, float]]:
    """Sum the two losses; the second value names their parts."""
    heat, box = heatmap_loss(logits, targets.heatmap), box_loss(distances, targets)
    total = heat + BOX_WEIGHT * box
    return total, {"total": float(total.detach()), "heatmap": float(heat.detach()), "box": float(box.detach())}
