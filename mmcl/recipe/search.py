"""Plans a sweep: every key and value of `sweep.space` is laid over the recipe first, so that no trial ends in a typo.

Holds no data and imports neither torch nor Optuna, so `mmcl check` says what is wrong with a sweep too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..api.dataset import Task
from ..api.errors import Problem, RecipeError
from .document import Base, Document, Key, anchored
from .plan import Plan, SupervisePlan, main_input
from .planner import make_plan
from .read import as_yaml, parse_recipe, read_recipe
from .schema import Report
from .searches import Range, Sweep

Value = str | int | float
"""A value as a trial has it: a number of a range, or one of a list's values as --set takes it."""

NO_SCORE = ("format", "name", "about", "report", "track", "worth", "sweep")
COMPARED = ("seed", "dataset", "protocol", "limit", "probe.seeds")
"""Keys that decide which recordings are scored, or by what luck: chosen by their score, they would flatter it."""

LOSS = ("pretrain.objective", "pretrain.pretext", "pretrain.batch_size", "pretrain.views", "projection", "window", "scores")
"""Keys that change what the validation loss of pretraining means, so that losses of two trials cannot be compared."""

EPOCHS = (
    "pretrain.keep",
    "pretrain.patience",
    "pretrain.transductive",
    "supervise.keep",
    "supervise.patience",
    "supervise.threshold",
)
"""Keys by which a training reads the validation rows of its fold."""


@dataclass(frozen=True)
class Source:
    """What a sweep is made from, as plain values, so that a worker process can make it too."""

    text: str
    file: str
    folder: Path
    overrides: tuple[str, ...]
    data: Path | None
    trials: int | None = None
    base: Base | None = None  # what the recipe derives from, so that every trial has the same

    def document(self, *sets: str) -> Document:
        """The recipe as read, with more laid over it."""
        return parse_recipe(self.text, self.file, (*self.overrides, *sets), self.folder, self.base)


@dataclass(frozen=True)
class SweepPlan:
    """Everything that a sweep will do."""

    source: Source
    plan: Plan  # the recipe as it stands
    section: Sweep
    stage: str  # whose validation scores: probe, supervise or retrieval
    task: Task | None  # None: retrieval, which has neither task nor head
    input: str
    head: str
    metric: str | None  # None: the metric that a report puts first
    trials: int

    def searched(self, plan: Plan) -> tuple[str, ...]:
        """The modalities of a trial's plan between which retrieval is scored: those of the input, whether a head is fitted on all or not."""
        return tuple(m.name for m in plan.modalities) if self.input == "all" else plan.inputs[self.input]

    @property
    def holds(self) -> bool:
        """Whether rows are held out on which epochs are chosen, so that those that judge a trial choose nothing: the same for all trials."""
        if self.section.validation == "fold":
            return False
        pretrain, supervise = self.plan.recipe.pretrain, self.plan.recipe.supervise
        chosen = (pretrain.epochs > 0 or self._sweeps("pretrain.epochs")) and (
            pretrain.keep == "best" or pretrain.patience is not None or "valid" in pretrain.transductive
        )
        if self.stage == "supervise":
            assert supervise is not None, "the stage was chosen so"
            chosen = (
                supervise.keep == "best"
                or supervise.patience is not None
                or supervise.threshold == "valid"
                or (chosen and (supervise.start == "pretrained" or self._sweeps("supervise.start")))
            )
        return chosen or any(self._sweeps(one) for one in EPOCHS)

    def _sweeps(self, key: str) -> bool:
        """Whether values of a key are searched over, or of a section that it is in."""
        return any(_touches(one, key) for one in self.section.space)

    @property
    def grid(self) -> list[dict[str, Value]]:
        """Every combination of a grid, in the order in which they are run."""
        steps = {key: steps_of(choice) for key, choice in self.section.space.items()}
        return [dict(zip(steps, values, strict=True)) for values in itertools.product(*steps.values())]

    def plan_of(self, values: Mapping[str, Value]) -> Plan:
        """The plan of one trial: a few folds' seeds, one task, one input, one head, and nothing that reads a test recording."""
        sets = settings(values)
        plan = make_plan(self.source.document(*sets), self.source.data, overrides=(*self.source.overrides, *sets))
        only = {"seed": plan.seeds[: self.section.seeds], "report": Report(against=()), "worth": None, "track": ()}
        if "test" in plan.recipe.pretrain.transductive:
            raise RecipeError(
                "pretrain.transductive contrasts test recordings, which no trial may read; leave 'test' out of it"
            )
        plan = replace(plan, recipe=plan.recipe.model_copy(update=only))
        if self.task is None:
            return replace(plan, tasks=(), supervised=None)
        part = plan if self.stage == "probe" else plan.supervised
        gone = (
            [name for name, known in ((self.head, part.heads), (self.input, part.inputs)) if name not in known] if part else []
        )
        tasks = tuple(task for task in part.tasks if task.name == self.task.name) if part else ()
        if part is None or gone or not tasks:
            raise RecipeError(f"takes {self.stage}'s '{(gone or [self.task.name])[0]}' away, which is scored")
        heads, inputs = {self.head: part.heads[self.head]}, {self.input: part.inputs[self.input]}
        if self.stage == "probe":
            return replace(plan, tasks=tasks, heads=heads, inputs=inputs, supervised=None)
        return replace(plan, supervised=SupervisePlan(heads=heads, inputs=inputs, tasks=tasks))

    def recipe_of(self, values: Mapping[str, Value], name: str, about: str) -> str:
        """The recipe with these values in their places and without its sweep, as YAML; `about` stands above it."""
        written = dict(self.source.document(*settings(values)).values)
        written.pop("sweep", None)
        written["name"] = name
        return "".join(f"# {line}\n" for line in about.splitlines()) + as_yaml(anchored(written, self.source.folder))


