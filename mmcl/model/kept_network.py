"""Networks that labels trained end to end, on disk: rebuilt without the recipe. No pickle.

TASK~INPUT~HEAD.safetensors   "encoders.<modality>.<name of the weight>" and "head.<name of the weight>"
TASK~INPUT~HEAD.json          how training went and, under `network`, what it takes to rebuild it: task, modalities (layout, backbone), head,
                              window, precision, calibration; thresholds stand beside it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..api.batch import Batch
from ..api.dataset import Task
from ..api.errors import DataError, PluginError, StageError
from ..api.head import Head
from ..engine.devices import arithmetic
from ..evaluate.answers import decided
from ..evaluate.calibration import probabilities
from ..plugins import Plugins, plugins
from ..recipe.plan import Part
from ..runs import digest, distrusting, read_json, read_tensors, write_json, write_tensors
from .encoder import Encoder
from .keep import bytes_of, load_encoders, rebuilt_encoder, sparing
from .kept import part_of, task_json, task_of
from .network import Network
from .windows import WindowMean

OLDER = (
    "was written by an older mmcl, which did not say how to rebuild it; delete its 'supervise' folder and run the recipe again"
)


@dataclass
class KeptNetwork:
    """A network that was trained with labels, from streams to answers."""

    task: Task
    input: str
    modalities: tuple[str, ...]
    name: str  # of the head, in the recipe
    encoder: str  # "supervised" or "fine-tuned"
    network: Network
    part: Part
    about: Mapping[str, Any]  # what its file says: modalities, projection, window, precision, fold, seed
    shift: NDArray[np.float64] | float = 0.0  # taken from outputs: thresholds found on validation rows
    temperature: float | None = None  # what outputs are divided by to be probabilities; None: nothing was fitted

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoders by modality, in eval mode; their projections were trained only where contrast was added."""
        return {name: cast(Encoder, module) for name, module in self.network.encoders.items()}

    @property
    def head(self) -> Head:
        """The head on them, in eval mode."""
        return cast(Head, self.network.head)

    @property
    def by_group(self) -> bool:
        """Never: nothing is standardised between its encoders and its head, so that a recording needs no other one beside it."""
        return False

    def answers(
        self, windows: Iterable[tuple[Tensor, Batch]], recordings: int, device: str = "cpu"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """`outputs` and `probabilities` of the same windows, which go through the network once."""
        output = self._decided(windows, recordings, device)
        likely = None if self.task.type == "regression" else probabilities(self.task, output, self.temperature)
        return output - self.shift, likely

    def outputs(self, windows: Iterable[tuple[Tensor, Batch]], recordings: int, device: str = "cpu") -> NDArray[np.float64]:
        """Outputs [recordings, outputs], less the thresholds: of each recording the mean over its windows with any modality.

        windows  in batches: which recording each is of (int64 [n]), and its streams; a batch may hold other modalities too
        """
        return self.answers(windows, recordings, device)[0]

    def probabilities(
        self, windows: Iterable[tuple[Tensor, Batch]], recordings: int, device: str = "cpu"
    ) -> NDArray[np.float64] | None:
        """Calibrated probabilities of each class [recordings, classes]; None for a regression."""
        return self.answers(windows, recordings, device)[1]

    def _decided(self, windows: Iterable[tuple[Tensor, Batch]], recordings: int, device: str) -> NDArray[np.float64]:
        output = mean_output(self.network, windows, recordings, self.about["precision"], torch.device(device))
        if output is None:
            return np.zeros((recordings, max(1, len(self.task.classes))))
        return decided(self.head, output)


@torch.inference_mode()
def mean_output(
    network: Network, windows: Iterable[tuple[Tensor, Batch]], recordings: int, precision: str, device: torch.device
) -> Tensor | None:
    """A network's outputs [recordings, outputs], each the mean over the windows in which there is any modality; None without a window."""
    network.eval().to(device)
    outputs: WindowMean | None = None
    for index, batch in windows:
        with arithmetic(precision, device):
            output = network.head(network.encode(batch, device))
        present = torch.stack([batch.streams[name].present for name in network.encoders]).any(0)
        outputs = outputs or WindowMean(recordings, output.shape[1])
        outputs.add(index[present], output.float().cpu()[present])
    return None if outputs is None else outputs.value


def save_network(
    folder: Path,
    stem: str,
    network: nn.Module,
    facts: Mapping[str, Any],
    shift: NDArray[np.float64] | float,
    about: Mapping[str, Any],
) -> None:
    """Write a network's weights, then what is known of it: the second file says that it is done.

    stem   TASK~INPUT~HEAD
    facts  what its file says first; at least task, input and head
    shift  thresholds, or 0.0 for none
    about  what it takes to rebuild it, as `network_json` has it
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_tensors(folder / f"{stem}.safetensors", weights)
    thresholds = {} if isinstance(shift, float) else {"thresholds": [float(value) for value in shift]}
    check = digest(folder / f"{stem}.safetensors")
    write_json(folder / f"{stem}.json", {**facts, **thresholds, "network": about, "sha256": check})


def network_json(
    config: Mapping[str, Any],
    task: Task,
    modalities: Sequence[str],
    part: Part,
    encoder: str,
    temperature: float | None,
    **more: Any,
) -> dict[str, Any]:
    """What a network's file says under `network`.

    config       the plan's plain values
    encoder      what scores call its encoders
    temperature  what makes probabilities of its outputs
    """
    return {
        "name": config["name"],
        "task": task_json(task),
        "modalities": {name: config["modalities"][name] for name in modalities},
        "projection": config["projection"],
        "window": config["window"],
        "precision": config["supervise"]["precision"],
        "head": part.to_json(),
        "encoder": encoder,
        "calibration": None if temperature is None else {"use": "temperature", "temperature": temperature},
        **more,
    }


@distrusting
def load_networks(folder: Path | str, offers: Plugins | None = None) -> list[KeptNetwork]:
    """The networks of a run's `supervise` folder in the order of the alphabet, or the one that is named, in eval mode.

    folder  …/supervise, or …/supervise/models/TASK~INPUT~HEAD

    Raises DataError if there is none or an older mmcl wrote it, PluginError if a plug-in is gone or builds other weights than it did.
    """
    files = network_files(folder)
    if not files:
        raise DataError(
            f"{folder}: holds no network; name the 'supervise' folder of a run, or one of its models/TASK~INPUT~HEAD"
        )
    return [_loaded(path, offers or plugins()) for path in files]


@distrusting
def load_trained(folder: Path | str, offers: Plugins | None = None) -> dict[str, Encoder]:
    """The encoders that lie in a folder by modality, in eval mode: those of `pretrain`, or of one network that labels trained.

    Raises DataError if there are none or several networks, PluginError as `load_networks` does.
    """
    files = network_files(folder)
    if not files:
        return load_encoders(folder, offers)
    if len(files) > 1:
        names = ", ".join(path.stem for path in files)
        raise DataError(f"{folder}: holds {len(files)} networks ({names}); name one, such as {files[0].with_suffix('')}")
    return _loaded(files[0], offers or plugins()).encoders


def network_files(folder: Path | str) -> list[Path]:
    """The descriptions of the networks in a `supervise` folder, or of the one that is named."""
    folder = Path(folder)
    beside = folder.with_name(f"{folder.name.removesuffix('.json').removesuffix('.safetensors')}.json")
    if "~" in folder.name and beside.is_file():
        return [beside]
    return sorted(path for path in (folder / "models").glob("*.json") if path.with_suffix(".safetensors").is_file())


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights of one network. Raises DataError if they cannot be read."""
    try:
        return read_tensors(path)
    except StageError as error:
        raise DataError(str(error)) from error


def _loaded(path: Path, offers: Plugins) -> KeptNetwork:
    """One network."""
    facts = read_json(path)
    if "network" not in facts:
        raise DataError(f"{path}: {OLDER}")
    weights = _weights(path.with_suffix(".safetensors"))
    kept = bytes_of(weights)
    try:
        about = facts["network"]
        task, part = task_of(about["task"]), part_of(about["head"], offers)
        with sparing(kept):  # of all together, as none is held against its weights before the last is there
            encoders = {
                name: rebuilt_encoder(name, one, about["projection"], offers, kept) for name, one in about["modalities"].items()
            }
        temperature = about["calibration"] and about["calibration"]["temperature"]
        thresholds = facts.get("thresholds")
        name, wide = facts["head"], {modality: encoder.width for modality, encoder in encoders.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the recipe again") from error
    with torch.random.fork_rng(devices=[]), sparing(kept):
        head = cast(nn.Module, part.spec.build(part.params, task, wide))
    network = Network(encoders, head)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise PluginError(f"{path}: its weights do not fit the plug-ins that are installed here: {error}") from error
    return KeptNetwork(
        task=task,
        input=facts["input"],
        modalities=tuple(encoders),
        name=name,
        encoder=about["encoder"],
        network=network.eval(),
        part=part,
        about=about,
        shift=0.0 if thresholds is None else np.array(thresholds),
        temperature=temperature,
    )
