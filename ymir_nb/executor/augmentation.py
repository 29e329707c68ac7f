"""Random changes of a batch: place, scale, flips, colour, and two images in one; boxes follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from ymir_nb.executor.images import normalised

LOG_ZOOM = 0.5
LOG_STRETCH = 0.12
MIXED = 0.5
MIN_VISIBLE = 0.3
MIN_SIDE_PX = 2.0


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a batch in one table.

    Parameters
    ----------
    image : Tensor of int64, shape (n,)
        Position in the batch.
    boxes : Tensor of float32, shape (n, 4)
        x1 y1 x2 y2 in input pixels.
    classes : Tensor of int64, shape (n,)
        Positions in class_names.
    """

    image: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor

    def keep(self, mask: torch.Tensor) -> Objects:
        """Take the rows of a mask."""
        return Objects(self.image[mask], self.boxes[mask], self.classes[mask])

    def to(self, device: torch.device) -> Objects:
        """Move to a device."""
        return Objects(self.image.to(device), self.boxes.to(device), self.classes.to(device))


class Augmenter:
    """Changes batches at random, from its own generator alone.

    Parameters
    ----------
    strength : float
        0 (nothing but flips) to 1.
    flip : str
        none, horizontal or both.
    generator : torch.Generator
        On the CPU; the only source of randomness.
    """

    def __init__(self, *, strength: float, flip: str, generator: torch.Generator) -> None:
        self.strength = strength
        self.flip = flip
        self.generator = generator

    def __call__(self, pixels: torch.Tensor, objects: Objects) -> tuple[torch.Tensor, Objects]:
        """Turn uint8 pixels (n, 3, height, width) and their objects into a changed float batch."""
        images, objects = self._move(normalised(pixels), objects)
        if self.strength > 0:
            images, objects = self._mix(self._recolour(images), objects)
        return images, objects

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def _move(self, images: torch.Tensor, objects: Objects) -> tuple[torch.Tensor, Objects]:
        """Zoom, stretch, shift and flip."""
        n, _, height, width = images.shape
        extent = torch.tensor([width, height], dtype=torch.float32)
        zoom = self.strength * self._uniform(n, 1, low=-LOG_ZOOM, high=LOG_ZOOM)
        stretch = self.strength * self._uniform(n, 1, low=-LOG_STRETCH, high=LOG_STRETCH)
        scale = torch.exp(torch.cat([zoom + stretch, zoom - stretch], dim=1))
        shift = self._uniform(n, 2) * (1 - scale) * extent
        odds = torch.tensor({"none": [0.0, 0.0], "horizontal": [0.5, 0.0], "both": [0.5, 0.5]}[self.flip])
        flipped = self._uniform(n, 2) < odds
        shift = torch.where(flipped, shift + scale * extent, shift)
        scale = torch.where(flipped, -scale, scale)
        if not torch.equal(scale, torch.ones_like(scale)):
            grid = _grid(scale, shift, width, height).to(images.device)
            images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        corners = objects.boxes.view(-1, 2, 2) * scale[objects.image, None] + shift[objects.image, None]
        boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
        window = torch.tensor([0.0, 0.0, width, height]).expand(n, 4)
        return images, _clipped(Objects(objects.image, boxes, objects.classes), window)

    def _recolour(self, images: torch.Tensor) -> torch.Tensor:
        """Change brightness, contrast, saturation and tint; the pad changes with them."""
        n, s = len(images), self.strength
        saturation = 1 + s * self._uniform(n, 1, 1, low=-0.4, high=0.4)
        gain = (1 + s * self._uniform(n, 1, 1, low=-0.3, high=0.3)) * (
            1 + s * self._uniform(n, 3, 1, low=-0.1, high=0.1)
        )
        offset = s * (self._uniform(n, 1, 1, low=-0.4, high=0.4) + self._uniform(n, 3, 1, low=-0.1, high=0.1))
        matrix = gain * (saturation * torch.eye(3) + (1 - saturation) / 3)
        flat = images.flatten(2)
        return torch.baddbmm(offset.to(flat.device), matrix.to(flat.device), flat).view_as(images)

    def _mix(self, images: torch.Tensor, objects: Objects) -> tuple[torch.Tensor, Objects]:
        """Cut some images in two at a random line and fill one side from another image."""
        n, _, height, width = images.shape
        donors = torch.randperm(n, generator=self.generator)
        cuts = self._uniform(n, low=0.3, high=0.7)
        chosen = (self._uniform(n) < MIXED * self.strength) & (donors != torch.arange(n))
        upright = self._uniform(n) < 0.5
        own = torch.tensor([0.0, 0.0, width, height]).repeat(n, 1)
        given = torch.zeros(n, 4)
        patches = []
        for i in torch.nonzero(chosen).flatten().tolist():
            axis, length = (0, width) if upright[i] else (1, height)
            cut = int(cuts[i] * length)
            own[i, axis + 2] = cut
            given[i] = torch.tensor([0.0, 0.0, width, height])
            given[i, axis] = cut
            left, top = (cut, 0) if upright[i] else (0, cut)
            patches.append((i, top, left, images[donors[i], :, top:, left:].clone()))
        for i, top, left, patch in patches:
            images[i, :, top:, left:] = patch
        receiver = torch.empty_like(donors)
        receiver[donors] = torch.arange(n)
        kept = _clipped(objects, own)
        lent = _clipped(Objects(receiver[objects.image], objects.boxes, objects.classes), given)
        return images, Objects(
            torch.cat([kept.image, lent.image]),
            torch.cat([kept.boxes, lent.boxes]),
            torch.cat([kept.classes, lent.classes]),
        )


def _grid(scale: torch.Tensor, shift: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Say for every pixel where it comes from, in grid_sample's units: shape (n, height, width, 2)."""
    x = ((torch.arange(width) + 0.5 - shift[:, :1]) / scale[:, :1]) * (2 / width) - 1
    y = ((torch.arange(height) + 0.5 - shift[:, 1:]) / scale[:, 1:]) * (2 / height) - 1
    n = len(scale)
    return torch.stack([x[:, None].expand(n, height, width), y[:, :, None].expand(n, height, width)], dim=3)


def _clipped(objects: Objects, windows: torch.Tensor) -> Objects:
    """Cut boxes to their image's window (x1 y1 x2 y2); those of which too little is left go."""
    window = windows[objects.image]
    boxes = torch.cat(
        [
            torch.minimum(torch.maximum(objects.boxes[:, :2], window[:, :2]), window[:, 2:]),
            torch.minimum(torch.maximum(objects.boxes[:, 2:], window[:, :2]), window[:, 2:]),
        ],
        dim=1,
    )
    sides, before = boxes[:, 2:] - boxes[:, :2], objects.boxes[:, 2:] - objects.boxes[:, :2]
    visible = (sides.prod(1) >= MIN_VISIBLE * before.prod(1)) & (sides.amin(1) >= MIN_SIDE_PX)
    return Objects(objects.image, boxes, objects.classes).keep(visible)