def settings(values: Mapping[str, Value]) -> tuple[str, ...]:
    """A trial's values as --set takes them."""
    return tuple(f"{key}={value if isinstance(value, str) else repr(value)}" for key, value in values.items())


def steps_of(choice: tuple[Any, ...] | Range) -> list[Value]:
    """What a grid tries of one key."""
    if not isinstance(choice, Range):
        return [as_yaml(value, flow=True) for value in choice]
    assert choice.step is not None, "a grid's ranges have steps"
    count = math.floor((choice.high - choice.low) / choice.step + 1e-9) + 1
    steps = [choice.low + k * choice.step for k in range(count)]
    return [value if isinstance(value, int) else round(value, 12) for value in steps]


def load_sweep(
    path: Path, overrides: tuple[str, ...] = (), data: Path | None = None, name: str | None = None, trials: int | None = None
) -> SweepPlan:
    """The sweep of a recipe file. Raises RecipeError with all problems at once.

    name    what messages call the file
    trials  in place of the recipe's
    """
    document = read_recipe(path, overrides, name)
    return make_sweep(
        Source(
            text=document.text,
            file=document.file,
            folder=document.folder,
            overrides=overrides,
            data=data,
            trials=trials,
            base=document.base,
        )
    )


def make_sweep(source: Source) -> SweepPlan:
    """The sweep of a recipe that has been read."""
    document = source.document()
    plan = make_plan(document, source.data, overrides=source.overrides)
    section = plan.recipe.sweep
    if section is None:
        raise RecipeError(
            [document.problem(("sweep",), "is missing; it says what is tried: sweep: {space: {KEY: [VALUE, …]}}")]
        )
    planner = _Sweeper(source, document, plan, section)
    return planner.sweep()


