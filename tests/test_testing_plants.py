"""Faults planted in small plug-ins of every kind, one a row: each is caught, by the check that it is there for. The good ones pass.

The other files of this name hold the mutants of one kind each; these are what those let through.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmcl.api import (
    BackboneSpec,
    DataError,
    DatasetInfo,
    DatasetSpec,
    Encoded,
    Field,
    HeadSpec,
    Layout,
    LossSpec,
    ModalitySpec,
    NoParams,
    Params,
    PositivesSpec,
    PretextSpec,
    SampleRef,
    Scored,
    ScorerSpec,
    Sequence,
    Source,
    Task,
)
from mmcl.testing import (
    check_backbone,
    check_dataset,
    check_head,
    check_loss,
    check_modality,
    check_plugin,
    check_positives,
    check_pretext,
    check_scorer,
)

# ------------------------------------------------------------------------------------------------------------- backbones


class Options(Params):
    heads: int = Field(1, ge=1, le=6, description="must divide 6")
    slope: float = Field(0.5, ge=0, lt=1, description="anything")
    norm: Literal["none", "layer", "other"] = Field("none", description="which")
    bias: bool = Field(True, description="whether")


class Net(nn.Module):
    """A layer, and the mean over real steps; `fault` plants one."""

    def __init__(self, params, layout, fault):
        super().__init__()
        self.width, self.fault, self.calls, self.params = 6, fault, 0, params
        if fault == "seeds when built":
            torch.manual_seed(1)
        self.layer = nn.Linear(layout.sizes["channel"], 6)
        self.other = nn.Linear(6, 6)
        self.plain = torch.ones(6)
        if fault.startswith("breaks"):
            self.breaks(params)
        if fault == "places for 512 steps":
            self.places = nn.Parameter(torch.randn(512, 6))

    def breaks(self, params):
        if self.fault == "breaks at a bound" and params.heads == 6:
            raise RuntimeError("shape mismatch")
        if self.fault == "breaks at the other bound" and params.slope == 0:
            raise ZeroDivisionError("slope")
        if self.fault == "breaks inside an open bound" and params.slope > 0.99:
            raise OverflowError("slope")
        if self.fault == "breaks with a choice" and params.norm == "other":
            raise KeyError("other")
        if self.fault == "breaks with a switch" and not params.bias:
            raise AttributeError("bias")

    def forward(self, stream):
        fault, steps, values = self.fault, stream.steps, stream.values
        self.calls += 1
        BACKBONE_EFFECTS.get(fault, lambda: None)()
        hidden = self.layer(values)
        if fault == "makes its places on the CPU":
            hidden = hidden + torch.arange(values.shape[1])[None, :, None]
        if fault == "keeps a constant that is no buffer":
            hidden = hidden * self.plain
        if fault == "asks NumPy":
            hidden = hidden + torch.from_numpy(np.asarray(values.detach().numpy())).sum() * 0
        if fault == "pads with CPU zeros":
            hidden = torch.cat([torch.zeros(len(values), 1, 6), hidden], 1)[:, 1:]
        if fault == "places for 512 steps":
            hidden = hidden + self.places[torch.arange(values.shape[1], device=values.device)]
        if fault == "fails beyond 1,000 steps" and values.shape[1] > 1000:
            raise ValueError("too long")
        hidden = hidden * steps[..., None]
        vector = hidden.sum(1) / steps.sum(1, keepdim=True)
        vector = vector + (0 if fault == "idle in disguise" else 1) * self.other(vector)
        if fault == "idle in disguise":
            vector = vector + 0 * self.other(vector)
        if fault == "constant vector":
            vector = vector * 0 + self.layer.bias + self.other.bias
        if fault == "zero gradient":
            vector = vector.clamp(1e9, 2e9)
        if fault == "divides by its own spread":
            vector = vector / (hidden.var(1, correction=0) * steps.sum(1, keepdim=True)).sqrt()
        if fault == "counts its calls":
            vector = vector + 0.1 * (self.calls % 3)
        if fault == "remembers the last batch":
            last, self.last = getattr(self, "last", vector.detach().mean()), vector.detach().mean()
            vector = vector + last
        if fault == "logarithm of bf16" and hidden.dtype == torch.bfloat16:
            vector = vector / (vector - vector)
        return Encoded(vector)


BACKBONE_EFFECTS = {
    "seeds torch": lambda: torch.manual_seed(0),
    "seeds numpy": lambda: np.random.seed(0),  # noqa: NPY002 - the fault
    "seeds random": lambda: random.seed(0),
    "switches gradients off": lambda: torch.set_grad_enabled(False),
    "sets a variable": lambda: os.environ.setdefault("PLANTED_VARIABLE", "1"),
    "hides warnings": lambda: warnings.simplefilter("ignore"),
    "filters warnings": lambda: warnings.filterwarnings("ignore", category=UserWarning),
    "leaves a thread": lambda: threading.Thread(target=waits, daemon=True).start(),
    "goes elsewhere": lambda: os.chdir("/"),
    "benchmarks cudnn": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "allows tf32": lambda: torch.set_float32_matmul_precision("high"),
    "takes all threads": lambda: torch.set_num_threads(2),
    "sets seterr": lambda: np.seterr(all="ignore"),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "detects anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "takes a variable away": lambda: os.environ.pop("PLANTED_BEFORE", None),
    "resets warnings": lambda: warnings.resetwarnings(),
    "shows warnings otherwise": lambda: setattr(warnings, "showwarning", print),
    "stops the collector": gc.disable,
    "is deterministic for all": lambda: torch.use_deterministic_algorithms(True),
    "does without cudnn": lambda: setattr(torch.backends.cudnn, "enabled", False),
    "flushes denormal numbers": lambda: torch.set_flush_denormal(True),
    "takes Ctrl-C": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    "hurries sockets": lambda: socket.setdefaulttimeout(1.0),
    "raises the limit of recursion": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
}


def waits():
    time.sleep(0.2)


@pytest.fixture(autouse=True)
def unharmed(tmp_path, monkeypatch):
    """Whatever a plant changes of the process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLANTED_VARIABLE", raising=False)
    monkeypatch.setenv("PLANTED_BEFORE", "1")
    interrupt, shows, limit = signal.getsignal(signal.SIGINT), warnings.showwarning, sys.getrecursionlimit()
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    with warnings.catch_warnings(), np.errstate():
        yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.autograd.set_detect_anomaly(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.enabled = True
    torch.use_deterministic_algorithms(False)
    torch.set_flush_denormal(False)
    signal.signal(signal.SIGINT, interrupt)
    socket.setdefaulttimeout(None)
    sys.setrecursionlimit(limit)
    warnings.showwarning = shows
    gc.enable()


def backbone(fault=""):
    def build(params, layout):
        return Net(params, layout, fault)

    return BackboneSpec("net", "a layer", (("time", "channel"),), Options, build)


BACKBONES = {
    "seeds when built": "changes torch's seed",
    "default dtype": "torch's default dtype",
    "seeds torch": "changes torch's seed",
    "seeds numpy": "NumPy's global generator",
    "seeds random": "the generator of `random`",
    "switches gradients off": "has no gradient at all|gradient switch",
    "sets a variable": "the environment variable PLANTED_VARIABLE",
    "hides warnings": "warnings.simplefilter",
    "filters warnings": "warnings.filterwarnings",
    "leaves a thread": "a thread that goes on",
    "goes elsewhere": "the current folder",
    "benchmarks cudnn": "cudnn.benchmark",
    "allows tf32": "matmul precision",
    "takes all threads": "torch's threads",
    "sets seterr": "np.seterr",
    "detects anomalies": "anomaly detection",
    "takes a variable away": "the environment variable PLANTED_BEFORE",
    "resets warnings": "warnings.resetwarnings",
    "shows warnings otherwise": "how warnings are shown",
    "stops the collector": "the collector of garbage",
    "is deterministic for all": "deterministic algorithms",
    "does without cudnn": "cudnn.enabled",
    "flushes denormal numbers": "denormal numbers as zeros",
    "takes Ctrl-C": "what Ctrl-C does",
    "hurries sockets": "the patience of sockets",
    "raises the limit of recursion": "the limit of recursion",
    "breaks at a bound": "with heads: 6 raises RuntimeError: shape mismatch",
    "breaks at the other bound": "with slope: 0.0 raises ZeroDivisionError",
    "breaks inside an open bound": "with slope: 0.999 raises OverflowError",
    "breaks with a choice": "with norm: other raises KeyError",
    "breaks with a switch": "with bias: False raises AttributeError",
    "makes its places on the CPU": "was made on the CPU",
    "keeps a constant that is no buffer": "was made on the CPU",
    "asks NumPy": "asked of a tensor on the accelerator",
    "pads with CPU zeros": "was made on the CPU",
    "places for 512 steps": "a stream of 1,100 steps raises IndexError",
    "fails beyond 1,000 steps": "a stream of 1,100 steps raises ValueError",
    "idle in disguise": "'other.weight' is zero everywhere",
    "constant vector": "other recordings get the same vector",
    "zero gradient": "zero everywhere|same vector",
    "divides by its own spread": "not finite|NaN",
    "counts its calls": "different vectors|another vector once another stream",
    "remembers the last batch": "different vectors|another vector once another stream",
    "logarithm of bf16": "bfloat16",
}


def test_the_good_backbone_passes():
    check_backbone(backbone())


@pytest.mark.parametrize(("fault", "words"), BACKBONES.items())
def test_a_fault_of_a_backbone_is_caught(fault, words):
    with pytest.raises(AssertionError, match=words):
        check_backbone(backbone(fault))


# ---------------------------------------------------------------------------------------------------------------- losses


class LossOptions(Params):
    temperature: float = Field(0.2, gt=0, lt=10, description="divides the cosines")
    form: Literal["in", "out"] = Field("out", description="which")


LOSS_EFFECTS = {name: BACKBONE_EFFECTS[name] for name in ("seeds torch", "seeds numpy", "sets a variable", "hides warnings")}


class Nce:
    """Mean over anchors of −log(Σ positives / Σ candidates that are not ignored)."""

    symmetric = False

    def __init__(self, params, fault):
        self.params, self.fault, self.calls, self.centre = params, fault, 0, None
        self.reduction = "whole" if "whole" in fault else "mean"
        if fault == "breaks with a form" and params.form == "in":
            raise TypeError("form")

    def __call__(self, pair):
        fault, ignore, positive = self.fault, pair.ignore, pair.positive
        self.calls += 1
        LOSS_EFFECTS.get(fault, lambda: None)()
        if "ignores no mask" in fault:
            ignore = torch.zeros_like(ignore)
        logits = pair.similarity() / self.params.temperature
        if "the wrong way round" in fault:
            logits = -logits
        if fault == "breaks at a small temperature" and self.params.temperature < 0.05:
            logits = logits / 0
        if fault == "eye on the CPU":
            positive = positive | (torch.eye(*positive.shape, dtype=torch.bool) & positive)
        low = torch.finfo(logits.dtype).min
        anchors = positive.any(1)
        each = logits.masked_fill(ignore, low).logsumexp(1) - logits.masked_fill(~positive, low).logsumexp(1)
        each = torch.where(anchors, each, 0.0)
        if fault == "remembers a centre":
            held, self.centre = self.centre, each.detach().mean()
            each = each + (0 if held is None else held) * anchors
        if fault == "counts its calls":
            each = each + (self.calls > 2) * anchors
        if fault == "draws":
            each = each + torch.rand_like(each) * anchors
        if fault == "mean cosine of all, whole":
            each = each + logits.mean() * anchors
        total = each.sum() / anchors.sum().clamp_min(1) + 0 * logits.sum()
        return Scored(total.detach() + 0 * logits.sum() if fault == "constant" else total, anchors.sum())


def loss(fault=""):
    def build(params):
        return Nce(params, fault)

    return LossSpec("nce", "a small loss", LossOptions, build)


LOSSES = {
    "ignores no mask": "candidates that every anchor ignores change",
    "ignores no mask, whole": "candidates that every anchor ignores change",
    "mean cosine of all, whole": "candidates that every anchor ignores change|anchors",
    "the wrong way round": "to be lower where they agree",
    "the wrong way round, whole": "to be lower where they agree",
    "remembers a centre": "twice|another pair has been scored",
    "counts its calls": "another pair has been scored|come in another order",
    "draws": "twice|another order",
    "constant": "slope|gradient of zero",
    "eye on the CPU": "was made on the CPU",
    "breaks with a form": "with form: in raises TypeError",
    "breaks at a small temperature": "with temperature: 0.01: the loss is not finite",
    "seeds torch": "changes torch's seed",
    "seeds numpy": "NumPy's global generator",
    "sets a variable": "the environment variable",
    "hides warnings": "warnings.simplefilter",
}


def test_the_good_loss_passes():
    check_loss(loss())


@pytest.mark.parametrize(("fault", "words"), LOSSES.items())
def test_a_fault_of_a_loss_is_caught(fault, words):
    with pytest.raises(AssertionError, match=words):
        check_loss(loss(fault))


def rule(fault):
    seen = []

    def same_label(left, right):
        BACKBONE_EFFECTS.get(fault, lambda: None)()
        mine, theirs = left.targets["mood"][:, None], right.targets["mood"][None, :]
        known = torch.ones_like(mine == theirs) if fault == "unknown labels belong together" else (mine != -1) & (theirs != -1)
        itself = left.row[:, None] == right.row[None, :]
        positive = (mine == theirs) & known | itself
        seen.append(len(left.row))
        if fault == "remembers":
            positive = positive & (torch.full_like(positive, len(seen) % 2 == 0) | itself)
        if fault == "eye on the CPU":
            positive = positive | torch.zeros(*positive.shape, dtype=torch.bool)
        return positive, ~positive & ~known

    return PositivesSpec("same", "one mood", NoParams, lambda params: same_label, lambda params, names: ("mood",))


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "unknown labels belong together": "whose label is unknown",
        "remembers": "depends on the other rows",
        "eye on the CPU": "was made on the CPU",
        "seeds torch": "changes torch's seed",
    }.items(),
)
def test_a_fault_of_a_rule_is_caught(fault, words):
    check_positives(rule(""))
    with pytest.raises(AssertionError, match=words):
        check_positives(rule(fault))


