"""Options of plug-ins: every option has a type, bounds, a sentence and a default, in one place."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Field", "NoParams", "Params"]


class Params(BaseModel):
    """Base of every plug-in's options. Unknown keys are refused, values are not bent to fit, and nothing changes later.

    Write one attribute per option, with `Field(default, gt=0, description="…, in seconds")`: the description is the help
    text of `mmcl describe` and of the JSON schema.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class NoParams(Params):
    """For a plug-in without options."""
