"""A trained run as a folder that can be given away, and such a folder opened: weights in safetensors, the rest in JSON, a model card.

DIR/config.json               what the folder is: format, fold, seed, window
DIR/encoders.{safetensors,json} heads.{safetensors,json}      of a pretrained run, as a run's own folders have them
DIR/models/TASK~INPUT~HEAD.{safetensors,json}                 of a network that labels trained
DIR/README.md                 the model card

There are no recordings in it, no ids, no paths of the machine, no pickle and no code. A folder from elsewhere is not trusted: files are opened
through `mmcl.runs`, and a network is built only by plug-ins that are installed here.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .. import __version__
from ..api.batch import Batch
from ..api.errors import DataError, StageError
from ..api.kinds import Layout
from ..api.raw import Timed
from ..data.stack import batch
from ..data.store import Store, Streams
from ..data.windows import Span, slide
from ..evaluate.answers import named
from ..media.files import cache_root
from ..model.encoder import Encoder
from ..model.frozen import Features
from ..model.joint import Joint, load_joint
from ..model.keep import describe_encoders, load_encoders, save_encoders
from ..model.kept import KeptHead, load_heads, save_heads
from ..model.kept_network import KeptNetwork, load_networks, network_files, save_network
from ..recipe.plan import JOINT
from ..runs import distrusting, folder_in_place_of, read_json, refuse_links, write_json, write_text
from .card import card_of
from .learned import Learned, network_name
from .shared import empty_place, without_paths

HUB = re.compile(r"^[\w.-]+/[\w.-]+$")
"""How the name of a model on the hub looks: OWNER/NAME."""

Recorded = NDArray[Any] | Timed | None
"""A stream [T, …], with its times where steps carry their own (mmcl.api.Timed); None where a recording lacks it."""

Recordings = Mapping[str, Sequence[Recorded]]
"""Of each modality, the stream of every recording, as encoders.json says it is prepared."""

WINDOWS = 100_000
"""Windows of one recording; more are refused, for a folder from elsewhere says how far they are apart."""


@dataclass(frozen=True)
class Published:
    """A folder that was given away, opened: encoders and heads, or a network that labels trained, in eval mode."""

    folder: Path
    about: Mapping[str, Any]  # what config.json says
    encoders: dict[str, Encoder] | Joint
    heads: tuple[KeptHead, ...]
    networks: tuple[KeptNetwork, ...]

    @property
    def layouts(self) -> dict[str, Layout]:
        """How the streams of each modality are laid out."""
        if isinstance(self.encoders, Joint):
            return dict(self.encoders.layouts)
        return {name: encoder.layout for name, encoder in self.encoders.items()}

    @torch.inference_mode()
    def embed(self, recordings: Recordings) -> dict[str, Features]:
        """Frozen features of some recordings by modality, each from its own windows as the run takes them.

        A modality that is left out is missing everywhere. Raises DataError where streams are not what the folder's layouts say.
        """
        count = self._checked(recordings)
        if isinstance(self.encoders, Joint):
            vectors, here = torch.zeros(count, self.encoders.width), torch.zeros(count)
            for index, windows in self._windows(recordings, count):
                vector, present = self.encoders(windows, torch.device("cpu"))
                vectors.index_add_(0, index, vector)
                here.index_add_(0, index, present.float())
            vector = vectors / here.clamp_min(1)[:, None]
            return {JOINT: Features(vector, functional.normalize(vector, dim=-1), here > 0)}
        return {name: self._features(name, encoder, recordings.get(name), count) for name, encoder in self.encoders.items()}

    def predict(self, recordings: Recordings) -> list[dict[str, Any]]:
        """What every head or network says of each recording: task, input, head and output, class and probabilities, one entry a recording.

        `modalities` of an entry are those that were there. Raises DataError as `embed` does, and where a head needs the other
        recordings of a group.
        """
        count = self._checked(recordings)
        answers: list[dict[str, Any]] = []
        features = self.embed(recordings) if self.heads else {}
        for head in self.heads:
            answers += _entries(
                head, head.outputs(features), head.probabilities(features), self._there(recordings, head.modalities, count)
            )
        for network in self.networks:
            windows = list(self._windows(recordings, count, network.modalities))
            outputs, chances = network.outputs(windows, count), network.probabilities(windows, count)
            answers += _entries(network, outputs, chances, self._there(recordings, network.modalities, count))
        return answers

    def _there(self, recordings: Recordings, modalities: Sequence[str], count: int) -> list[list[str]]:
        """The modalities that each recording has, among those of an input."""
        names = list(self.layouts) if JOINT in modalities else list(modalities)
        return [
            [name for name in names if recordings.get(name) is not None and recordings[name][i] is not None]
            for i in range(count)
        ]

    def _checked(self, recordings: Recordings) -> int:
        """How many recordings there are."""
        strange = sorted(set(recordings) - set(self.layouts))
        if strange or not recordings:
            raise DataError(
                f"{self.folder}: knows the modalities {', '.join(self.layouts)}; found {', '.join(strange) or 'none'}"
            )
        counts = {len(streams) for streams in recordings.values()}
        if len(counts) != 1 or counts == {0}:
            raise DataError(
                "every modality has as many streams as there are recordings, one or more; None where one is missing"
            )
        for name, streams in recordings.items():
            layout = self.layouts[name]
            for i, stream in enumerate(streams):
                shape = None if stream is None else np.shape(stream.values if isinstance(stream, Timed) else stream)
                wanted = (("T",) if layout.timed else ()) + layout.shape
                if shape is not None and (
                    len(shape) != len(wanted) or shape[len(shape) - len(layout.shape) :] != layout.shape or 0 in shape
                ):
                    raise DataError(f"recording {i}: a stream of '{name}' is {list(wanted)}, found {list(shape)}")
        return counts.pop()

    def _features(self, name: str, encoder: Encoder, streams: Sequence[Recorded] | None, count: int) -> Features:
        vector, space = torch.zeros(count, encoder.width), torch.zeros(count, encoder.embedding)
        present = torch.zeros(count, dtype=torch.bool)
        stores = {name: _held(streams or [None] * count, encoder.layout)}
        for row in range(count):
            if row in stores[name]:
                encoded, _ = encoder.encode(batch(stores, *self._spans(stores, row)).streams[name])
                vector[row] = encoded.vector.float().mean(0)
                space[row] = functional.normalize(encoder.project(encoded).float(), dim=-1).mean(0)
                present[row] = True
        return Features(vector, space, present)

    def _windows(
        self, recordings: Recordings, count: int, modalities: Sequence[str] | None = None
    ) -> Iterator[tuple[Tensor, Batch]]:
        """The windows from which modalities are taken together, recording by recording."""
        names = list(self.layouts) if modalities is None else list(modalities)
        stores = {name: _held(recordings.get(name) or [None] * count, self.layouts[name]) for name in names}
        for row in range(count):
            if any(row in store for store in stores.values()):
                rows, spans = self._spans(stores, row)
                yield torch.tensor(rows), batch(stores, rows, spans)

    def _spans(self, stores: Mapping[str, Store], row: int) -> tuple[list[int], list[Span]]:
        """A recording's windows: its row for each, and where it is cut."""
        window = self.about["window"]
        spans = slide(stores, row, window["seconds"], window["embed"], window["hop"])
        if len(spans) > WINDOWS:
            raise DataError(
                f"recording {row}: has {len(spans):,} windows, where at most {WINDOWS:,} are taken at once; cut it into shorter ones"
            )
        return [row] * len(spans), spans