# ------------------------------------------------------------------------------------------------------------ modalities


class Halving(Params):
    shift: float = Field(0.0, ge=0, le=2, description="added")


class Halves:
    """The mean of every two steps."""

    def __init__(self, params, source, fault):
        self.params, self.fault, self.mean, self.count = params, fault, None, 0

    def extract(self, raw):
        fault = self.fault
        BACKBONE_EFFECTS.get(fault, lambda: None)()
        values = raw.values
        if fault == "one step breaks" and len(values) == 1:
            raise IndexError("index 1 is out of bounds")
        if fault == "an empty one is taken" and not len(values):
            return np.zeros((0, 6), np.float32)
        if fault == "an empty one breaks" and not len(values):
            raise ValueError("need at least one array")
        if fault == "a long one breaks" and len(values) > 1000:
            raise MemoryError("too long")
        if fault == "a long one is refused" and len(values) > 1000:
            raise DataError("too long")
        if len(values) == 0:
            raise DataError("holds no step")
        steps = max(1, len(values) // 2)
        out = values[: steps * 2].reshape(steps, -1, 6).mean(1) + self.params.shift
        if fault == "scales by its own spread":
            out = out / (values.std(0) if len(values) > 1 else 1)
        if fault == "a constant one is refused" and len(values) > 1 and not np.ptp(values, axis=0).any() and values.any():
            raise DataError("nothing moves")
        if fault == "zeros give no number":
            out = out / np.abs(values).max()
        if fault == "fits its mean":
            self.mean = out.mean(0) if self.mean is None else self.mean
            out = out - self.mean
        if fault == "running mean":
            self.count += 1
            self.mean = out.mean(0) if self.mean is None else self.mean + (out.mean(0) - self.mean) / self.count
            out = out - self.mean
        if fault == "counts":
            self.count += 1
            out = out + self.count
        if fault == "constant":
            out = np.zeros_like(out)
        if fault == "a bound gives infinity" and self.params.shift == 2:
            out = out / 0
        return out.astype(np.float32)


def modality(fault=""):
    def layout(params, source):
        if len(source.notes["shape"]) != 1:
            raise ValueError("channels only")
        return Layout("signal", ("time", "channel"), {"channel": 6}, source.rate / 2)

    def build(params, source):
        return Halves(params, source, fault)

    return ModalitySpec("halves", "half as many steps", ("sequence",), Halving, layout, build)


MODALITIES = {
    "one step breaks": "a recording of one step raises IndexError",
    "an empty one is taken": "a recording of no step gives no step",
    "an empty one breaks": "a recording of no step raises ValueError",
    "a long one breaks": "more than 1,000 steps raises MemoryError",
    "a long one is refused": "more than 1,000 steps is refused",
    "scales by its own spread": "constant values gives a NaN or an infinite value",
    "a constant one is refused": "constant values is refused",
    "zeros give no number": "zeros gives a NaN or an infinite value",
    "fits its mean": "once another has been extracted",
    "running mean": "once another has been extracted",
    "counts": "once another has been extracted",
    "constant": "two different recordings give the same stream",
    "a bound gives infinity": "with shift: 2.0: what it extracts holds a NaN or an infinite value",
    "seeds numpy": "NumPy's global generator",
    "seeds random": "the generator of `random`",
    "sets a variable": "the environment variable",
    "filters warnings": "warnings.filterwarnings",
    "sets seterr": "np.seterr",
    "goes elsewhere": "the current folder",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("fault", "words"), MODALITIES.items())
def test_a_fault_of_a_modality_is_caught(fault, words):
    with pytest.raises(AssertionError, match=words):
        check_modality(modality(fault))


def test_the_good_modality_passes():
    check_modality(modality())


# -------------------------------------------------------------------------------------------------------------- datasets


class Wrist:
    """One <id>.npy of [50, 3] a recording; `fault` plants one."""

    def __init__(self, root, fault):
        self.root, self.fault, self.last, self.calls = root, fault, None, 0

    def samples(self):
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; ask the authors")
        paths = sorted(self.root.glob("*.npy"))
        if self.fault == "sorts by the folder's name":
            paths = paths[:: 1 if "sample" in str(self.root) else -1]
        return [self.ref(path, i) for i, path in enumerate(paths)]

    def ref(self, path, i):
        fault = self.fault
        number = int(path.stem[1:])
        group, split = f"p{number % 4}", "test" if number % 4 == 0 else "train"
        if fault == "a group in two splits":
            group = "p0" if number in (0, 1) else group
        target = number % 2
        if fault == "labels that are NaN":
            target = float("nan")
        facts = {"file": str(path)} if fault == "absolute paths among its facts" else {}
        id = str(path) if fault == "absolute paths as ids" else path.stem
        scores = [0.5, float("nan")] if fault == "scores that are NaN" else [0.5, 0.1]
        many = [0, float("nan")] if fault == "yes or no that is NaN" else [0, 1]
        return SampleRef(
            id, group, {"wrist": path.name}, {"mood": target, "va": scores, "many": many}, split, {"n": number, **facts}
        )

    def read(self, id, source):
        fault = self.fault
        BACKBONE_EFFECTS.get(fault, lambda: None)()
        path = self.root / f"{id}.npy"
        try:
            values = np.load(path, allow_pickle=False).astype(np.float32)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
        self.calls += 1
        if fault == "smooths with the last one":
            values, self.last = values if self.last is None else (values + self.last) / 2, values
        if fault == "hands out one array":
            self.last = values if self.last is None else self.last
            self.last[: len(values)] = values
            values = values if self.calls < 3 else self.last * 1.01
        if fault == "normalises by the first":
            self.last = values.mean(0) if self.last is None else self.last
            values = values - self.last
        if fault == "writes beside the data":
            (self.root / f"{id}.cache").write_bytes(b"x")
        if fault == "reads its folder's name" and "elsewhere" in str(self.root):
            values = values * 2
        return Sequence(values, 50.0)


def wrist(fault=""):
    def info(params):
        return DatasetInfo(
            {"wrist": Source("sequence", "wrist", 50.0, {"shape": [3]})},
            {
                "mood": Task("mood", "single-label", ("calm", "tense")),
                "va": Task("va", "regression", ("v", "a")),
                "many": Task("many", "multi-label", ("x", "y")),
            },
            "person",
            ("train", "test"),
        )

    def build(params, root):
        return Wrist(root, fault)

    def sample(root, n, seed):
        draw = np.random.default_rng(seed)
        for i in range(n):
            np.save(root / f"r{i:02}.npy", draw.normal(size=(50, 3)).astype(np.float32))

    return DatasetSpec("wrist", "a sensor", NoParams, info, build, sample)


DATASETS = {
    "a group in two splits": "would leak into training",
    "labels that are NaN": "index of one of its 2 classes",
    "scores that are NaN": "2 finite number",
    "yes or no that is NaN": "list of 0 or 1",
    "absolute paths among its facts": "another folder give another list",
    "absolute paths as ids": "NaN|cannot|another folder give another list",
    "sorts by the folder's name": "another folder give another list",
    "reads its folder's name": "read from another folder, it is not the same",
    "smooths with the last one": "asked again after others|fresh object",
    "hands out one array": "asked again after others|fresh object",
    "normalises by the first": "fresh object reads it otherwise|asked again",
    "writes beside the data": "reading writes r.*cache",
    "seeds numpy": "NumPy's global generator",
    "seeds random": "the generator of `random`",
    "sets a variable": "the environment variable",
    "hides warnings": "warnings.simplefilter",
    "goes elsewhere": "the current folder|cannot be read",
}


def test_the_good_dataset_passes(tmp_path):
    check_dataset(wrist(), tmp_path / "new")


@pytest.mark.parametrize(("fault", "words"), DATASETS.items())
def test_a_fault_of_a_dataset_is_caught(fault, words, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(AssertionError, match=words):
        check_dataset(wrist(fault), tmp_path / "new")


# ----------------------------------------------------------------------------------------- heads, pretexts, scorers


class HeadOptions(Params):
    hidden: int = Field(4, ge=1, le=8, description="units")


class Layer(nn.Module):
    def __init__(self, params, task, widths, fault):
        super().__init__()
        self.fault, self.calls = fault, 0
        if fault == "breaks at a bound" and params.hidden == 1:
            raise RuntimeError("hidden")
        self.layer = nn.Linear(sum(widths.values()), len(task.classes))

    def forward(self, encoded):
        self.calls += 1
        BACKBONE_EFFECTS.get(self.fault, lambda: None)()
        x = torch.cat([one.vector for one in encoded.values()], 1)
        if self.fault == "drops in eval":
            x = functional.dropout(x, 0.1, training=True)
        if self.fault == "ones on the CPU":
            x = x * torch.ones(x.shape[1])
        out = self.layer(x)
        if self.fault == "remembers":
            out = out + 0.01 * (self.calls % 2)
        return out * 0 + self.layer.bias.detach() * 0 if self.fault == "constant" else out


class OwnLossLayer(Layer):
    def loss(self, output, target):
        return (output - target).square().mean()


class SoundLossLayer(Layer):
    def loss(self, output, target):
        known = target.isfinite()
        return (output - target.nan_to_num()).square()[known].mean()


def head(fault="", kind=Layer, task="single-label"):
    def build(params, task, widths):
        return kind(params, task, widths, fault)

    return HeadSpec("layer", "a layer", (task,), HeadOptions, build)


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "drops in eval": "another output|other rows|twice",
        "remembers": "once other rows have been asked about|a row alone",
        "constant": "zero everywhere|on separable data",
        "ones on the CPU": "was made on the CPU",
        "breaks at a bound": "with hidden: 1 raises RuntimeError",
        "seeds torch": "changes torch's seed|twice",
        "seeds numpy": "NumPy's global generator",
        "sets a variable": "the environment variable",
    }.items(),
)
def test_a_fault_of_a_head_is_caught(fault, words):
    with pytest.raises(AssertionError, match=words):
        check_head(head(fault))


