"""mmcl check"""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options


@click.command()
@options.recipe
@options.overrides
@options.data
@options.as_json
def check(recipe: str, overrides: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Look every name of RECIPE up, check every option, say all problems at once, and show what it would do.

    Reads no data and imports no torch.
    """
    from ..recipe.plan import load_plan
    from ..recipe.shipped import find

    plan = load_plan(find(recipe), overrides, data, name=recipe if recipe.endswith((".yaml", ".yml")) else None)
    if as_json:
        click.echo(json.dumps(plan.to_json(), indent=1))
        return
    section, protocol = plan.recipe.pretrain, plan.recipe.protocol
    click.echo(f"{plan.name}: no problem found")
    click.echo(
        f"  dataset     {plan.dataset.use}{' (synthetic)' if plan.info.synthetic else ''}{f' in {plan.root}' if plan.root else ''}"
    )
    for m in plan.modalities:
        click.echo(f"  {m.name:<11} {m.source} → {m.features.use} → {m.layout} → {m.backbone.use}")
    pairs = ", ".join(f"{a}~{b}" for a, b in plan.pairs)
    click.echo(
        f"  pretrain    {len(plan.pairs)} pairs ({pairs}); {plan.loss.use}; {plan.positives.use}; {section.epochs} epochs of batches of {section.batch_size}"
    )
    if plan.uses_labels():
        click.echo(f"  labels      pretraining uses {', '.join(plan.positives.spec.needs)}")
    click.echo(
        f"  probe       {', '.join(t.name for t in plan.tasks)} from {', '.join(plan.inputs)} by {', '.join(plan.heads)}"
    )
    click.echo(f"  protocol    {protocol.use}, by {protocol.by}; seeds {', '.join(map(str, plan.seeds))}")
    if plan.root is not None and not plan.root.is_dir():
        click.echo(f"mmcl: the data are not there yet: {plan.root}. {plan.info.get}".rstrip(), err=True)
