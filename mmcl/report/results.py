"""What the pages are made of: the files of a run, and every score with how sure it is."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from ..data.predictions import Way, read_predictions
from ..data.prepared import Split, load_split
from ..evaluate.statistics import Cell, Summary, Unit, bounds_of, difference, summarise, values_of
from ..recipe.plan import main_input
from ..review.openings import openings_of, sentence
from ..runs import JsonObject, RunFolder, read_json, read_jsonl, read_text


@dataclass(frozen=True)
class Pretraining:
    """Pretraining of one fold and seed."""

    fold: int
    seed: int
    history: list[JsonObject]
    facts: JsonObject  # finished.json


@dataclass(frozen=True)
class Results:
    """Everything that a report is made of."""

    about: JsonObject  # plan.json
    prepare: JsonObject
    recipe: str
    units: list[tuple[int, int]]  # (fold, seed) whose probe has finished
    missing: list[tuple[int, int]]  # … and has not, though the plan asks for it
    scores: list[JsonObject]
    of_inputs: list[Way]  # what the first head predicts, from every input
    split: Split | None  # the recordings, and who is on which side; None where that is not there
    retrieval: list[JsonObject]
    worth: list[JsonObject]
    maps: list[JsonObject]
    shown: list[JsonObject]  # tables that heads trained with labels have to show
    pretraining: list[Pretraining]
    seconds: dict[str, list[float]]  # stage → one number for each fold and seed
    usage: list[JsonObject]  # time, memory and energy of each stage, every time it ran
    finished: float | None  # time at which the last probe ended
    openings: str  # how often the test set was opened, in words
    stale: list[str]  # folders of folds and seeds that lie in the run and that its plan does not name

    @property
    def plan(self) -> JsonObject:
        """The plan with every default."""
        plan: JsonObject = self.about["plan"]
        return plan

    @property
    def tasks(self) -> dict[str, JsonObject]:
        """Every task that the dataset has, by name."""
        tasks: dict[str, JsonObject] = self.prepare["tasks"]
        return tasks

    @property
    def predictions(self) -> list[Way]:
        """What the first head predicts from the main input."""
        return [way for way in self.of_inputs if way.about["input"] == self.main]

    @property
    def predicted(self) -> set[str]:
        """The tasks that the run predicts."""
        return {row["task"] for row in self.scores}

    @property
    def subject(self) -> str:
        """The encoders that the report is about: the pretrained ones, or the random ones where nothing was pretrained."""
        return "pretrained" if self.plan["pretrain"]["epochs"] else "random"

    @property
    def main(self) -> str:
        """The input that the report is about, chosen by the recipe and never by its score: the one with most modalities."""
        return main_input(self.plan["probe"]["inputs"])

    @property
    def head(self) -> str:
        """The head that the report is about: the first of the recipe."""
        return str(next(iter(self.plan["probe"]["heads"])))

    @cached_property
    def table(self) -> dict[Cell, dict[Unit, float | None]]:
        """Every measured value."""
        return values_of(self.scores)

    @cached_property
    def summary(self) -> dict[Cell, Summary]:
        """Every score over everything that was repeated."""
        return {cell: summarise(values, bounds_of(cell[-1])) for cell, values in self.table.items()}

    def main_cell(self, task: str, metric: str) -> Cell:
        """What the answer to a task is read from."""
        return task, self.main, self.head, self.subject, metric

    def floor(self, task: str, metric: str) -> Summary | None:
        """What the majority class (or the mean) reaches, where it was measured."""
        return self.summary.get((task, "none", "majority", "none", metric))

    def gain(self, cell: Cell, baseline: str) -> Summary | None:
        """How much higher a score is than a baseline on the same folds and seeds; None where the baseline was not measured."""
        other = baselines_of(cell).get(baseline)
        if cell not in self.table or other is None or other not in self.table:
            return None
        return difference(self.table[cell], self.table[other], bounds_of(cell[-1]))


def baselines_of(cell: Cell) -> dict[str, Cell]:
    """What a score is to be compared with: random encoders, what is pooled without any, and the majority class."""
    task, input, head, encoder, metric = cell
    baselines = {"random": (task, input, head, "random", metric)} if encoder == "pretrained" else {}
    if encoder in ("pretrained", "random"):
        baselines["pooled"] = (task, input, head, "pooled", metric)
    return baselines | ({"majority": (task, "none", "majority", "none", metric)} if encoder != "none" else {})


def read_run(run: RunFolder) -> Results:
    """The files of a run, only those of folds and seeds that its plan names: older ones may lie beside them."""
    about, prepare = read_json(run.root / "plan.json"), read_json(run.root / "prepare.json")
    plan = about["plan"]
    planned = list(itertools.product((fold["fold"] for fold in prepare["folds"]), plan["seed"]))
    probed = {(fold, seed): folder for fold, seed, folder in run.units("probe") if (fold, seed) in planned}
    head = next(iter(plan["probe"]["heads"]))
    of_inputs: list[Way] = []
    scores, retrieval = [], []
    for folder in probed.values():
        scores += read_jsonl(folder / "scores.jsonl")
        of_inputs += [way for way in read_predictions(folder) if way.about["head"] == head]
        retrieval += read_jsonl(folder / "retrieval.jsonl") if (folder / "retrieval.jsonl").exists() else []
    with_labels = [folder for fold, seed, folder in run.units("supervise") if plan.get("supervise") and (fold, seed) in planned]
    for folder in with_labels:
        scores += read_jsonl(folder / "scores.jsonl")
    pretraining = [
        Pretraining(
            fold=fold, seed=seed, history=read_jsonl(folder / "history.jsonl"), facts=read_json(folder / "finished.json")
        )
        for fold, seed, folder in run.units("pretrain")
        if plan["pretrain"]["epochs"] and (fold, seed) in planned
    ]
    marks = {stage: _finished(run, stage, planned) for stage in ("embed", "probe")}
    recipe, log = run.root / "recipe.yaml", run.root / "log.jsonl"
    events = read_jsonl(log) if log.exists() else []
    worth, maps = _worth(run, planned) if plan.get("worth") else ([], [])
    seconds = {
        "prepare": [prepare["seconds"]],
        "pretrain": [one.facts["seconds"] for one in pretraining],
        **{stage: [mark["seconds"] for mark in each] for stage, each in marks.items()},
    }
    if with_labels:
        seconds["supervise"] = [read_json(folder / "finished.json")["seconds"] for folder in with_labels]
    if worth and (spent := [mark["seconds"] for mark in _finished(run, "worth", planned)]):
        seconds["worth"] = spent
    return Results(
        about=about,
        prepare=prepare,
        recipe=read_text(recipe) if recipe.exists() else "",
        units=list(probed),
        missing=[unit for unit in planned if unit not in probed],
        scores=scores,
        of_inputs=of_inputs,
        split=load_split(run) if (run.root / "folds.json").exists() else None,
        retrieval=retrieval,
        worth=worth,
        maps=maps,
        shown=_shown(run, planned) if plan.get("supervise") else [],
        pretraining=pretraining,
        seconds=seconds,
        usage=[r for r in events if r["event"] == "took" and r["stage"] != "report"],
        openings=sentence({where: one for where, one in openings_of(events).items() if where[1:] in planned}),
        stale=[str(folder.relative_to(run.root)) for folder in run.stale()],
        finished=max((mark["time"] for mark in marks["probe"] if "time" in mark), default=None),
    )


def _finished(run: RunFolder, stage: str, planned: Collection[tuple[int, int]]) -> list[JsonObject]:
    """What a stage wrote when it had finished each fold and seed."""
    return [read_json(folder / "finished.json") for fold, seed, folder in run.units(stage) if (fold, seed) in planned]


def _worth(run: RunFolder, planned: Collection[tuple[int, int]]) -> tuple[list[JsonObject], list[JsonObject]]:
    """What `worth` measured, and the maps, which one fold and seed has."""
    rows: list[JsonObject] = []
    maps: list[JsonObject] = []
    for fold, seed, folder in run.units("worth"):
        if (fold, seed) in planned:
            rows += read_jsonl(folder / "worth.jsonl")
            if (folder / "maps.json").exists():
                maps = read_json(folder / "maps.json")["maps"]
    return rows, maps


def _shown(run: RunFolder, planned: Collection[tuple[int, int]]) -> list[JsonObject]:
    """Tables that heads have to show, of the first fold and seed: title, rows, columns, values, whose."""
    tables: list[JsonObject] = []
    for fold, seed, folder in run.units("supervise"):
        if (fold, seed) in planned:
            for path in sorted((folder / "models").glob("*.json")):
                about = read_json(path)
                whose = f"{about['task']}, {about['input']}, {about['head']}"
                tables += [{**table, "of": whose} for table in about.get("shown", ())]
            break
    return tables
