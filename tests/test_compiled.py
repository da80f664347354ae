"""Networks as torch.compile translates them: for batches of one shape alone, with the same result."""

from __future__ import annotations

import functools
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mmcl.api import Encoded, RecipeError, StageError, Stream
from mmcl.model.compiled import Compiled
from mmcl.report import run_and_report as run_all
from mmcl.stages.learners import Pairs
from mmcl.stages.prepare import prepare
from mmcl.stages.pretrain import pretrain
from mmcl.stages.units import units_of


class Mean(nn.Module):
    """The mean over time through a linear layer."""

    width = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, stream: Stream) -> Encoded:
        return Encoded(self.layer(stream.values.mean(1)))


def stream(rows: int, steps: int) -> Stream:
    values = torch.randn(rows, steps, 4, generator=torch.Generator().manual_seed(0))
    return Stream(values, torch.ones(rows, steps, dtype=torch.bool), torch.ones(rows, dtype=torch.bool))


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without a C++ compiler: it traces, and runs what it has traced as it stands."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


@pytest.mark.parametrize(("rows", "steps", "taken"), [(6, 5, True), (5, 5, False), (6, 4, False)])
def test_one_shape_alone_is_translated(rows, steps, taken):
    one = Compiled(Mean(), 6, 5, "it")
    assert one.takes(stream(rows, steps)) == taken


def test_nothing_is_translated_that_is_not_learned_from():
    one = Compiled(Mean(), 6, None, "it")
    assert one.takes(stream(6, 9))
    with torch.no_grad():
        assert not one.takes(stream(6, 9))
    one.backbone.eval()
    assert not one.takes(stream(6, 9))


def test_what_torch_cannot_translate_is_one_sentence(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    with pytest.raises(StageError) as error:
        Compiled(Mean(), 6, 5, "backbone 'mean' (modalities.voice.backbone; acme)")(stream(6, 5))
    assert str(error.value).startswith(
        "backbone 'mean' (modalities.voice.backbone; acme): torch.compile cannot translate it here"
    )
    assert "leave its modality out of pretrain.compile" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_whose_network_cannot_be_translated_learns_without_pretrain_compile(tiny_plan, run, monkeypatch):
    """What the sentence says to do, in the run that it ended."""

    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    changes = (
        "dataset={use: toy, samples: 24, speakers: 6}",
        "window.seconds=0.5",
        "pretrain.epochs=1",
        "pretrain.batch_size=4",
    )
    with pytest.raises(StageError, match=r"modalities\.audio\.backbone.*; leave its modality out of pretrain\.compile"):
        run_all(tiny_plan(*changes, "pretrain.compile=[audio]"), run, workers=1, stop_after="pretrain")
    run_all(tiny_plan(*changes), run, workers=1, stop_after="pretrain")
    assert list(run.root.rglob("pretrain/encoders.safetensors"))


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler"
)
def test_the_translation_gives_the_same_vectors_and_gradients():
    torch.manual_seed(0)
    network = Mean()
    one, batch = Compiled(network, 6, 5, "it"), stream(6, 5)
    gradients = []
    for through in (one, network):
        network.zero_grad()
        vector = through(batch).vector
        vector.square().sum().backward()
        gradients.append((vector.detach(), network.layer.weight.grad.clone()))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_training_goes_through_it_for_whole_batches_and_learns_the_same(tiny_plan, run, tmp_path, traced, monkeypatch):
    """13 recordings in batches of 5, say: whole batches are translated, the last one is not."""
    changes = ("window.seconds=0.5", "pretrain.epochs=1")
    plan = tiny_plan(*changes, "pretrain.compile=[audio]")
    prepare(plan, run, workers=1)
    (unit, *_) = units_of(plan, run)
    learner = Pairs(unit, torch.device("cpu"))
    assert learner.encoders["audio"].compiled is not None
    assert learner.encoders["landmarks"].compiled is None
    went: list[int] = []
    whole = Compiled.__call__
    monkeypatch.setattr(Compiled, "__call__", lambda self, rows: (went.append(len(rows.present)), whole(self, rows))[1])
    pretrain(plan, run)
    size = plan.recipe.pretrain.batch_size
    assert went
    assert set(went) == {size}
    other = type(run)(tmp_path / "plain" / "run")
    prepare(tiny_plan(*changes), other, workers=1)
    pretrain(tiny_plan(*changes), other)
    files = sorted(path.relative_to(run.root) for path in run.root.rglob("*.safetensors") if "fold" in str(path))
    assert files
    for path in (
        files
    ):  # to the digits of float32: what is translated goes through the library's convolutions, what is not through our own
        theirs, mine = load_file(other.root / path), load_file(run.root / path)
        assert theirs.keys() == mine.keys()
        for name, tensor in theirs.items():
            torch.testing.assert_close(mine[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("window.seconds=0.5", "pretrain.compile=[noise]"), r"pretrain\.compile\[0\]: is no modality of this recipe"),
        (("window={share: 0.5}", "pretrain.compile=[audio]"), "windows differ in length without window.seconds"),
        (("window.seconds=0.5", "pretrain.compile=[text]"), "the steps of text come at no fixed rate"),
        (
            ("window.seconds=0.5", "pretrain.compile=[audio]", "pretrain.sync_batchnorm=true"),
            "has not been tried beside sync_batchnorm",
        ),
    ],
)
def test_a_network_that_would_be_translated_again_and_again_is_refused(tiny_plan, changes, sentence):
    with pytest.raises(RecipeError, match=sentence):
        tiny_plan(*changes)