def test_a_head_whose_own_loss_takes_unknown_targets_for_numbers_is_caught():
    check_head(head())
    check_head(head(kind=SoundLossLayer, task="regression"))
    with pytest.raises(AssertionError, match="a target that is NaN"):
        check_head(head(kind=OwnLossLayer, task="regression"))


class Joint(nn.Module):
    def __init__(self, layouts, fault):
        super().__init__()
        self.width, self.fault = 4, fault
        self.layers = nn.ModuleDict({name: nn.Linear(one.sizes["channel"], 4) for name, one in layouts.items()})

    def forward(self, streams):
        BACKBONE_EFFECTS.get(self.fault, lambda: None)()
        vectors = []
        for name, layer in self.layers.items():
            steps = streams[name].steps
            mean = (streams[name].values * steps[..., None]).sum(1) / steps.sum(1, keepdim=True).clamp_min(1)
            vectors.append(layer(mean) * streams[name].present[:, None])
        vector = torch.stack(vectors).sum(0)
        if self.fault == "constant":
            vector = torch.stack([layer.bias for layer in self.layers.values()]).sum(0).expand_as(vector)
        if self.fault == "ones on the CPU":
            vector = vector * torch.ones(4)
        return Encoded(vector)

    def learn(self, streams):
        loss = self(streams).vector.square().mean()
        return Scored(loss * 0 if self.fault == "zero gradient" else loss, torch.tensor(4))


