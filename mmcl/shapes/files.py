"""The schemas of the JSON files of a run folder, one a file, or one a line of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 2**63 - 1
"""The largest whole number that a file may have, and the least is its negative."""
NUMBERS = 1_000_000
"""The largest number of a fold, a recording, an epoch, a class, a width."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Index = Annotated[int, Field(ge=0, le=NUMBERS * 100)]
Small = Annotated[int, Field(ge=0, le=NUMBERS)]
Texts = list[str]
Target = Number | list[Number | None] | None


class Shape(BaseModel):
    """What an object of a file holds."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Part(Shape):
    """A plug-in, as a run used it."""

    use: str
    params: dict[str, Any] = {}
    package: str = ""
    version: str = ""


class LayoutShape(Shape):
    """How a stream is laid out."""

    kind: str
    axes: Annotated[Texts, Field(max_length=8)]
    sizes: dict[str, Annotated[int, Field(ge=1, le=NUMBERS * 100)]]
    rate: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None
    scale: Number
    notes: dict[str, Any]


class StatedLayout(LayoutShape):
    """The same in a plan, which nothing is built from: reports read what is there."""

    kind: str = ""
    axes: Annotated[Texts, Field(max_length=8)] = []
    sizes: dict[str, Annotated[int, Field(ge=1, le=NUMBERS * 100)]] = {}
    rate: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    scale: Number = 1.0
    notes: dict[str, Any] = {}


class Modality(Shape):
    """A modality of a plan."""

    source: str = ""
    features: Part | None = None
    layout: LayoutShape
    backbone: Part | None
    normalise: str


class StatedModality(Modality):
    """The same in plan.json."""

    layout: StatedLayout


class Objective(Shape):
    """What pretraining compares."""

    pairs: list[list[str]]
    positives: Part
    loss: Part


class PretrainPlan(Shape):
    """A plan's section `pretrain`."""

    epochs: Small
    objective: Objective
    transductive: Texts = []
    choose: str = "loss"
    pretext: Part | None = None


class ProbePlan(Shape):
    """A plan's section `probe`."""

    inputs: Annotated[dict[str, Texts], Field(min_length=1)]
    heads: Annotated[dict[str, Part], Field(min_length=1)]
    tasks: Texts = []


class SupervisePlan(Shape):
    """A plan's section `supervise`."""

    inputs: dict[str, Texts]
    heads: dict[str, Part]
    choose: str = "loss"


class PlanDataset(Part):
    """A plan's section `dataset`."""

    root: str | None = None


class ReportPlan(Shape):
    """A plan's section `report`."""

    against: Texts


class ProtocolPlan(Shape):
    """A plan's section `protocol`."""

    use: str
    by: str = ""


class StatedPlan(Shape):
    """The plan of plan.json."""

    name: str
    about: str = ""
    seed: Annotated[list[Annotated[int, Field(ge=-LARGEST, le=LARGEST)]], Field(max_length=10_000)]
    overrides: Texts = []
    dataset: PlanDataset
    modalities: dict[str, StatedModality]
    pretrain: PretrainPlan
    probe: ProbePlan
    supervise: SupervisePlan | None = None
    worth: dict[str, Any] | None = None
    protocol: ProtocolPlan
    report: ReportPlan


class PlanFile(Shape):
    """plan.json."""

    plan: StatedPlan
    versions: dict[str, str] = {}
    machine: dict[str, Any] = {}
    device: str = ""
    git: dict[str, Any] | None = None
    hardware: dict[str, Any] = {}
    determinism: dict[str, Any] = {}
    protocol: str = ""
    uses_labels: bool = False
    published: list[dict[str, Any]] = []
    going_on: Texts = []


class Lost(Shape):
    """A stream or a recording that was skipped, or that is odd."""

    id: str
    reason: str


class PreparedModality(Shape):
    """What prepare.json says of a modality."""

    layout: str
    present: Count
    missing: Count
    skipped: list[Lost]
    odd: list[Lost] = []
    counts: dict[str, Count] = {}


class PreparedTask(Shape):
    """What prepare.json says of a task."""

    type: str
    classes: Texts


class PreparedFold(Shape):
    """What prepare.json says of a fold."""

    fold: Small
    train: Count
    valid: Count
    test: Count


