"""Dropout that takes less time on a CPU."""

import torch
from torch import nn


class FastDropout(nn.Dropout):
    """Dropout that draws 15 random bits for each value on a CPU, in a third of the time of `nn.Dropout`.

    The probability is rounded to a multiple of 2**-15, and the kept values are scaled by the rounded one.

    Example:

    >>> FastDropout(0.5).eval()(torch.ones(2))
    tensor([1., 1.])
    """

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states of any shape -> the same shape."""
        dropped = round(self.p * 2**15)
        # `torch.compile` cannot compile `random_`, and would split the model here.
        is_fast = states.device.type == "cpu" and not torch.compiler.is_compiling()
        if not self.training or not is_fast or not 0 < dropped < 2**15:
            return super().forward(states)
        # `random_` sets the 63 low bits of an int64, so the sign of each fourth int16 is always 0.
        bits = (
            torch.empty(-(-states.numel() // 4), dtype=torch.int64, device=states.device).random_().view(torch.int16)
        )
        bits = bits[: states.numel()]
        # Written in the dtype of the states, since the conversion of a bool mask takes a third of the time.
        scale = torch.empty_like(states, requires_grad=False)
        torch.ge(bits.bitwise_and_(2**15 - 1).view(states.shape), dropped, out=scale)
        return states * scale.mul_(2**15 / (2**15 - dropped))
