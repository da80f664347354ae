"""Modality-pairwise contrastive learning with plug-ins and recipes.

import mmcl

plan = mmcl.check("quickstart")                     # every problem of a recipe at once, as RecipeError
report = mmcl.run("quickstart", out="runs/first")   # path of report.html
encoders = mmcl.load_encoders("runs/first/fold-00/seed-0/pretrain")   # modality → torch module, in eval mode
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .installed import set_aside_damaged

if TYPE_CHECKING:
    from .model.encoder import Encoder
    from .model.joint import Joint
    from .model.kept import KeptHead
    from .model.kept_network import KeptNetwork
    from .recipe.plan import Plan
    from .use.publish import Published
    from .use.session import Session

__version__ = "0.1.0"
set_aside_damaged()

__all__ = ["__version__", "check", "features", "load", "load_encoders", "load_heads", "load_joint", "open", "run"]


def check(recipe: str | Path, set: Sequence[str] = (), data: str | Path | None = None, presets: Sequence[str] = ()) -> Plan:
    """The plan of a recipe (a file, or the name of a shipped one), made without reading a recording and without torch (a dataset of one's own folder reads its table).

    set   overrides such as "pretrain.epochs=10"
    data  folder under which datasets lie
    presets  papers' settings laid over the recipe before `set` (`mmcl list-presets`)

    Raises RecipeError with every problem, each with its line.
    """
    from .recipe.planner import laid_over, load_plan
    from .recipe.shipped import find

    return load_plan(find(str(recipe)), laid_over(presets, set), Path(data) if data is not None else None)


def run(
    recipe: str | Path,
    out: str | Path | None = None,
    set: Sequence[str] = (),
    data: str | Path | None = None,
    *,
    workers: int | None = None,
    strict: bool = False,
    device: str = "auto",
    stop_after: str | None = None,
    presets: Sequence[str] = (),
    overwrite: bool = False,
    more_epochs: bool = False,
    jobs: int | None = None,
    only: str | None = None,
    engine: str = "local",
    address: str | None = None,
) -> Path:
    """Run a recipe, or go on with it, and return the path of its report; the same as `mmcl run`.

    out  the run folder; left out: runs/<name of the recipe>. What is finished and unchanged there is not done again.
    overwrite    replace finished work of another plan, or of other recordings, in that folder; without it that is refused
    more_epochs  go on with finished pretraining from its last epoch (`--continue`)
    jobs         folds and seeds at a time, each in a process of its own; left out: one, or on a cluster as many as fit
    only         "fold=3,seed=1", or one of the two; the report is there once every fold and seed is, and until then the path is the folder's
    engine       "local", or "ray": folds and seeds, and what is prepared, run on the nodes of a Ray cluster
    address      HOST:PORT of that cluster; left out: the one of this machine

    Raises MmclError, with one clear sentence, for everything that is the user's to mend.
    """
    from .report import run_and_report
    from .runs import RunFolder

    plan = check(recipe, set, data, presets)
    return run_and_report(
        plan,
        RunFolder(Path(out) if out is not None else Path("runs") / plan.name),
        workers,
        strict,
        device,
        stop_after,
        overwrite,
        more_epochs,
        jobs,
        only,
        engine,
        address,
    )


def open(run: str | Path, data: str | Path | None = None, device: str = "auto") -> Session:
    """A finished run that answers: `.embed(files)`, `.predict(files)`, `.search(query, among)`, `.encoders`, `.heads`.

    data    folder under which datasets lie now, for ids of the run's own recordings; left out: where the run found them
    device  "auto", "cpu" or "cuda"

    Files, folders, tables and ids are taken as `mmcl predict` takes them. Raises MmclError, with one clear sentence, if the folder is no
    finished run, or a plug-in of it is no longer installed.
    """
    from .use.session import Session

    return Session(run, data, device)


def features(run: str | Path, split: str = "test", fold: int | None = None, seed: int | None = None) -> dict[str, list[Any]]:
    """The frozen features that a run took of its own recordings, as columns for `pandas.DataFrame`: a row a recording.

    Columns: id, group, a column for each label with the names of classes, and `<modality>.<number>` for each feature; of a modality that a
    recording lacks these are NaN.

    split       train, valid or test
    fold, seed  left out: the first

    Raises StageError if the run has no such features.
    """
    from .use.table import features_of

    return features_of(Path(run), split, fold, seed)


def load(name: str | Path) -> Published:
    """A folder that `mmcl publish` laid, opened in eval mode; or one of the hub, by OWNER/NAME, where huggingface_hub is installed.

    Its `embed` and `predict` take prepared streams; `encoders`, `heads` and `networks` are torch modules. Nothing in the folder is trusted:
    no pickle, no code, no link.

    Raises DataError if it is no such folder, PluginError if a plug-in is not installed here or builds other weights.
    """
    from .use.publish import load as opened

    return opened(name)


def load_encoders(folder: str | Path) -> dict[str, Encoder]:
    """The trained encoders that lie in a folder of a run by modality, in eval mode, rebuilt without the recipe.

    folder  …/pretrain, or …/supervise/models/TASK~INPUT~HEAD; …/supervise where it holds one network alone

    Raises DataError if the folder holds none, PluginError if a backbone's plug-in is no longer installed.
    """
    from .model.kept_network import load_trained as load

    return load(folder)


def load_joint(folder: str | Path) -> Joint:
    """What a run with `pretrain.pretext` learned, in its `pretrain` folder, in eval mode, rebuilt without the recipe.

    Raises DataError if the folder holds nothing trained, PluginError if it holds an encoder for each modality instead, or if
    the pretext's plug-in is no longer installed.
    """
    from .model.joint import load_joint as load

    return load(folder)


def load_heads(folder: str | Path) -> list[KeptHead] | list[KeptNetwork]:
    """The heads of a run's `probe` folder, in the order of the recipe, or the networks of its `supervise` folder, rebuilt without the recipe.

    Each gives `outputs` and `probabilities`, in eval mode: those of `probe` of frozen features by modality, those of `supervise`, which bring
    the encoders that were trained with them, of windows of streams. Raises DataError if the folder holds none, PluginError if a plug-in is
    no longer installed.
    """
    from .model.kept import load_heads as load
    from .model.kept_network import load_networks, network_files

    return load_networks(folder) if network_files(folder) else load(folder)
