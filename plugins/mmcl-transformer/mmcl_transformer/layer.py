"""A layer of an encoder as BERT has it: post-norm, exact GELU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each added to its input and normalised after it."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.attend, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.first, self.second = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """[B, T, width] → the same; padded steps are never looked at."""
        batch, length, width = hidden.shape
        queries, keys, values = (
            self.attend(hidden).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(queries, keys, values, steps[:, None, None, :], rate)
        hidden = self.first(hidden + self.dropout(self.join(mixed.transpose(1, 2).flatten(2))))
        return self.second(hidden + self.dropout(self.narrow(functional.gelu(self.widen(hidden)))))
