"""Frozen features of recordings: eval mode, mean over windows; and how they are kept.

<name>.safetensors   "<modality>/vector", "<modality>/projection" and "<modality>/present"
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..api.errors import StageError
from ..data.store import Store
from ..engine.devices import arithmetic
from ..recipe.plan import JOINT, Plan
from ..runs import arrays_in_parts, read_tensors, write_tensors
from .augment import Augmentation
from .encoder import Encoder
from .joint import Joint
from .windows import WindowMean, windows_of, windows_of_each


@dataclass
class Features:
    """One modality's frozen features of some recordings."""

    vector: Tensor  # [n, width]; zeros where missing
    projection: Tensor  # [n, D], each window's of length 1; zeros where missing
    present: Tensor  # bool [n]


@torch.inference_mode()
def encode_rows(
    plan: Plan,
    encoders: Mapping[str, Encoder],
    stores: Mapping[str, Store],
    rows: Sequence[int],
    device: torch.device,
    spoil: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Features]:
    """Frozen features of some recordings, of each modality from its own windows, in which it is present.

    spoil, generator  what is done to every normalised stream first, to see how much the features suffer
    """
    vectors = {name: WindowMean(len(rows), encoder.width) for name, encoder in encoders.items()}
    projections = {name: WindowMean(len(rows), encoder.embedding) for name, encoder in encoders.items()}
    for encoder in encoders.values():
        encoder.eval().to(device)
    for name, index, windows in windows_of_each(plan, {name: stores[name] for name in encoders}, rows):
        encoder, stream = encoders[name], windows.to(device)
        if not bool(stream.present.any()):
            continue
        with arithmetic(plan.recipe.pretrain.precision, device):
            encoded, present = encoder.encode(stream, spoil, generator)
            projected = encoder.project(encoded)
        vectors[name].add(index[present.cpu()], encoded.vector)
        projections[name].add(index[present.cpu()], normalize(projected.float(), dim=-1))
    return {
        name: Features(vector=vectors[name].value, projection=projections[name].value, present=vectors[name].present)
        for name in encoders
    }


@torch.inference_mode()
def encode_joint(
    plan: Plan, joint: Joint, stores: Mapping[str, Store], rows: Sequence[int], device: torch.device
) -> dict[str, Features]:
    """The frozen vector of all modalities together, from the windows in which any is present."""
    vectors = WindowMean(len(rows), joint.width)
    joint.eval().to(device)
    for index, batch in windows_of(plan, stores, rows):
        with arithmetic(plan.recipe.pretrain.precision, device):
            vector, present = joint(batch, device)
        vectors.add(index[present.cpu()], vector[present])
    vector = vectors.value
    return {JOINT: Features(vector=vector, projection=normalize(vector, dim=-1), present=vectors.present)}


def save_features(path: Path, features: Mapping[str, Features]) -> None:
    """Write features whole or not at all."""
    tensors = {
        f"{name}/{part.name}": getattr(one, part.name).contiguous() for name, one in features.items() for part in fields(one)
    }
    write_tensors(path, tensors)


def save_in_parts(path: Path, count: int, parts: Iterable[Mapping[str, Features]]) -> None:
    """The same for features of so many recordings, part by part in their order, none of which is held: the bytes are those of `save_features`."""
    parts = iter(parts)
    first = next(parts)
    forms = {}
    for name, one in first.items():
        for part in fields(one):
            values = getattr(one, part.name)
            forms[f"{name}/{part.name}"] = ("BOOL" if values.dtype == torch.bool else "F32", (count, *values.shape[1:]))
    with arrays_in_parts(path, forms) as add:
        for features in itertools.chain([first], parts):
            for name, one in features.items():
                for part in fields(one):
                    add(f"{name}/{part.name}", getattr(one, part.name).contiguous().numpy().tobytes())


def load_features(path: Path) -> dict[str, Features]:
    """The features in a file by modality, in the order of the alphabet. Raises StageError if it is damaged or holds something else."""
    tensors = read_tensors(path)
    features = {}
    for name in dict.fromkeys(key.rsplit("/", 1)[0] for key in tensors):
        parts = {part.name: tensors.get(f"{name}/{part.name}") for part in fields(Features)}
        forms = {part: None if one is None else (one.ndim, one.is_floating_point()) for part, one in parts.items()}
        counts = {len(one) for one in parts.values() if one is not None and one.ndim}
        if forms != {"vector": (2, True), "projection": (2, True), "present": (1, False)} or len(counts) > 1:
            raise StageError(
                f"{path}: '{name}' is no features; vector [n, width], projection [n, D] and present [n] were expected; run its recipe again"
            )
        features[name] = Features(**{part: one for part, one in parts.items() if one is not None})
    return features
