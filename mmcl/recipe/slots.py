"""The places of a recipe where a plug-in is named: `use:` and, beside it, the plug-in's own options."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Use(Section):
    """`use:` names a plug-in; the keys beside it are that plug-in's options. `use: x` alone may be written `x`."""

    model_config = ConfigDict(extra="allow")
    what: ClassVar[str]  # the kind of plug-in, as `mmcl describe` calls it
    use: str = Field(description="name of the plug-in")

    def __init_subclass__(cls, what: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.what = what

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside `use`, as given."""
        return dict(self.model_extra or {})


def _spelled_out(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


SHORT = BeforeValidator(_spelled_out)
"""Lets `x` stand for `{use: x}`."""


class UseDataset(Use, what="dataset"):
    """A dataset."""

    root: str | None = Field(
        None,
        description="folder of the data; a relative one is taken under --data DIR (or $MMCL_DATA), else under the current "
        "folder; left out: DIR/<name of the dataset>",
    )


class UseModality(Use, what="modality"):
    """A way of turning a raw recording into a stream."""


class UseBackbone(Use, what="backbone"):
    """A network."""


class UseLoss(Use, what="loss"):
    """A loss between two modalities."""


class UsePositives(Use, what="positives"):
    """A rule for what belongs together."""


class UseHead(Use, what="head"):
    """A probe."""

    standardise: Literal["train", "group"] | None = Field(
        None, description="how its features are centred and scaled; left out: as probe.standardise says"
    )


class UseScorer(Use, what="scorer"):
    """A scorer."""

    source: str | None = Field(None, description="which source of the dataset to score; left out: the only one that fits")


class UsePretext(Use, what="pretext"):
    """A pretext task."""