def pretext(fault=""):
    return PretextSpec("joint", "a sum", NoParams, lambda params, layouts: Joint(layouts, fault))


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "constant": "other recordings get the same vector",
        "zero gradient": "every gradient is zero",
        "ones on the CPU": "was made on the CPU",
        "seeds torch": "changes torch's seed",
        "hides warnings": "warnings.simplefilter",
    }.items(),
)
def test_a_fault_of_a_pretext_is_caught(fault, words):
    check_pretext(pretext())
    with pytest.raises(AssertionError, match=words):
        check_pretext(pretext(fault))


def scorer(fault=""):
    last = []

    def score(ref, raw):
        BACKBONE_EFFECTS.get(fault, lambda: None)()
        value = float(np.abs(raw.samples).mean())
        last.append(value)
        if fault == "running mean":
            value = sum(last[:: 2 if len(last) > 4 else 1]) / len(last[:: 2 if len(last) > 4 else 1])
        if fault == "scores against the first":
            value -= last[0] if len(last) > 2 else 0.0
        return [value if fault != "not a number" else float("nan")]

    def task(params, tasks):
        return Task("level", "regression", ("level",))

    return ScorerSpec("level", "how loud", NoParams, ("audio",), task, lambda params, tasks: score)


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "running mean": "twice|once others have been scored",
        "scores against the first": "twice|once others have been scored",
        "not a number": "one finite number",
        "seeds numpy": "NumPy's global generator",
        "sets a variable": "the environment variable",
    }.items(),
)
def test_a_fault_of_a_scorer_is_caught(fault, words):
    check_scorer(scorer())
    with pytest.raises(AssertionError, match=words):
        check_scorer(scorer(fault))


