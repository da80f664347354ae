"""A tiny random model of the real class, as its library saves it."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] the film great ##er was so it word ##s a ##b c d"


@pytest.fixture(scope="session")
def extra():
    """What pip installs for an extra of mmcl, by the names of packages."""

    def of(name):
        needs = [
            one
            for one in importlib.metadata.requires("mmcl") or ()
            if one.endswith(f'extra == "{name}"') or one.endswith(f"extra == '{name}'")
        ]
        return [re.match(r"[\w.-]+", one)[0] for one in needs]

    return of


@pytest.fixture(scope="session")
def bert():
    """Writes a random BERT of 3 layers with a tokenizer of 18 pieces into a folder; options are those of its config."""
    transformers = pytest.importorskip("transformers")
    import torch

    def write(folder, **options):
        folder.mkdir(exist_ok=True)
        (folder / "vocab.txt").write_text("\n".join(PIECES.split()))
        torch.manual_seed(0)
        sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
        config = transformers.BertConfig(**{"vocab_size": len(PIECES.split()), "initializer_range": 0.3, **sizes, **options})
        transformers.BertModel(config).save_pretrained(folder)
        transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        return folder

    return write