class PrepareFile(Shape):
    """prepare.json."""

    samples: Count
    groups: Count
    group: str
    synthetic: bool
    protocol: str
    tasks: dict[str, PreparedTask]
    modalities: dict[str, PreparedModality]
    counts: dict[str, Count] = {}
    uneven: dict[str, Any] = {}
    skipped: list[Lost]
    folds: list[PreparedFold]
    seconds: Number


class Sample(Shape):
    """A recording of folds.json, as format 1 has it."""

    id: str
    group: str
    sources: dict[str, str]
    targets: dict[str, Target] = {}
    split: str | None = None
    facts: dict[str, Any] = {}


class FoldShape(Shape):
    """Who is on which side."""

    fold: Small
    train: list[Index] = []
    valid: list[Index] = []
    test: list[Index] = []
    held: list[Index] = []


class StoreOf(Shape):
    """Where a modality's streams lie."""

    folder: str
    key: str


class FoldsFile(Shape):
    """folds.json. Format 2 has samples and sides in recordings.safetensors; `recordings` says in which state of it."""

    stores: dict[str, StoreOf] = {}
    recordings: str | None = None
    samples: list[Sample] = []
    folds: list[FoldShape] = []
    key: str = ""


class Where(Shape):
    """Of which fold and seed a row is."""

    fold: Small
    seed: int


class ScoreRow(Where):
    """A row of scores.jsonl."""

    task: str
    input: str
    head: str
    encoder: str
    metric: str
    value: Number | None
    head_seed: int = 0
    n: Count = 0


class PredictionRow(Where):
    """A row of predictions.jsonl."""

    task: str
    input: str
    head: str
    encoder: str
    id: str
    head_seed: int = 0
    target: Any
    prediction: Any


class RetrievalRow(Where):
    """A row of retrieval.jsonl."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, populate_by_name=True)
    encoder: str
    source: Annotated[str, Field(alias="from")]
    to: str
    metric: str
    value: Number
    chance: Number
    n: Count
    among: Count


class SearchRow(Where):
    """A row of searches.jsonl."""

    encoder: str
    source: Annotated[str, Field(alias="from")]
    to: str
    id: str
    value: Number


class ChosenRow(Shape):
    """A row of chosen.jsonl."""

    task: str
    input: str
    head: str
    encoder: str
    head_seed: int = 0


class EpochRow(Shape):
    """A row of history.jsonl."""

    epoch: Small
    train_loss: Number | None = None
    valid_loss: Number | None = None


class WorthRow(Where):
    """A row of worth.jsonl."""

    what: str
    encoder: str = ""
    value: Number | None = None


class LogRow(Shape):
    """A line of log.jsonl."""

    time: Number
    event: str
    stage: str = ""
    seconds: Number = 0.0


class FinishedFile(Shape):
    """finished.json of any stage."""

    key: str
    time: Number = 0.0
    seconds: Number = 0.0
    epochs: Small = 0
    best_epoch: Small = 0
    parameters: dict[str, Count] = {}
    skipped_pairs: dict[str, Count] = {}
    labels: Texts = []
    warnings: Texts = []
    files: Annotated[dict[str, str], Field(max_length=NUMBERS)] = {}


class KeyFile(Shape):
    """A file whose key says what was done."""

    key: str
    files: Annotated[dict[str, str], Field(max_length=NUMBERS)] = {}


class WhoFile(Shape):
    """Whose features lie beside it."""

    ids: Texts
    groups: Texts
    targets: list[dict[str, Target]]


class Map(Shape):
    """A map of maps.json."""

    x: list[Number]
    y: list[Number]
    modality: Texts
    id: Texts
    group: Texts = []
    targets: dict[str, list[Target]] = {}


class MapsFile(Shape):
    """maps.json."""

    maps: list[Map]


class Projection(Shape):
    """A projection."""

    hidden: Annotated[int, Field(ge=1, le=NUMBERS)] | None
    width: Annotated[int, Field(ge=1, le=NUMBERS)]


class Window(Shape):
    """How windows are cut."""

    seconds: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None


class EncodersFile(Shape):
    """encoders.json."""

    modalities: dict[str, Modality]
    projection: dict[str, Any] | None = None
    pretext: Part | None = None
    window: Window = Window()


class TaskShape(Shape):
    """A task."""

    name: str
    type: str
    classes: Annotated[Texts, Field(max_length=NUMBERS)]
    extra: Texts


class Standardise(Shape):
    """How a head's features are centred and scaled."""

    by: str = "train"
    clip: Number | None
    floor: Number


