"""For the tests of a dataset: a tiny copy to read and one to spoil, refusals of one sentence, the real recordings.

tiny_copies(spec, recordings)   two fixtures: the copy that `sample` writes, and another that a test may spoil
expect_refusal(call, *words)    a call raises DataError in one sentence that holds the words
expect_seeded(…)                one seed writes the same files, another seed others
calls_of(…)                     what a function of a module is called with, from now on
write_pictures(folder, frames)  a film as a folder of numbered pictures
real_data(*needs)               the folder of the real recordings, or the test is skipped
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ..api.dataset import DatasetSpec
from ..api.errors import DataError
from .checks import expect

REAL = "MMCL_REAL_DATA"
"""The variable that names the folder of the real recordings."""


def dataset_of(module: Any) -> DatasetSpec:
    """The one dataset that a plug-in offers."""
    specs: list[DatasetSpec] = []
    module.register_datasets(specs.append)
    (spec,) = specs
    return spec


def tiny_copies(spec: DatasetSpec, recordings: int) -> tuple[Any, Any]:
    """Two fixtures: the folder of a tiny copy, written once for all tests of a module, and a copy of it that a test may spoil.

    `root, spoilt = tiny_copies(MY_DATASET, 48)` at the top of a test file; tests take them by these names.
    """

    kept: list[Path] = []  # written by the first test that asks

    def written(folders: pytest.TempPathFactory) -> Path:
        if not kept:
            folder = folders.mktemp(spec.name)
            write_sample(spec, folder, recordings)
            kept.append(folder)
        return kept[0]

    @pytest.fixture(scope="module")
    def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return written(tmp_path_factory)

    @pytest.fixture
    def spoilt(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
        return Path(shutil.copytree(written(tmp_path_factory), tmp_path / spec.name))

    return root, spoilt


def write_sample(spec: DatasetSpec, folder: Path, recordings: int, seed: int = 0) -> None:
    """What `sample` writes."""
    expect(spec.sample is not None, f"dataset '{spec.name}' brings no `sample`")
    assert spec.sample is not None
    spec.sample(folder, recordings, seed)


def expect_refusal(call: Callable[[], object], *words: str) -> None:
    """The call raises DataError, in one line that holds each of the words."""
    try:
        call()
    except DataError as error:
        sentence = str(error)
    else:
        raise AssertionError(f"nothing is refused; a DataError that says {', '.join(map(repr, words))} was expected")
    expect("\n" not in sentence, f"a refusal is one line; found {sentence!r}")
    for word in words:
        expect(word in sentence, f"the refusal says {word!r}; found {sentence!r}")


def expect_seeded(spec: DatasetSpec, root: Path, recordings: int, folder: Path, differs: str | None = None) -> None:
    """`sample` writes the files under `root` to the byte once more with seed 0, and others with seed 1.

    folder   where they are written
    differs  the file that another seed changes; any of them, if left out
    """
    again, other = folder / "again", folder / "other"
    write_sample(spec, again, recordings)
    write_sample(spec, other, recordings, seed=1)
    files = files_of(root)
    expect(files == files_of(again), f"dataset '{spec.name}': one seed writes other files the second time")
    changed = [file for file in files if (root / file).read_bytes() != (again / file).read_bytes()]
    expect(not changed, f"dataset '{spec.name}': one seed writes other contents the second time: {changed[:3]}")
    looked_at = files if differs is None else [differs]
    expect(
        any((root / file).read_bytes() != (other / file).read_bytes() for file in looked_at),
        f"dataset '{spec.name}': another seed writes the same",
    )


def files_of(folder: Path) -> list[str]:
    """Every file below a folder, by its path within."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def calls_of(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of a module's function from now on, as they come; the function does what it did."""
    calls: list[tuple[Any, ...]] = []
    function = getattr(module, name)

    def noting(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **named)

    monkeypatch.setattr(module, name, noting)
    return calls


def write_pictures(folder: Path, frames: Iterable[Any], name: str = "{:04d}.png", first: int = 0, **options: Any) -> None:
    """A film as a folder of numbered pictures.

    frames   [height, width, 3] each, in 0..255
    name     of a picture, given its number
    first    the number of the first
    options  of the format, such as `quality`
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames, first):
        Image.fromarray(np.asarray(frame, np.uint8)).save(folder / name.format(i), **options)


def real_data(*needs: str) -> Path:
    """The folder that MMCL_REAL_DATA names, if it holds all that is needed; otherwise the test is skipped, saying so."""
    folder = os.environ.get(REAL)
    if not folder or not all((Path(folder) / need).exists() for need in needs):
        pytest.skip(f"set {REAL} to a folder that holds {', '.join(needs)} to read the real recordings")
    return Path(folder)
