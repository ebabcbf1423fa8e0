"""Makes tagger.onnx, a file as somebody else might bring it: axes called N and T, a mask, whole numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

WORDS, WIDTH, TAGS = 500, 32, 12


class Tagger(nn.Module):
    """A tag for each token, from the token and what is near it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.near = nn.Conv1d(WIDTH, WIDTH, 5, padding=2)
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.tags = nn.Linear(4 * WIDTH, TAGS)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, length) twice to scores (batch, length, tags), and their mean over tokens that count."""
        counted = mask.unsqueeze(-1).to(torch.float32)
        words = self.words(ids) * counted
        words = words + self.near(words.transpose(1, 2)).transpose(1, 2)
        scores = self.tags(torch.nn.functional.gelu(self.up(self.norm(words))))
        return scores, (scores * counted).sum(1) / counted.sum(1).clamp(min=1)


def main() -> None:
    """Writes tagger.onnx beside this file; the same bytes each time."""
    torch.manual_seed(0)
    ids = torch.ones(2, 6, dtype=torch.int64)
    torch.onnx.export(
        Tagger().eval(),
        (ids, ids),
        str(Path(__file__).with_name("tagger.onnx")),
        dynamo=False,
        opset_version=17,
        input_names=["ids", "mask"],
        output_names=["scores", "mean"],
        dynamic_axes={
            "ids": {0: "N", 1: "T"},
            "mask": {0: "N", 1: "T"},
            "scores": {0: "N", 1: "T"},
            "mean": {0: "N"},
        },
    )


if __name__ == "__main__":
    main()
