"""Heads on disk, with all that is between frozen features and an answer: rebuilt without the recipe. No pickle.

heads.safetensors   "<number>/<name of the weight>" of each head; "scale/<encoder>/<modality>/mean" and "…/deviation"
heads.json          of each head, by number: task, modalities, head (name, options, package), standardisation, thresholds, calibration
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..api.dataset import Task
from ..api.errors import DataError, PluginError, StageError
from ..api.head import Head
from ..evaluate.answers import UNIT, in_unit, output_of
from ..evaluate.calibration import probabilities
from ..plugins import Plugins, plugins
from ..recipe.plan import Part
from ..runs import distrusting, read_json, read_tensors, write_json, write_tensors
from .frozen import Features
from .keep import bytes_of, sparing
from .scale import Scale, vectors_of

GROUP = (
    "features are standardised within each group: a new recording needs all recordings of its group (at least two of each modality) "
    "beside it"
)


@dataclass
class KeptHead:
    """A fitted head, from frozen features to answers."""

    task: Task
    input: str
    modalities: tuple[str, ...]
    name: str
    encoder: str
    head_seed: int
    head: Head
    part: Part
    scale: Scale
    features: str  # "vector" or "projection"
    shift: NDArray[np.float64] | float = 0.0  # taken from outputs: thresholds found on validation rows
    temperature: float | None = None  # what outputs are divided by to be probabilities; None: nothing was fitted

    @property
    def by_group(self) -> bool:
        """Whether features are standardised within each group, so that a recording needs its group's beside it."""
        return self.part.standardise == "group"

    def outputs(
        self, features: Mapping[str, Features], groups: Tensor | None = None, rows: Tensor | None = None
    ) -> NDArray[np.float64]:
        """Outputs [n, outputs], less the thresholds, as scores and predictions read them.

        groups  int64 [n] of all rows; needed where `by_group`
        rows    bool [n]: whose outputs; left out: all

        Raises DataError where groups are needed and none are given, StageError if a group has one recording alone.
        """
        if self.by_group and groups is None:
            raise DataError(f"head '{self.name}': {GROUP}; say which recordings are of one group")
        present = {name: features[name].present for name in self.modalities}
        if rows is None:
            rows = torch.ones(len(next(iter(present.values()))), dtype=torch.bool)
        vectors = vectors_of(self.features, features, self.modalities)
        return output_of(self.head, self.scale.encoded(vectors, present, rows, groups if self.by_group else None)) - self.shift

    def probabilities(self, features: Mapping[str, Features], groups: Tensor | None = None) -> NDArray[np.float64] | None:
        """Calibrated probabilities of each class [n, classes]; None for a regression."""
        if self.task.type == "regression":
            return None
        return probabilities(self.task, self.outputs(features, groups) + self.shift, self.temperature)

    def to_json(self) -> dict[str, Any]:
        """What heads.json says."""
        thresholds = None if isinstance(self.shift, float) else [float(value) for value in self.shift]
        how: dict[str, Any] = {"by": self.part.standardise, "clip": self.scale.clip, "floor": self.scale.floor}
        return {
            "task": task_json(self.task),
            "input": self.input,
            "modalities": {name: len(self.scale.mean[name]) for name in self.modalities},  # with the width of each
            "name": self.name,
            "head": self.part.to_json(),
            "encoder": self.encoder,
            "head_seed": self.head_seed,
            "features": self.features,
            "standardise": how | ({"note": GROUP} if self.by_group else {}),
            "thresholds": thresholds,
            "calibration": None if self.temperature is None else {"use": "temperature", "temperature": self.temperature},
        }


def save_heads(folder: Path, heads: Sequence[KeptHead]) -> None:
    """Write heads whole or not at all, the description last."""
    tensors: dict[str, Tensor] = {}
    for number, one in enumerate(heads):
        for name, value in cast(nn.Module, one.head).state_dict().items():
            tensors[f"{number}/{name}"] = value.detach().cpu().contiguous().clone()
        for modality in one.modalities:
            tensors[f"scale/{one.encoder}/{modality}/mean"] = one.scale.mean[modality]
            tensors[f"scale/{one.encoder}/{modality}/deviation"] = one.scale.deviation[modality]
    write_tensors(folder / "heads.safetensors", tensors)
    write_json(folder / "heads.json", {"format": 1, "heads": [one.to_json() for one in heads]})