# ---------------------------------------------------------------------------------------- packages, in a process of their own

PACKAGE = """
from mmcl.api import DatasetInfo, DatasetSpec, Field, NoParams, Params, SampleRef, Sequence, Source, Task, hookimpl
{top}

class Options(Params):
    {option}


def info(params):
    return DatasetInfo({{"s": Source("sequence", "s", 50.0, {{"shape": [2]}})}}, {{"t": Task("t", "single-label", {classes})}}, "person")


class Made:
    def samples(self):
        names = ["a", "b", "c", "d", "e", "f", "g", "h"]
        return [SampleRef(n, n, {{"s": n}}, {{"t": 0}}) for n in {order}]

    def read(self, id, source):
        import numpy as np
        return Sequence(np.full((50, 2), {value}, np.float32), 50.0)


SPEC = DatasetSpec("made", "made up", Options, info, lambda params, root: Made(), needs_root=False)


@hookimpl
def register_datasets(register):
    {hook}
    register(SPEC)
"""
WHOLE = {
    "top": "",
    "option": "pass",
    "classes": "('x', 'y', 'z', 'u', 'v', 'w')",
    "order": "names",
    "value": "ord(id)",
    "hook": "pass",
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The failures, and what was not tried, of a package that is written with some differences."""
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def run(**changes):
        name = f"planted_{len(names)}_{abs(hash(str(changes)))}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(PACKAGE.format(**{**WHOLE, **changes}))
        return {one.check: one.message for one in check_plugin(name) if one.passed is not True}

    yield run
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"order": "list(set(names))"}, "another process gives the same", "the list of recordings differs"),
        (
            {"order": "sorted(names, key=hash)"},
            "another process gives the same",
            "the list of recordings differs",
        ),
        ({"classes": "tuple({'x', 'y', 'z', 'u', 'v', 'w'})"}, "another process gives the same", "info differs"),
        ({"value": "hash(id) % 1000"}, "another process gives the same", "'s' of recording '"),
        ({"top": "print('loading')"}, "the package imports nothing heavy", "prints 'loading'"),
        ({"top": "import time; time.sleep(0.01)"}, "the package imports nothing heavy", "sleeps for 0.01 s"),
        (
            {
                "top": "import threading, time\nthreading.Thread(target=threading.Event().wait, daemon=True, name='mine').start()"
            },
            "the package imports nothing heavy",
            "starts the thread 'mine'",
        ),
        ({"top": "import scipy"}, "the package imports nothing heavy", r"imports scipy \(\d+\.\d s\)"),
        ({"top": "import os; os.environ['A_PLANT'] = '1'"}, "the package imports nothing heavy", "variable A_PLANT"),
        ({"top": "import os; os.chdir('/')"}, "the package imports nothing heavy", "the current folder"),
        ({"top": "import random; random.seed(0)"}, "the package imports nothing heavy", "generator of `random`"),
        ({"top": "import sys; sys.path.append('/nowhere')"}, "the package imports nothing heavy", "sys.path"),
        (
            {"top": "import warnings; warnings.simplefilter('ignore')"},
            "the package imports nothing heavy",
            "filters of warnings",
        ),
        (
            {"top": "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError:\n    pass"},
            "the package imports nothing heavy",
            "opens a connection",
        ),
        ({"hook": "import sklearn"}, "the package imports nothing heavy", "calling its hooks imports .*sklearn"),
        (
            {"option": "width: int = Field(description='how wide')"},
            "every option has a default and a sentence",
            "'width' has no default",
        ),
        (
            {"option": "width: int = Field(-1, ge=0, description='how wide')"},
            "every option has a default and a sentence",
            "breaks its own type or bounds",
        ),
    ],
)
def test_a_fault_of_a_package_is_caught(results, changes, check, words):
    import re

    messages = results(**changes)
    assert check in messages, messages
    assert re.search(words, messages[check]), messages[check]


SHARING = """
from mmcl.api import Layout, ModalitySpec, NoParams, hookimpl

MEAN = {{}}


class Centred:
    def extract(self, raw):
        values = raw.values.reshape(len(raw.values), -1)[:, :2].astype("float32")
        return values - MEAN.setdefault("mean", values.mean(0)) if {shared} else values - values.mean(0)


def layout(params, source):
    return Layout("signal", ("time", "channel"), {{"channel": 2}}, source.rate)


@hookimpl
def register_modalities(register):
    register(ModalitySpec("centred", "less a mean", ("sequence",), NoParams, layout, lambda params, source: Centred()))
"""


@pytest.mark.parametrize("shared", [True, False])
def test_what_the_first_recording_leaves_in_a_module_is_seen_by_another_process(tmp_path, monkeypatch, shared):
    """Every object of this process gives the same, and so does it in whatever order: one that saw another recording first does not."""
    import sys

    name = f"planted_sharing_{shared}".lower()
    (tmp_path / f"{name}.py").write_text(SHARING.format(shared=shared))
    monkeypatch.syspath_prepend(str(tmp_path))
    messages = {one.check: one.message for one in check_plugin(name) if one.passed is False}
    del sys.modules[name]
    assert ("another process gives the same" in messages) is shared, messages


def test_a_good_package_passes_and_a_required_option_is_told_not_raised(results):
    assert results() == {}
    messages = results(option="width: int = Field(description='how wide')")
    assert "params= of its check" in messages["it can be built with its defaults"]


def test_an_import_of_nothing_heavy_that_takes_long_is_named(tmp_path, monkeypatch):
    from mmcl.testing import imports

    monkeypatch.setattr(imports, "SECONDS", -1.0)
    with imports._noted_effects() as messages:
        pass
    assert messages == [] or messages[0].startswith("takes ")
    monkeypatch.setattr(imports, "HEAVY", ())
    with imports._noted_effects() as messages:
        pass
    assert messages[0].startswith("takes ")


def test_real_recordings_are_checked_and_left_alone(tmp_path, monkeypatch):
    import sys

    (tmp_path / "planted_real.py").write_text(
        "from mmcl.api import hookimpl\n\nSPECS = []\n\n\n@hookimpl\ndef register_datasets(register):\n    register(SPECS[0])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import planted_real  # written above

    data = tmp_path / "data" / "wrist"
    data.mkdir(parents=True)
    wrist().sample(data, 9, 3)
    before = sorted(data.iterdir())
    for fault, words in (
        ("", None),
        ("labels that are NaN", "index of one of its"),
        ("normalises by the first", "fresh object|asked again"),
    ):
        planted_real.SPECS[:] = [wrist(fault)]
        messages = {
            one.check: one
            for one in check_plugin("planted_real", tmp_path / f"tiny {fault}", data=tmp_path / "data", recordings=4)
        }
        real = {name: one for name, one in messages.items() if name.startswith("real data: ")}
        assert len(real) >= 5
        failed = [one.message for one in real.values() if one.passed is False]
        assert bool(failed) == (words is not None), failed
    assert sorted(data.iterdir()) == before
    del sys.modules["planted_real"]