class _Sweeper:
    """Collects the problems of one sweep."""

    def __init__(self, source: Source, document: Document, plan: Plan, section: Sweep) -> None:
        self.source, self.document, self.given, self.section = source, document, plan, section
        self.problems: list[Problem] = []

    def say(self, key: Key, text: str) -> None:
        self.problems.append(self.document.problem(("sweep", *key), text))

    def sweep(self) -> SweepPlan:
        section, plan = self.section, self.given
        stage = self.stage()
        for key, choice in section.space.items():
            self.choice(key, choice)
        task, input, head = self.scored(stage)
        if stage == "retrieval":
            for key in section.space:
                if _touches(key, "probe"):
                    self.say(("space", key), "changes heads, and retrieval has none; there is nothing to search for")
        if stage != "supervise" and section.prune == "median":
            unfair = [key for key in section.space if any(_touches(key, one) for one in LOSS)]
            if unfair:
                self.say(
                    ("prune",),
                    f"median compares validation losses, and '{unfair[0]}' changes what the loss means; set prune: none",
                )
        if section.validation == "each-group" and plan.recipe.protocol.by == "sample":
            self.say(("validation",), "each-group needs protocol.by: group; give a number of parts, such as 5")
        if section.seeds > len(plan.seeds):
            self.say(("seeds",), f"asks for {section.seeds} seeds, the recipe has {len(plan.seeds)}")
        if self.problems:
            raise RecipeError(self.problems)
        search = SweepPlan(
            source=self.source,
            plan=plan,
            section=section,
            stage=stage,
            task=task,
            input=input,
            head=head,
            metric=section.score.metric,
            trials=0,
        )
        trials = self.source.trials or section.trials
        if section.sampler == "grid":
            whole = len(search.grid)
            if trials is not None and trials != whole:
                self.say(("trials",), f"a grid tries all of its {whole} combinations; leave trials out")
            trials = whole
        elif trials is None:
            self.say(("trials",), "is missing: how many settings are tried")
        self.apart(search)
        if self.problems:
            raise RecipeError(self.problems)
        assert trials is not None
        return replace(search, trials=trials)

    def stage(self) -> str:
        """Whose scores are asked for."""
        recipe, asked = self.given.recipe, self.section.score.stage
        if asked == "supervise" and recipe.supervise is None:
            self.say(("score", "stage"), "the recipe has no supervise section")
            return "probe"
        if asked is None and recipe.pretrain.epochs == 0 and recipe.supervise is not None:
            return "supervise"
        return asked or ("probe" if self.given.tasks else "retrieval")

    def scored(self, stage: str) -> tuple[Task | None, str, str]:
        """The task, input and head that are scored."""
        score, plan = self.section.score, self.given
        if stage == "retrieval":
            return None, self.searched(), ""
        part: Plan | SupervisePlan | None = plan.supervised if stage == "supervise" else plan
        assert part is not None, "the stage was chosen so"
        tasks = {task.name: task for task in part.tasks}
        for key, name, known in (
            ("task", score.task, tasks),
            ("input", score.input, part.inputs),
            ("head", score.head, part.heads),
        ):
            if name is not None and name not in known:
                self.say(("score", key), f"there is no {key} '{name}' in {stage}; there are {', '.join(known)}")
        task = tasks.get(score.task or next(iter(tasks)))
        return task, score.input or main_input(part.inputs), score.head or next(iter(part.heads))

    def searched(self) -> str:
        """The input whose modalities find each other."""
        score, plan = self.section.score, self.given
        for key, name in (("task", score.task), ("head", score.head)):
            if name is not None:
                self.say(("score", key), f"is '{name}', and retrieval has no {key}; leave it out")
        if score.input not in (None, "all", *plan.inputs):
            self.say(("score", "input"), f"there is no input '{score.input}' in probe; there are {', '.join(plan.inputs)}")
        input = score.input or "all"
        if plan.pretext is not None:
            self.say(("score", "stage"), "a pretext has one vector of all modalities, so that none can find another")
        elif len(plan.modalities) < 2:
            self.say(
                ("score", "stage"), "retrieval needs two modalities, and there is one; add a modality, or take another stage"
            )
        elif len(plan.inputs.get(input, ("", ""))) < 2 and input != "all":
            self.say(("score", "input"), f"'{input}' has one modality, and retrieval needs two; name an input such as all")
        return input

    def choice(self, key: str, choice: tuple[Any, ...] | Range) -> None:
        """One key of the space: whether it may be searched over, and the form of its range."""
        if any(_touches(key, one) for one in NO_SCORE):
            self.say(("space", key), "changes no validation score; there is nothing to search for")
        elif any(_touches(key, one) for one in COMPARED):
            self.say(("space", key), "decides which recordings are scored, or by what luck; trials could not be compared")
        around = [other for other in self.section.space if other != key and key.startswith(f"{other}.")]
        if around:
            self.say(("space", key), f"stands inside '{around[0]}', which is searched over as well")
        if not isinstance(choice, Range):
            return
        if choice.low >= choice.high:
            self.say(("space", key), f"low {choice.low} must be below high {choice.high}")
        if choice.log and choice.low <= 0:
            self.say(("space", key), f"a logarithmic scale needs low above 0, got {choice.low}")
        if choice.log and choice.step is not None:
            self.say(("space", key), "has both log and step; keep one of the two")
        elif self.section.sampler == "grid" and choice.step is None:
            self.say(("space", key), "a grid needs a list of values, or a step")

    def apart(self, search: SweepPlan) -> None:
        """Lay every value of a list, and both ends of every range, over the recipe, one at a time."""
        for key, choice in self.section.space.items():
            values: list[Value] = [choice.low, choice.high] if isinstance(choice, Range) else steps_of(choice)
            for value in values:
                try:
                    search.plan_of({key: value})
                except RecipeError as error:
                    one = error.problems[0]
                    where = "" if one.key in ("", key) else f"{one.key}: "
                    self.say(("space", key), f"with {value}: {where}{one.text}")
                    break


def _touches(key: str, one: str) -> bool:
    """Whether a swept key is another one, stands inside it or holds it."""
    return key == one or key.startswith(f"{one}.") or one.startswith(f"{key}.")
