"""A trained run as one graph, for programs without mmcl or without Python: ONNX, or an exported program of PyTorch.

DIR/model.onnx or model.pt2   normalisation, backbones, read-outs, heads
DIR/model.json                inputs and outputs by name, how streams have to be prepared, what was left out and why, how near the graph came
DIR/check.safetensors         made-up inputs and what the run's own code made of them: no recording of anybody
DIR/README.md                 the model card
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import __version__
from ..api.batch import Batch, Items, Stream
from ..api.errors import StageError
from ..api.kinds import Layout
from ..model.encoder import Encoder
from ..model.frozen import Features
from ..model.joint import Joint
from ..model.kept import GROUP, KeptHead
from ..recipe.plan import JOINT
from ..runs import folder_in_place_of, write_json, write_tensors, write_text
from .card import card_of
from .graph import Flat, FrozenGraph, Graph, HeadAlone, JointGraph, NetworkGraph
from .learned import Learned
from .shared import empty_place, without_paths

NEAR = 1e-5
"""How far an output of a graph may be from the run's own, as a share of the largest (of 1, where all are smaller)."""

LENGTHS = ((37, 12, 1, 24, 9), (3,), (61, 2, 30))
"""Real steps of the rows of each made-up batch that a graph is compared on; the first is what it is made with."""

FILES = {"onnx": "model.onnx", "torch-export": "model.pt2"}


@dataclass(frozen=True)
class Exported:
    """What an export left."""

    folder: Path
    file: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed: tuple[str, ...]  # sizes that the graph has for good, in words
    left_out: tuple[str, ...]  # heads that are not in it, each with the reason
    apart: float  # the furthest that any output was from the run's own
    compared: str  # by what the graph was run for that


def export_graph(learned: Learned, to: str, folder: Path) -> Exported:
    """Write a run's graph, and compare it with the run's own code.

    to  "onnx" or "torch-export"

    Raises StageError if a library is missing, the folder holds something, a part cannot be exported, or the graph gives other answers.
    """
    _needed(to)
    empty_place(folder)
    heads, left_out = _heads_of(learned)
    learned = replace(learned, heads=heads)
    graph = _graph(learned)
    cases = [drawn_case(graph, lengths) for lengths in _lengths(graph)]
    program = _exported(graph, learned, cases[0])
    inputs, outputs = input_names(graph), tuple(_wanted(learned, graph, cases[0]))
    with folder_in_place_of(folder) as part:
        file = part / FILES[to]
        run, compared = _written(to, program, file, inputs, outputs)
        apart = max(_distance(learned, graph, case, dict(zip(outputs, run(case.tensors), strict=True))) for case in cases)
        if not apart <= NEAR:
            raise StageError(
                f"{learned}: the graph gives answers that are {apart:.2g} from the run's own, where {NEAR:g} is allowed; nothing was written"
            )
        exported = Exported(folder, folder / file.name, inputs, outputs, _fixed(program, inputs), left_out, apart, compared)
        about = _about(learned, graph, exported)
        write_json(part / "model.json", about)
        saved = {f"input/{name}": one.contiguous() for name, one in zip(inputs, cases[0].tensors, strict=True)}
        saved |= {f"output/{name}": one.contiguous() for name, one in _wanted(learned, graph, cases[0]).items()}
        write_tensors(part / "check.safetensors", saved)
        write_text(part / "README.md", card_of(learned, FILES[to], left_out))
    return exported