def _held(streams: Sequence[Recorded], layout: Layout) -> Store:
    return cast(Store, Streams(layout, streams))


def _entries(
    kept: KeptHead | KeptNetwork,
    outputs: NDArray[np.float64],
    chances: NDArray[np.float64] | None,
    there: Sequence[Sequence[str]],
) -> list[dict[str, Any]]:
    """One entry a recording that has any of the modalities."""
    entries = []
    for i, names in enumerate(there):
        if not names:
            continue
        entry: dict[str, Any] = {
            "recording": i,
            "task": kept.task.name,
            "input": kept.input,
            "head": kept.name,
            "modalities": list(names),
        }
        regression = kept.task.type == "regression"
        entry["prediction"] = [float(value) for value in outputs[i]] if regression else named(kept.task, outputs[i])
        if chances is not None:
            entry["probabilities"] = {name: float(value) for name, value in zip(kept.task.classes, chances[i], strict=True)}
        entries.append(entry)
    return entries


def publish(learned: Learned, folder: Path) -> tuple[str, ...]:
    """Lay a folder that can be given away; what was left out of it, each with the reason.

    Raises StageError if the folder holds something, or the weights that come back from it are others.
    """
    empty_place(folder)
    left_out = tuple(
        f"head {head.name} ({head.part.use}) for {head.task.name} from {head.input}: it holds features of the training recordings"
        for head in learned.heads
        if _holds_recordings(head)
    )
    heads = [head for head in learned.heads if not _holds_recordings(head)]
    with folder_in_place_of(folder) as part:
        about = cast(dict[str, Any], without_paths(dict(learned.about)))
        if learned.network is not None:
            kept = learned.network
            facts = {"format": 1, "task": kept.task.name, "input": kept.input, "head": kept.name}
            save_network(part / "models", network_name(kept), kept.network, facts, kept.shift, about)
        else:
            encoders = {"joint": learned.encoders} if isinstance(learned.encoders, Joint) else learned.encoders
            assert encoders is not None
            save_encoders(part, encoders, {key: value for key, value in about.items() if key != "format"})
            if heads:
                save_heads(part, [replace(head) for head in heads])
                write_json(part / "heads.json", without_paths(read_json(part / "heads.json")))
        config = {
            "format": 1,
            "library_name": "mmcl",
            "mmcl": __version__,
            "name": about.get("name"),
            "kind": "network" if learned.network is not None else "encoders",
            "fold": learned.fold,
            "seed": learned.seed,
            "window": about["window"],
        }
        write_json(part / "config.json", config)
        write_text(
            part / "README.md",
            card_of(
                replace(learned, heads=tuple(heads)), "weights in safetensors, the rest in JSON; `mmcl.load` opens it", left_out
            ),
        )
        _expect_same(learned, read_published(part))
    return left_out