class Calibration(Shape):
    """What makes probabilities of a head's outputs."""

    use: str = "temperature"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HeadShape(Shape):
    """A kept head."""

    task: TaskShape
    input: str
    modalities: dict[str, Annotated[int, Field(ge=1, le=NUMBERS)]]
    name: str
    head: Part
    encoder: str
    head_seed: int
    features: str
    standardise: Standardise
    thresholds: list[Number] | None
    calibration: Calibration | None = None


class HeadsFile(Shape):
    """heads.json."""

    heads: list[HeadShape]


class NetworkShape(Shape):
    """What it takes to rebuild a network."""

    task: TaskShape
    modalities: dict[str, Modality]
    projection: dict[str, Any] | None
    window: Window
    precision: str
    head: Part
    encoder: str
    calibration: Calibration | None


class ModelFile(Shape):
    """TASK~INPUT~HEAD.json."""

    task: str
    input: str
    head: str
    metric: str = ""
    best_epoch: Small = 0
    history: list[EpochRow] = []
    thresholds: list[Number] | None = None
    network: NetworkShape | None = None
    shown: list[dict[str, Any]] = []
    sha256: str | None = None


class SkippedStream(Lost):
    """A stream that a store lacks."""

    where: str


class StoreFile(Shape):
    """store.json."""

    layout: LayoutShape
    timed: bool
    skipped: list[SkippedStream] = []
    odd: list[Lost] = []
    counts: dict[str, Count] = {}
    key: str = ""
    sha256: dict[str, str] = {}
    blocks: dict[str, str] = {}


class ReportRow(ScoreRow):
    """A score of report.json."""


class SummaryRow(Shape):
    """A row of the summary of report.json."""

    task: str
    input: str
    head: str
    encoder: str
    metric: str
    mean: Number | None


class ReportFile(Shape):
    """report.json."""

    scores: list[ReportRow] = []
    summary: list[SummaryRow] = []


class SweepFile(Shape):
    """sweep.json."""

    name: str = ""
    keys: dict[str, str] = {}
    opened: list[Small] = []


class TrialsFile(Shape):
    """trials.json."""

    name: str
    metric: str | None = None
    trials: list[dict[str, Any]]
    final: dict[str, Any] | None = None
    opened: list[Small] = []


class CheckpointFile(Shape):
    """state.json of a checkpoint."""

    key: str
    epoch: Small = 0
    step: Count = 0
    best_epoch: Small = 0
    history: list[dict[str, Any]] = []
    seconds: Number = 0.0
    sha256: str | None = None
    shards: dict[str, str] = {}


class LostFile(Shape):
    """lost.json: a batch whose loss was no number."""

    fold: Small
    seed: int
    epoch: Small
    step: Count
    processes: Annotated[int, Field(ge=1, le=NUMBERS)] = 1
    loss: str
    pairs: Texts
    recordings: Texts
    rows: Annotated[list[Index], Field(min_length=1, max_length=NUMBERS)]
    views: list[Small]
    windows: list[list[Number | None]]


BY_NAME: Mapping[str, type[Shape]] = {  # file → what it holds, or what each of its lines does
    "plan.json": PlanFile,
    "prepare.json": PrepareFile,
    "folds.json": FoldsFile,
    "report.json": ReportFile,
    "finished.json": FinishedFile,
    "written.json": FinishedFile,
    "work.json": KeyFile,
    "pooled.json": KeyFile,
    **dict.fromkeys(("train.json", "valid.json", "test.json", "held.json"), WhoFile),
    "encoders.json": EncodersFile,
    "heads.json": HeadsFile,
    "maps.json": MapsFile,
    "store.json": StoreFile,
    "state.json": CheckpointFile,
    "sweep.json": SweepFile,
    "trials.json": TrialsFile,
    "scores.jsonl": ScoreRow,
    "predictions.jsonl": PredictionRow,
    "retrieval.jsonl": RetrievalRow,
    "searches.jsonl": SearchRow,
    "chosen.jsonl": ChosenRow,
    "history.jsonl": EpochRow,
    "worth.jsonl": WorthRow,
    "log.jsonl": LogRow,
    "lost.json": LostFile,
}