@distrusting
def load_heads(folder: Path | str, offers: Plugins | None = None) -> list[KeptHead]:
    """The heads of a run's `probe` folder, in the order of the recipe, in eval mode.

    Raises DataError if the folder holds none, PluginError if a head's plug-in is gone or builds other weights than it did.
    """
    folder = Path(folder)
    if not (folder / "heads.json").exists():
        raise DataError(
            f"{folder}: holds no heads; name the 'probe' folder of a run, such as runs/NAME/fold-00/seed-0/probe, or 'supervise' where "
            "labels trained networks; a 'probe' that an older mmcl wrote has none until it is deleted and its recipe run again"
        )
    try:
        about = read_json(folder / "heads.json")["heads"]
        tensors = read_tensors(folder / "heads.safetensors")
    except (StageError, KeyError) as error:
        raise DataError(f"{folder}: heads.json cannot be read ({error}); run the recipe again") from error
    return [_loaded(folder, number, one, tensors, offers or plugins()) for number, one in enumerate(about)]


def _loaded(folder: Path, number: int, one: Mapping[str, Any], tensors: Mapping[str, Tensor], offers: Plugins) -> KeptHead:
    """One head of a folder."""
    task, part = task_of(one["task"]), part_of(one["head"], offers)
    state = {key.removeprefix(f"{number}/"): value for key, value in tensors.items() if key.startswith(f"{number}/")}
    head = rebuilt(part, task, one["modalities"], state, str(folder))
    how, encoder = one["standardise"], one["encoder"]
    scale = Scale(
        mean={name: tensors[f"scale/{encoder}/{name}/mean"] for name in one["modalities"]},
        deviation={name: tensors[f"scale/{encoder}/{name}/deviation"] for name in one["modalities"]},
        clip=how["clip"],
        floor=how["floor"],
    )
    wrong = [
        name
        for name, width in one["modalities"].items()
        for each in (scale.mean, scale.deviation)
        if each[name].shape != (width,)
    ]
    if wrong:
        raise DataError(f"{folder}: heads.json and heads.safetensors differ in the width of '{wrong[0]}'; run the recipe again")
    return KeptHead(
        task=task,
        input=one["input"],
        modalities=tuple(one["modalities"]),
        name=one["name"],
        encoder=encoder,
        head_seed=one["head_seed"],
        head=head,
        part=part,
        scale=scale,
        features=one["features"],
        shift=0.0 if one["thresholds"] is None else np.array(one["thresholds"]),
        temperature=one["calibration"] and one["calibration"]["temperature"],
    )


def rebuilt(part: Part, task: Task, widths: Mapping[str, int], state: Mapping[str, Tensor], where: str) -> Head:
    """A head with kept weights, in eval mode. Raises PluginError if they do not fit what the plug-in builds."""
    with torch.random.fork_rng(devices=[]), sparing(bytes_of(state)):
        head = cast(nn.Module, part.spec.build(part.params, task, dict(widths)))
    if all(name in state for name in UNIT):
        in_unit(head, *(torch.zeros_like(state[name]) for name in UNIT))
    try:
        head.load_state_dict(dict(state))
    except RuntimeError as error:
        raise PluginError(
            f"{where}: the weights do not fit the head '{part.use}' of {part.package} {part.version}: {error}"
        ) from error
    return cast(Head, head.eval())


def task_json(task: Task) -> dict[str, Any]:
    """A task as files have it."""
    return {"name": task.name, "type": task.type, "classes": list(task.classes), "extra": list(task.extra)}


def task_of(about: Mapping[str, Any]) -> Task:
    """The task that a file names."""
    return Task(about["name"], about["type"], tuple(about["classes"]), extra=tuple(about["extra"]))


def part_of(about: Mapping[str, Any], offers: Plugins) -> Part:
    """The head that a file names. Raises UnknownNameError if nobody offers it any more."""
    offer = offers.kept("head", about)
    params = offer.spec.params.model_validate_json(json.dumps(about["params"]))
    part = Part("head", about["use"], offer.spec, params, offer.package, offer.version)
    return replace(part, standardise=about.get("standardise", "train"))
