"""Params: the options of a plug-in, with a type, bounds, a default and a sentence for each."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Field", "NoParams", "Params"]


class Params(BaseModel):
    """Base of every plug-in's options. Unknown keys are refused, values are never changed, numbers must be finite.

    Give each option a bound and a sentence: `kernel: int = Field(3, ge=1, description="taps of the convolution over time")`.

    LATER  options that came after others had results: while they have their default, fingerprints leave them out, so that those
           results stay valid. Their default must change nothing of what was there before
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())
    LATER: ClassVar[tuple[str, ...]] = ()

    def stated(self) -> dict[str, Any]:
        """Plain values of all options, for plan.json and for fingerprints; those of LATER only where they say something."""
        defaults = {name: type(self).model_fields[name].get_default(call_default_factory=True) for name in self.LATER}
        silent = {name for name, default in defaults.items() if getattr(self, name) == default}
        return self.model_dump(mode="json", exclude=silent)


class NoParams(Params):
    """For a plug-in without options."""