def _needed(to: str) -> None:
    missing = [name for name in ("onnx", "onnxscript") if to == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise StageError(f"--to onnx needs {' and '.join(missing)}: pip install 'mmcl[export]'")


def _heads_of(learned: Learned) -> tuple[tuple[KeptHead, ...], tuple[str, ...]]:
    """The heads that a graph can hold, and why the others are left out."""
    kept, left_out = [], []
    for head in learned.heads:
        why = GROUP if head.by_group else _why_not(head)
        if why is None:
            kept.append(head)
        else:
            left_out.append(f"head {head.name} ({head.part.use}) for {head.task.name} from {head.input}: {why}")
    return tuple(kept), tuple(left_out)


def _why_not(head: KeptHead) -> str | None:
    """Why a head cannot be part of a graph; None if it can."""
    rows = [torch.randn(4, len(head.scale.mean[name]), generator=torch.Generator().manual_seed(0)) for name in head.modalities]
    alone = HeadAlone(head)
    try:
        with _quiet():
            torch.export.export(alone.eval(), (rows, [torch.ones(4, dtype=torch.bool)] * len(rows)), strict=False)
    except Exception as error:  # noqa: BLE001 - whatever a plug-in's network does that a graph cannot
        return f"it decides by values what it computes, which a graph cannot ({_first(error)})"
    return None


def _graph(learned: Learned) -> Graph:
    """The graph of what was learned, in eval mode. Raises StageError where a backbone's rows see each other."""
    graph: Any
    if learned.network is not None:
        encoders: Mapping[str, Encoder] = learned.network.encoders
        graph = NetworkGraph(learned.network, learned.sliding)
    elif isinstance(learned.encoders, Joint):
        encoders = {}
        graph = JointGraph(learned.encoders, learned.heads, learned.sliding)
    else:
        assert learned.encoders is not None
        encoders = learned.encoders
        graph = FrozenGraph(encoders, learned.heads, learned.sliding)
    from ..plugins import plugins

    for name in encoders:
        use = learned.about["modalities"][name]["backbone"]["use"]
        departs = plugins().get("backbone", use).spec.departs
        if departs:
            raise StageError(
                f"modality '{name}': the backbone '{use}' cannot be exported, for what it makes of a recording depends on its batch ({departs})"
            )
    kept: Graph = graph.eval()
    return kept


@dataclass(frozen=True)
class Case:
    """A made-up batch: of each modality its stream, and which windows make up each recording."""

    streams: Mapping[str, Stream]
    averages: Mapping[str, Tensor]  # float [recordings, rows], each row of it the share of each window

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the graph takes, in its order."""
        parts = [tensor for one in self.streams.values() for tensor in (one.values, one.steps, one.present)]
        return (*parts, *self.averages.values())


def _lengths(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Fewer frames of pictures: they are large."""
    pictures = any("height" in layout.axes for layout in graph.layouts.values())
    return tuple(tuple(-(-length // 5) for length in lengths) for lengths in LENGTHS) if pictures else LENGTHS


def drawn_case(graph: Graph, lengths: Sequence[int]) -> Case:
    """A made-up batch with as many rows as lengths. Without averages each modality is missing in another row, if there are several."""
    streams, averages = {}, {}
    for i, (name, layout) in enumerate(graph.layouts.items()):
        generator = torch.Generator().manual_seed(1000 * i + len(lengths))
        absent = (i + 1) % len(lengths) if len(lengths) > 1 and (not graph.averages or graph.averages == ("recording",)) else -1
        streams[name] = drawn_stream(layout, lengths, absent, generator)
    for name in graph.averages:
        recordings = len(lengths) // 2 + 1
        weights = torch.zeros(recordings + 1, len(lengths))  # the last recording has no window at all
        for window in range(len(lengths)):
            weights[window % recordings, window] = 1.0
        averages[name] = weights / weights.sum(1, keepdim=True).clamp_min(1)
    return Case(streams, averages)


def drawn_stream(layout: Layout, lengths: Sequence[int], absent: int, generator: torch.Generator) -> Stream:
    """A made-up stream, normal or of ids, with one row that is not there (−1: none)."""
    rows, longest = len(lengths), max(lengths) if layout.timed else 1
    shape = (rows, longest, *layout.shape)
    if layout.measured:
        values = torch.randn(shape, generator=generator)
    else:
        values = torch.randint(1, int(layout.notes.get("vocab", 2)), shape, generator=generator).float()
    steps = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]
    present = torch.arange(rows) != absent
    steps = steps & present[:, None]
    values = values * steps.view(rows, longest, *[1] * len(layout.shape))
    return Stream(values if layout.timed else values[:, 0], steps, present)


def _exported(graph: Graph, learned: Learned, case: Case) -> Any:
    """The graph as PyTorch's exporter has it, every size that the networks leave open open."""
    flat = Flat(graph).eval()
    try:
        return _program(flat, case.tensors)
    except Exception as error:
        raise StageError(f"{learned}: cannot be exported: {_whose(learned)}{_first(error)}") from error


def _program(module: torch.nn.Module, tensors: Sequence[Tensor]) -> Any:
    auto = torch.export.Dim.AUTO
    sizes = tuple({0: auto, 1: auto} if one.ndim > 1 else {0: auto} for one in tensors)
    with _quiet(), torch.no_grad():
        program = torch.export.export(module, tuple(tensors), dynamic_shapes=(sizes,), strict=False)
    for part in program.graph_module.modules():
        for node in getattr(part, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _whose(learned: Learned) -> str:
    """Which modality's network it is that cannot be, where there are several to blame."""
    encoders = learned.network.encoders if learned.network is not None else learned.encoders
    if not isinstance(encoders, dict):
        return f"the pretext '{learned.about['pretext']['use']}': "
    for name, encoder in encoders.items():
        alone = FrozenGraph({name: encoder}, (), False).eval()
        try:
            _program(Flat(alone), drawn_case(alone, _lengths(alone)[0]).tensors)
        except Exception:  # noqa: BLE001 - the one that is looked for
            return f"the backbone '{learned.about['modalities'][name]['backbone']['use']}' of '{name}': "
    return ""


def _written(to: str, program: Any, file: Path, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Any, str]:
    """Write the program; what runs it from the file, and what that is called."""
    if to == "torch-export":
        torch.export.save(program, file)
        module = torch.export.load(file).module()
        return lambda tensors: [one.detach() for one in module(*tensors)], f"PyTorch {torch.__version__}"
    with _quiet():
        try:
            onnx: Any = torch.onnx.export(
                program, input_names=list(inputs), output_names=list(outputs), dynamo=True, verbose=False
            )
        except Exception as error:
            raise StageError(f"cannot be written as ONNX ({_first(error)}); --to torch-export may do") from error
        onnx.save(str(file))
    if importlib.util.find_spec("onnxruntime") is None:
        module = program.module()
        return lambda tensors: [
            one.detach() for one in module(*tensors)
        ], "PyTorch, before it was written (onnxruntime is not installed)"
    return _session(file, inputs, outputs)


def _session(file: Path, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Any, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    there = {one.name for one in session.get_inputs()}

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        feed = {name: one.numpy() for name, one in zip(inputs, tensors, strict=True) if name in there}
        return [torch.from_numpy(np.asarray(one)) for one in session.run(list(outputs), feed)]

    return run, f"onnxruntime {onnxruntime.__version__}"


def input_names(graph: Graph) -> tuple[str, ...]:
    """The names of a graph's inputs, in their order."""
    streams = [f"{name}/{part}" for name in graph.layouts for part in ("values", "steps", "present")]
    return (*streams, *(f"{name}/average" for name in graph.averages))


@torch.inference_mode()
def _wanted(learned: Learned, graph: Graph, case: Case) -> dict[str, Tensor]:
    """What the run's own code makes of a batch, by name of the output."""
    if learned.network is not None:
        return _of_network(learned, case)
    if isinstance(learned.encoders, Joint):
        items = Items(torch.arange(len(next(iter(case.streams.values())).present)), torch.zeros(1))
        vector, present = learned.encoders(Batch(items, case.streams), torch.device("cpu"))
        rows = {JOINT: (vector, present)}
    else:
        assert learned.encoders is not None
        rows = {
            name: (_alone(encoder, case.streams[name]), case.streams[name].present)
            for name, encoder in learned.encoders.items()
        }
    wanted: dict[str, Tensor] = {}
    features = {}
    for name, (vector, present) in rows.items():
        space = vector if name == JOINT else learned.encoders[name].projection(vector)  # type: ignore[index]  # no Joint by that name
        space = functional.normalize(space, dim=-1) * present[:, None]
        weights = case.averages.get("recording" if name == JOINT else name)
        if weights is not None:
            vector, present = weights @ vector, weights.sum(1) > 0
            space = functional.normalize(vector, dim=-1) if name == JOINT else weights @ space
        features[name] = Features(vector, space, present)
        wanted |= {f"{name}/vector": vector, f"{name}/projection": space}
    for head, one in zip(learned.heads, graph.heads, strict=True):  # type: ignore[attr-defined]  # both of these graphs have them
        wanted[f"{one.reading.stem}/output"] = torch.from_numpy(head.outputs(features)).float()
        chances = head.probabilities(features)
        if chances is not None:
            wanted[f"{one.reading.stem}/probability"] = torch.from_numpy(chances).float()
    return wanted


def _alone(encoder: Encoder, stream: Stream) -> Tensor:
    """Vectors of a stream's rows as the run takes them, zeros where there is nothing."""
    vectors = torch.zeros(len(stream.present), encoder.width)
    if bool(stream.present.any()):
        encoded, rows = encoder.encode(stream)
        vectors[rows] = encoded.vector.float()
    return vectors


def _of_network(learned: Learned, case: Case) -> dict[str, Tensor]:
    network = learned.network
    assert network is not None
    rows = len(next(iter(case.streams.values())).present)
    items = Items(torch.arange(rows), torch.zeros(rows))
    weights = case.averages.get("recording", torch.eye(rows))
    index = weights.argmax(0)
    exact = replace(network, about={**network.about, "precision": "float32"})
    windows = [(index, Batch(items, case.streams))]
    stem = NetworkGraph(network, False).reading.stem
    wanted = {f"{stem}/output": torch.from_numpy(exact.outputs(windows, len(weights))).float()}
    chances = exact.probabilities(windows, len(weights))
    if chances is not None:
        wanted[f"{stem}/probability"] = torch.from_numpy(chances).float()
    return wanted


def _distance(learned: Learned, graph: Graph, case: Case, got: Mapping[str, Tensor]) -> float:
    """How far the answers are from the run's own, over recordings of which there is anything."""
    some = torch.stack([one.present for one in case.streams.values()]).any(0)
    if case.averages:
        some = torch.stack([one.sum(1) > 0 for one in case.averages.values()]).any(0)
    far = 0.0
    for name, wanted in _wanted(learned, graph, case).items():
        one, other = got[name][some].double(), wanted[some].double()
        if not bool(one.isfinite().all()):
            return float("inf")
        far = max(far, float((one - other).abs().max()) / max(1.0, float(other.abs().max())))
    return far


def _fixed(program: Any, inputs: Sequence[str]) -> tuple[str, ...]:
    """The sizes of rows and steps that the graph has for good."""
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"][-len(inputs) :]
    fixed = []
    for name, one in zip(inputs, values, strict=True):
        kind = name.rsplit("/", 1)[1]
        open_axes = {
            "values": ("rows", "steps"),
            "steps": ("rows", "steps"),
            "present": ("rows",),
            "average": ("recordings", "rows"),
        }[kind]
        for axis, what in enumerate(open_axes[: one.dim() - (1 if kind == "values" and one.dim() == 2 else 0)]):
            if isinstance(one.shape[axis], int) and not (kind == "steps" and axis == 1 and one.shape[axis] == 1):
                fixed.append(f"{name} has always {one.shape[axis]} {what}")
    return tuple(fixed)


def _about(learned: Learned, graph: Graph, exported: Exported) -> dict[str, Any]:
    """What model.json says."""
    modalities = {
        name: without_paths(
            {key: learned.about["modalities"][name][key] for key in ("source", "features", "layout", "normalise")}
        )
        for name in graph.layouts
    }
    kept = [learned.network] if learned.network is not None else list(learned.heads)
    return {
        "format": 1,
        "mmcl": __version__,
        "name": learned.about.get("name"),
        "fold": learned.fold,
        "seed": learned.seed,
        "window": learned.about["window"],
        "modalities": modalities,
        "inputs": {name: _input_about(name) for name in exported.inputs},
        "outputs": list(exported.outputs),
        "tasks": {one.task.name: {"type": one.task.type, "classes": list(one.task.classes)} for one in kept if one is not None},
        "fixed": list(exported.fixed),
        "left_out": list(exported.left_out),
        "check": {"apart": exported.apart, "allowed": NEAR, "by": exported.compared, "file": "check.safetensors"},
    }


def _input_about(name: str) -> str:
    modality, kind = name.rsplit("/", 1)
    return {
        "values": f"float32 [rows, steps, …]: streams of '{modality}', prepared as `modalities` says and multiplied by layout.scale; zeros where padded",
        "steps": "bool [rows, steps]: which steps are real ([rows, 1] for a kind without time)",
        "present": "bool [rows]: which rows have the modality at all",
        "average": "float32 [recordings, rows]: the share of each window in its recording, 1 / how many it has; zeros for all others",
    }[kind]


def _first(error: Exception) -> str:
    """The first line of what went wrong, short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own talk."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
