"""The validation metric that a sweep searches for, and which way is better."""

from __future__ import annotations

from ..api.errors import RecipeError
from ..evaluate.metrics import AMONG, HEADLINE, LESS_IS_BETTER, RETRIEVAL, metric_names
from ..recipe.search import SweepPlan


def metric_of(search: SweepPlan) -> str:
    """The metric that is searched for. Raises RecipeError if the task has none of that name."""
    task = search.task
    if task is None:
        if search.metric not in (None, *RETRIEVAL):
            problem = f"retrieval has no metric '{search.metric}'; it has {', '.join(RETRIEVAL)}"
            raise RecipeError([search.source.document().problem(("sweep", "score", "metric"), problem)])
        return search.metric or RETRIEVAL[0]
    if search.metric is None:
        return HEADLINE[task.type]
    known = metric_names(task)
    if search.metric not in known:
        problem = f"task '{task.name}' has no metric '{search.metric}'; it has {', '.join(known)}"
        raise RecipeError([search.source.document().problem(("sweep", "score", "metric"), problem)])
    return search.metric


def less_is_better(metric: str) -> bool:
    """Whether less of a metric is better; "joy/mae" is an mae."""
    return metric.rsplit("/", 1)[-1] in LESS_IS_BETTER


def in_words(search: SweepPlan, metric: str) -> str:
    """What a trial's score is of: the metric, task, input and head, and over how many folds and seeds."""
    section = search.section
    folds = f"{section.folds} {'fold' if section.folds == 1 else 'folds'}"
    seeds = f"{section.seeds} {'seed' if section.seeds == 1 else 'seeds'}"
    whose = "validation recordings"
    if section.validation != "fold":
        units = "recording" if search.plan.recipe.protocol.by == "sample" else "group"
        parts = "a part for each" if section.validation == "each-group" else f"in {section.validation} parts"
        whose = f"held-out recordings, every {units} of training and validation once ({parts})"
    if search.task is None:
        what = f"{metric} of retrieval among {AMONG}, or all where they are fewer, between the modalities of {search.input}, in both directions"
    else:
        what = f"{metric} of task {search.task.name} from {search.input} by {search.head} ({search.stage})"
    return f"{what} on {whose}, mean over {folds} and {seeds}"
