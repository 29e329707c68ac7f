"""AdamW, small enough to start at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW:
    """Adam with decoupled weight decay on the kernels; biases and norms are left alone.

    Parameters
    ----------
    parameters : iterable of Parameter
        What to train.
    weight_decay : float
        Share of a kernel that a step with learning rate 1 would take away.

    Notes
    -----
    PyTorch's own optimisers load its compiler when they are made, which costs a second of every run.

    Source: I. Loshchilov and F. Hutter, Decoupled Weight Decay Regularization, 2019 (arXiv:1711.05101),
    algorithm 2.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.n_steps = 0
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter against its gradient, and forget the gradient."""
        self.n_steps += 1
        unbias, unbias_squares = (1 - beta**self.n_steps for beta in BETAS)
        for parameter, mean, square in zip(self.parameters, self._means, self._squares, strict=True):
            if parameter.grad is None:
                continue
            if parameter.ndim > 1:
                parameter.mul_(1 - rate * self.weight_decay)
            mean.lerp_(parameter.grad, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(parameter.grad, parameter.grad, value=1 - BETAS[1])
            scale = (square / unbias_squares).sqrt_().add_(EPSILON)
            parameter.addcdiv_(mean, scale, value=-rate / unbias)
            parameter.grad = None
