"""The checks of the options of a plug-in, and the variants of them to check it with."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from ..api.params import Params
from .checks import expect


def make_variants(model: type[Params]) -> list[Params]:
    """The default options, then each other value of every yes-or-no and every choice among words, one at a time."""
    default = model()
    variants = [default]
    for name, field in model.model_fields.items():
        choices: tuple[Any, ...] = (True, False) if field.annotation is bool else ()
        if get_origin(field.annotation) is Literal:
            choices = get_args(field.annotation)
        variants += [model.model_validate({name: value}) for value in choices if value != getattr(default, name)]
    return variants


def expect_options(spec: Any, what: str) -> None:
    """Every option has a sound default and a sentence, and nothing else is taken; `what` is the sort of the spec, as a word."""
    from pydantic import ValidationError

    model: type[Params] = spec.params
    subject = f"{what} '{spec.name}', {model.__name__}"
    expect(
        isinstance(model, type) and issubclass(model, Params),
        f"{subject}: params is a subclass of mmcl.api.Params, so that every option is checked before anything runs",
    )
    for name, field in model.model_fields.items():
        expect(
            not field.is_required(),
            f"{subject}: option '{name}' has no default; `use: {spec.name}` alone must be a complete recipe entry",
        )
        expect(
            bool((field.description or "").strip()),
            f"{subject}: option '{name}' has no description; write Field(…, description=\"…\"), it is the text of `mmcl "
            "describe`",
        )
    defaults = model()
    try:
        model.model_validate(defaults.model_dump())
    except ValidationError as error:
        raise AssertionError(f"{subject}: a default breaks its own type or bounds: {error}") from error
    model.model_json_schema()  # raises where an option cannot be written in a recipe
    try:
        model.model_validate({"certainly-no-option": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError(
            f"{subject}: accepts an unknown option, so a misspelt one would silently do nothing; keep extra='forbid' of "
            "mmcl.api.Params"
        )
    expect(
        bool(model.model_config.get("frozen")),
        f"{subject}: options can be changed after they were read, so a run would not be what its plan says; keep frozen=True",
    )
