"""mmcl schema"""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of recipes, with the options of every installed plug-in.

    In an editor, begin a recipe with:  # yaml-language-server: $schema=recipe.schema.json
    """
    from ..plugins import plugins
    from ..recipe.json_schema import json_schema

    click.echo(json.dumps(json_schema(plugins()), indent=1, ensure_ascii=False))