def _holds_recordings(head: KeptHead) -> bool:
    """Whether a head's state grows with the training recordings, as nearest neighbours' does."""
    with torch.random.fork_rng(devices=[]):
        fresh = cast(
            Any, head.part.spec.build(head.part.params, head.task, {m: len(head.scale.mean[m]) for m in head.modalities})
        )
    sizes = {name: tuple(value.shape) for name, value in fresh.state_dict().items()}
    return sizes != {name: tuple(value.shape) for name, value in cast(Any, head.head).state_dict().items()}


def _expect_same(learned: Learned, published: Published) -> None:
    """Raise StageError unless the weights came back to the bit."""
    if learned.network is not None:
        pairs = [(learned.network.network, published.networks[0].network)]
    elif isinstance(learned.encoders, Joint):
        pairs = [(learned.encoders, published.encoders)]  # type: ignore[list-item]  # the folder of a joint encoder holds one
    else:
        assert learned.encoders is not None
        pairs = [(encoder, cast(Any, published.encoders)[name]) for name, encoder in learned.encoders.items()]  # type: ignore[misc]  # modules all
    for one, other in pairs:
        state, again = one.state_dict(), other.state_dict()
        if set(state) != set(again) or not all(torch.equal(state[name].cpu(), again[name]) for name in state):
            raise StageError(f"{learned}: the weights that were written are not those that were learned; nothing was left")


def load(name: str | Path, cache: Path | None = None) -> Published:
    """A folder that `publish` laid, opened; or one of the hub, by OWNER/NAME, where huggingface_hub is installed.

    cache  where a folder of the hub is kept; left out: mmcl's folder in the user's cache

    Raises DataError if it is no such folder, PluginError if a plug-in is not installed here or builds other weights, StageError for links and
    damaged files.
    """
    folder = Path(name)
    if not folder.is_dir():
        if not HUB.match(str(name)) or isinstance(name, Path):
            raise DataError(f"{name}: is no folder, and no name on the hub such as OWNER/NAME")
        folder = _fetched(str(name), cache)
    return read_published(folder)


@distrusting
def read_published(folder: Path) -> Published:
    """A published folder on this machine, opened."""
    refuse_links(folder)
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: holds no config.json; a folder that `mmcl publish` laid was expected")
    about = read_json(folder / "config.json")
    if about.get("library_name") != "mmcl" or about.get("format") != 1 or about.get("kind") not in ("encoders", "network"):
        raise DataError(f"{folder}: config.json is not of a folder that `mmcl publish` of this version lays")
    try:
        _window(about)
        if about["kind"] == "network":
            networks = tuple(load_networks(folder)) if network_files(folder) else ()
            if len(networks) != 1:
                raise DataError(f"{folder}: holds {len(networks)} networks in models/, where one was expected")
            return Published(folder, about, networks[0].encoders, (), networks)
        described = describe_encoders(folder)
        encoders = load_joint(folder) if described.get("pretext") else load_encoders(folder)
        heads = tuple(load_heads(folder)) if (folder / "heads.json").exists() else ()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder}: its files do not say what they should ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error
    return Published(folder, about, encoders, heads, ())


def _window(about: Mapping[str, Any]) -> None:
    """Raise ValueError unless a window is one that could be cut."""
    window = about["window"]
    for key in ("seconds", "hop"):
        value = window.get(key)
        if value is not None and not (isinstance(value, int | float) and 1e-3 <= value <= 1e6):
            raise ValueError(f"window.{key} is {value!r}")


def _fetched(name: str, cache: Path | None) -> Path:
    """A model of the hub, in a folder of this machine: JSON, safetensors and the card alone."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise DataError(f"{name}: is no folder here; to fetch it from the hub, pip install 'mmcl[hf]'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    place = (cache_root() / "hub" if cache is None else cache) / name.replace("/", "--")
    try:
        snapshot_download(name, local_dir=place, allow_patterns=["*.json", "*.safetensors", "README.md"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: is no folder here, and cannot be had from the hub ({first})") from error
    return place
