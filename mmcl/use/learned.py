"""What one fold and seed of a finished run learned, read from its files without the recipe: encoders and heads, or one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.errors import StageError
from ..model.encoder import Encoder
from ..model.joint import Joint, load_joint
from ..model.keep import describe_encoders, load_encoders
from ..model.kept import KeptHead, load_heads
from ..model.kept_network import KeptNetwork, load_networks, network_files
from ..runs import RunFolder
from .shared import require_run


@dataclass(frozen=True)
class Learned:
    """Either encoders (or one encoder of all modalities) with heads on their frozen features, or a network that labels trained."""

    root: Path  # of the run
    fold: int
    seed: int
    encoders: dict[str, Encoder] | Joint | None
    heads: tuple[KeptHead, ...]
    network: KeptNetwork | None
    about: Mapping[str, Any]  # what the files say: name, modalities, projection, window

    @property
    def sliding(self) -> bool:
        """Whether features or answers are means over several windows of a recording."""
        window = self.about["window"]
        return window["seconds"] is not None and window["embed"] == "sliding"

    def __str__(self) -> str:
        what = f", network {network_name(self.network)}" if self.network is not None else ""
        return f"{self.about.get('name', self.root.name)}, fold {self.fold}, seed {self.seed}{what}"


def network_name(network: KeptNetwork) -> str:
    """TASK~INPUT~HEAD, as its files are called."""
    return f"{network.task.name}~{network.input}~{network.name}"


def read_learned(root: Path, fold: int | None = None, seed: int | None = None, network: str | None = None) -> Learned:
    """What a run learned in a fold and seed, the first finished ones if left out.

    network  TASK~INPUT~HEAD of one that labels trained; left out: the encoders of `pretrain` and the heads on them or, in a run without
             any, its only network

    Raises StageError, which says what there is, for anything that is not.
    """
    require_run(root)
    run = RunFolder(root)
    probed, supervised = run.units("probe"), run.units("supervise")
    units = supervised if network is not None or not probed else probed
    if not units:
        what = "network that labels trained" if network is not None else "finished fold and seed"
        raise StageError(f"{root}: has no {what}; `mmcl run` its recipe to the end first")
    chosen = [unit for unit in units if fold in (None, unit[0]) and seed in (None, unit[1])]
    if not chosen:
        there = ", ".join(f"fold {one} seed {other}" for one, other, _ in units)
        raise StageError(f"{root}: has finished {there}, and not what is asked for (fold {fold}, seed {seed})")
    number, drawn, folder = chosen[0]
    if units is supervised:
        return _one_network(root, number, drawn, folder, network)
    pretrained = run.stage("pretrain", number, drawn)
    if not (pretrained / "encoders.json").exists():
        raise StageError(
            f"{root}: was not pretrained (epochs: 0), so its encoders are random; there is nothing learned to give away"
        )
    about = describe_encoders(pretrained)
    encoders = load_joint(pretrained) if about.get("pretext") else load_encoders(pretrained)
    heads = tuple(load_heads(folder)) if (folder / "heads.json").exists() else ()
    return Learned(root, number, drawn, encoders, heads, None, about)


def _one_network(root: Path, fold: int, seed: int, folder: Path, name: str | None) -> Learned:
    files = {path.stem: path for path in network_files(folder)}
    if name is None and len(files) == 1:
        (name,) = files
    if name not in files:
        asked = f"and not '{name}'" if name is not None else "of which --network has to name one"
        raise StageError(f"{folder}: holds the networks {', '.join(files) or 'none'}, {asked}")
    (network,) = load_networks(files[name])
    return Learned(root, fold, seed, None, (), network, network.about)
