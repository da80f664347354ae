"""Encoders on disk: weights in safetensors, everything needed to rebuild them in JSON beside it. No recipe, no pickle.

encoders.safetensors   "<modality>/<name of the weight>"
encoders.json          per modality: source, features, layout, backbone (name, options, package); projection; window
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..api.errors import DataError, PluginError
from ..api.kinds import Layout
from ..plugins import Plugins, plugins
from ..runs import distrusting, read_json, read_tensors, write_json, write_tensors
from .encoder import Encoder, build_encoder

ROOM = 2**29
"""Bytes that networks may take while files are believed, beside three times what the kept weights take: a width of 1e9 ends in a sentence."""


def save_encoders(folder: Path, encoders: Mapping[str, nn.Module], about: Mapping[str, Any]) -> None:
    """Write encoders whole or not at all; `about` is what `describe` of each modality needs to rebuild it."""
    save_weights(folder, {name: encoder.state_dict() for name, encoder in encoders.items()}, about)


def save_weights(folder: Path, weights: Mapping[str, Mapping[str, Tensor]], about: Mapping[str, Any]) -> None:
    """As `save_encoders`, of the weights of each encoder."""
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous() for name, one in weights.items() for key, value in one.items()
    }
    write_tensors(folder / "encoders.safetensors", tensors)
    write_json(folder / "encoders.json", {"format": 1, **about})


@distrusting
def load_encoders(folder: Path | str, offers: Plugins | None = None) -> dict[str, Encoder]:
    """The trained encoders of a `pretrain` folder by modality, in eval mode, rebuilt without the recipe.

    Raises DataError if the folder holds none, PluginError if a backbone's plug-in is gone or builds other weights than it did.
    """
    folder = Path(folder)
    about = describe_encoders(folder)
    if about.get("pretext"):
        raise DataError(
            f"{folder}: holds one encoder of all modalities ('{about['pretext']['use']}'); read it with mmcl.load_joint"
        )
    tensors = read_tensors(folder / "encoders.safetensors")
    encoders = {}
    for name, one in about["modalities"].items():
        encoder = rebuilt_encoder(name, one, about["projection"], offers or plugins(), bytes_of(tensors))
        state = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        fill_encoder(encoder, state, one["backbone"], f"{folder}: the weights of '{name}'")
        encoders[name] = encoder.eval()
    return encoders


def rebuilt_encoder(name: str, about: Mapping[str, Any], projection: Mapping[str, Any], offers: Plugins, kept: int) -> Encoder:
    """An encoder as files describe it, with any weights, for kept ones to be laid over.

    about  what encoders.json says of the modality: layout, backbone, normalise
    kept   bytes of the weights that lie beside it
    """
    offer = offers.kept("backbone", about["backbone"])
    with sparing(kept):
        return build_encoder(
            name,
            Layout.from_json(about["layout"]),
            replace(offer.spec, build=offer.spec.rebuild or offer.spec.build),
            offer.spec.params.model_validate_json(json.dumps(about["backbone"]["params"])),
            hidden=projection["hidden"],
            width=None if projection.get("use") == "none" else projection["width"],
            normalise=about["normalise"] == "channel",
        )


def bytes_of(weights: Mapping[str, Tensor]) -> int:
    """What weights take."""
    return sum(value.nbytes for value in weights.values())


@contextmanager
def sparing(kept: int, room: int = ROOM) -> Iterator[None]:
    """Within it, `room` and three times the bytes of kept weights more can be had, where the system can say so (Linux).

    Raises PluginError for whoever wants more.
    """
    try:
        import resource

        with Path("/proc/self/statm").open(encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    room += 3 * kept
    before = resource.getrlimit(resource.RLIMIT_AS)
    asked = now + room if before[0] == resource.RLIM_INFINITY else min(before[0], now + room)
    resource.setrlimit(resource.RLIMIT_AS, (asked, before[1]))
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise PluginError(
                f"what is described takes more than {room / 2**30:.3g} GiB of memory, as no network with these weights does; its "
                "description was changed"
            ) from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fill_encoder(network: nn.Module, state: Mapping[str, Tensor], backbone: Mapping[str, Any], what: str) -> None:
    """Lay kept weights over a rebuilt network. Raises PluginError, which begins with `what`, if they do not fit."""
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise PluginError(
            f"{what} do not fit the backbone '{backbone['use']}' as it is installed here (they were made by {backbone.get('package')} "
            f"{backbone.get('version')}): {error}"
        ) from error


def describe_encoders(folder: Path | str) -> dict[str, Any]:
    """What encoders.json says: sources, features, layouts, backbones, window."""
    path = Path(folder) / "encoders.json"
    if not path.exists():
        raise DataError(
            f"{folder}: holds no encoders.json; name the 'pretrain' folder of a run, such as runs/NAME/fold-00/seed-0/pretrain"
        )
    return read_json(path)
