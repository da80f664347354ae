"""mmcl check"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..api.errors import RecipeError
from ..screen import say
from . import options

if TYPE_CHECKING:
    from ..recipe.plan import Plan

WHERE = "where is the data?"
"""How the planner's problem begins when nobody has said where the data lie."""


@click.command()
@options.recipe
@options.presets
@options.overrides
@options.data
@options.limit
@options.as_json
@click.option("--resolved", is_flag=True, help="Print the whole recipe as YAML: its base and what is laid over it merged.")
def check(
    recipe: str,
    presets: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
    limit: int | None,
    as_json: bool,
    resolved: bool,
) -> None:
    """Look every name of RECIPE up, check every option, say all problems at once, and show what it would do.

    With --data, and where a dataset reads its own table, recordings are listed and split as a run would; no recording is read. Imports no torch.
    """
    if as_json and resolved:
        raise click.UsageError("--json prints the plan and --resolved the recipe; give one of the two")
    from ..recipe.planner import laid_over, load_plan, make_plan
    from ..recipe.planner.dataset import twice
    from ..recipe.read import read_recipe, written_out
    from ..recipe.search import load_sweep
    from ..recipe.shipped import find

    sets = (*laid_over(presets, overrides), *([f"limit={limit}"] if limit else []))
    name = recipe if recipe.endswith((".yaml", ".yml")) else None
    try:
        plan = load_plan(find(recipe), sets, data, name=name)
    except RecipeError as error:
        if data is not None or not all(WHERE in problem.text for problem in error.problems):
            raise
        data = Path("DIR")  # nothing else is wrong: what it would do can be said without the data
        plan = load_plan(find(recipe), sets, data, name=name)
    search = load_sweep(find(recipe), sets, data, name) if plan.recipe.sweep else None
    there = plan.root is not None and plan.root.is_dir() and (data is not None or plan.dataset.spec.complete is not None)
    counted = _counted(plan) if there else ()
    if as_json:
        click.echo(json.dumps(plan.to_json(), indent=1))
    elif resolved:
        document = read_recipe(find(recipe), sets, name)
        make_plan(document, data)  # takes out what a preset offers and no plug-in here knows
        click.echo(written_out(document, sets), nl=False)
    else:
        summarise(plan)
        for line in counted:
            click.echo(line)
        if search is not None:
            section = search.section
            click.echo(f"  sweep       {section.sampler}, {_count(search.trials, 'trial')} of {', '.join(section.space)}")
    for sentence in plan.outdated:
        say(f"mmcl: {sentence}")
    if plan.root is not None and data == Path("DIR"):
        say(f"mmcl: DIR is still to be given: --data DIR, or MMCL_DATA. {plan.info.get}".rstrip())
    elif plan.root is not None and not plan.root.is_dir():
        say(f"mmcl: the data are not there yet: {plan.root}{twice(plan.root)}. {plan.info.get}".rstrip())


def _counted(plan: Plan) -> list[str]:
    """What the data hold, without their sources; whatever a run would refuse is refused here."""
    from ..review.recordings import census_of_plan
    from .data import lines_of

    return lines_of(census_of_plan(plan, files=False))


def summarise(plan: Plan) -> None:
    """What a run of the plan would do, in a few lines."""
    section, protocol = plan.recipe.pretrain, plan.recipe.protocol
    click.echo(f"{plan.name}: no problem found")
    click.echo(
        f"  dataset     {plan.dataset.use}{' (synthetic)' if plan.info.synthetic else ''}{f' in {plan.root}' if plan.root else ''}"
    )
    for m in plan.modalities:
        click.echo(f"  {m.name:<11} {m.source} → {m.features.use} → {m.layout}{f' → {m.backbone.use}' if m.backbone else ''}")
    weights = [f" × {weight:g}" if weight != 1 else "" for weight in plan.weights] or [""] * len(plan.pairs)
    pairs = ", ".join(f"{a}~{b}{weight}" for (a, b), weight in zip(plan.pairs, weights, strict=True))
    if section.epochs and plan.pretext:
        click.echo(
            f"  pretrain    {plan.pretext.use} on all modalities together; "
            f"{_count(section.epochs, 'epoch')} of batches of {section.batch_size}"
        )
    elif section.epochs:
        parts = [f"{_count(len(plan.pairs), 'pair')} ({pairs}); {plan.loss.use}"] if plan.pairs else []
        if plan.group:
            factor = f" × {plan.group.weight:g}" if plan.group.weight != 1 else ""
            parts.append(f"{plan.group.loss.use} of {', '.join(plan.group.modalities)}{factor}")
        click.echo(
            f"  pretrain    {' + '.join(parts)}; {plan.positives.use}; "
            f"{_count(section.epochs, 'epoch')} of batches of {section.batch_size}"
        )
    else:
        click.echo("  pretrain    not at all (0 epochs): random encoders are probed")
    if plan.halves:
        click.echo(f"  precision   bf16 in {' and '.join(plan.halves)}, losses in float32")
    if section.compile:
        click.echo(f"  compile     networks of {', '.join(section.compile)}, for whole batches of whole windows")
    if plan.uses_labels():
        click.echo(f"  labels      pretraining uses {', '.join(plan.labels)}")
    for name, why in plan.departs.items():
        click.echo(f"  careful     backbone of {name}: {why}")
    click.echo(
        f"  probe       {', '.join(t.name for t in plan.tasks)} from {', '.join(plan.inputs)} by {', '.join(plan.heads)}"
        if plan.tasks
        else "  probe       nothing: there are no labels; what is learned can be embedded and searched"
    )
    if plan.supervised:
        sup = plan.supervised
        click.echo(
            f"  supervise   {', '.join(t.name for t in sup.tasks)} from {', '.join(sup.inputs)} by {', '.join(sup.heads)}, end to end"
        )
    if plan.recipe.worth:
        worth = plan.recipe.worth
        spoilt = [name for name in ("noise", "loss", "late") if getattr(worth.robustness, name)]
        parts = [
            f"{', '.join(f'{100 * share:g}%' for share in worth.few_shot)} of the labels" if worth.few_shot else "",
            "missing modalities" if worth.missing else "",
            "transfer" if worth.transfer else "",
            "geometry" if worth.geometry else "",
            f"spoilt by {', '.join(spoilt)}" if spoilt else "",
            f"maps ({', '.join(worth.maps)})" if worth.maps else "",
        ]
        click.echo(f"  worth       {'; '.join(part for part in parts if part)}")
    folds = fold_count(plan)
    times = _count(folds, "fold") if folds else "as many folds as groups"
    click.echo(f"  protocol    {protocol.use}, by {protocol.by}; {times}; seeds {', '.join(map(str, plan.seeds))}")


def fold_count(plan: Plan) -> int | None:
    """How many folds a run goes through; None where only the data can say."""
    from ..recipe.schema import KFold, LeaveOneGroupOut

    protocol = plan.recipe.protocol
    if protocol.only is not None:
        return len(protocol.only)
    if isinstance(protocol, KFold):
        return protocol.k
    if isinstance(protocol, LeaveOneGroupOut):
        return None
    return len(set(plan.fold_of.values())) if plan.fold_of is not None else 1


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
