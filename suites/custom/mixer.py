"""A small MLP-Mixer (Tolstikhin et al. 2021) whose channel mixing is gated (GLU, Dauphin et al. 2017), as an
example of a module of your own: see suites/small/custom.yaml.

It takes pictures of any height and width that are multiples of the patch: tokens are mixed along rows and
along columns by convolutions, whose weights depend on no size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PATCH = 4


class Block(nn.Module):
    """Tokens are mixed among neighbours, then channels within each token, the half gating the other half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width)
        self.rows = nn.Conv2d(width, width, (1, 5), padding=(0, 2), groups=width)
        self.columns = nn.Conv2d(width, width, (5, 1), padding=(2, 0), groups=width)
        self.channel_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, rows, columns, width) to the same."""
        grid = self.token_norm(tokens).permute(0, 3, 1, 2)
        tokens = tokens + self.columns(self.rows(grid)).permute(0, 2, 3, 1)
        value, gate = self.up(self.channel_norm(tokens)).chunk(2, dim=-1)
        return tokens + self.down(value * torch.sigmoid(gate))


class Mixer(nn.Module):
    """Pictures to logits."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) to (batch, classes)."""
        tokens = self.blocks(self.patches(pixel_values).permute(0, 2, 3, 1))
        return self.head(self.norm(tokens).mean(dim=(1, 2)))


def mixer(width: int = 64, depth: int = 3, classes: int = 10) -> dict[str, Any]:
    """What benchbox asks for: the module and its signature. The arguments come from `config` in the suite."""
    return {
        "module": Mixer(width, depth, classes),
        "inputs": [
            {"name": "pixel_values", "dtype": "float32", "axes": ["batch", 3, "height", "width"]},
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "axes": ["batch", classes]}],
    }
