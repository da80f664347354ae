"""Gated recurrent units on rows that are packed to their real lengths."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmcl.api import Encoded, Layout, Stream, each_step, read_out

from . import GruParams


class Gru(nn.Module):
    """Layers of GRU → dropout → read-out over real steps."""

    def __init__(self, params: GruParams, layout: Layout) -> None:
        super().__init__()
        inner = layout.sizes["channel"] * layout.sizes.get("joint", 1)
        both = params.directions == "both"
        between = params.dropout if params.layers > 1 else 0.0  # PyTorch warns of dropout that has no place
        self.gru = nn.GRU(inner, params.units, params.layers, batch_first=True, dropout=between, bidirectional=both)
        self.dropout = nn.Dropout(params.dropout)
        self.last, self.parts = params.readout == "last", params.parts
        read = params.units * (2 if both else 1) * params.parts
        self.width = params.width or read
        self.project = nn.Linear(read, params.width) if params.width else None

    def forward(self, stream: Stream) -> Encoded:
        """The vector read out of the states, and the states of every step."""
        steps = stream.steps
        hidden, final = self._states(stream.values.flatten(2), steps)
        hidden = self.dropout(hidden)
        vector = self.dropout(self._last(final)) if self.last else read_out(hidden, steps, self.parts)
        if self.project is not None:
            vector = self.project(vector)
        return Encoded(vector=vector, sequence=each_step(hidden, steps, self.width, self.project), steps=steps)

    def _states(self, values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The states of every step [B, T, units · directions], and the upper layer's last ones [directions, B, units]."""
        if torch.compiler.is_exporting():
            return self._unrolled(values, steps)
        lengths = steps.sum(1).clamp_min(1).cpu()  # padding stands at the end, so it never enters the recurrence
        packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        states, final = self.gru(packed)
        hidden, _ = pad_packed_sequence(states, batch_first=True, total_length=steps.shape[1])
        return hidden, final

    def _unrolled(self, values: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The same for a graph that is exported, where rows cannot be packed: layer by layer, the other direction on rows turned round."""
        hidden, length = values, steps.sum(1, keepdim=True).clamp_min(1)
        time = torch.arange(values.shape[1], device=values.device)[None, :]
        turned = torch.where(time < length, length - 1 - time, time)  # padding stays where it is
        final: list[Tensor] = []
        for layer in range(self.gru.num_layers):
            directions, final = [], []
            for back in ("", "_reverse")[: 2 if self.gru.bidirectional else 1]:
                weights = [
                    getattr(self.gru, f"{name}_l{layer}{back}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                ]
                states = _scanned(_taken(hidden, turned) if back else hidden, *weights)
                final.append(_taken(states, length - 1)[:, 0])
                directions.append(_taken(states, turned) if back else states)
            hidden = torch.cat(directions, 2) * (time < length)[..., None]
        return hidden, torch.stack(final)

    def _last(self, final: Tensor) -> Tensor:
        """The upper layer's state after the last real step and, of the other direction, after the first: [B, units · directions]."""
        directions = 2 if self.gru.bidirectional else 1
        return torch.cat([*final[-directions:]], 1)


def _scanned(values: Tensor, inner: Tensor, across: Tensor, inner_bias: Tensor, across_bias: Tensor) -> Tensor:
    """The states [B, T, units] of one layer in one direction (Cho et al. 2014, as PyTorch has it), as a loop that a graph can hold.

    torch.gru would be unrolled to the length that the graph was made with.
    """
    from torch._higher_order_ops.scan import scan  # has no public name yet

    def step(state: Tensor, come: Tensor) -> tuple[Tensor, Tensor]:
        reset, update, new = come.chunk(3, 1)
        reset_own, update_own, new_own = (state @ across.T + across_bias).chunk(3, 1)
        update = (update + update_own).sigmoid()
        state = (1 - update) * (new + (reset + reset_own).sigmoid() * new_own).tanh() + update * state
        return state, state.clone()

    first = values.new_zeros(values.shape[0], across.shape[1])
    states: Tensor = scan(step, first, (values @ inner.T + inner_bias).transpose(0, 1))[1]
    return states.transpose(0, 1)


def _taken(values: Tensor, place: Tensor) -> Tensor:
    """The steps of each row [B, T, C] at its places [B, n]."""
    return values.gather(1, place[..., None].expand(-1, -1, values.shape[2]))
