"""The places of a recipe where a plug-in is named: `use:` and, beside it, the plug-in's own options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from ..api.deprecation import Deprecated

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Section(BaseModel):
    """A part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())
    LATER: ClassVar[tuple[str, ...]] = ()
    """Keys that came after others had results: while they have their default, plan.json and fingerprints leave them out."""
    DEPRECATED: ClassVar[Mapping[str, Deprecated]] = {}
    """Keys that will go: a recipe that has one is told so."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """pydantic's, with what will go marked for editors."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name in cls.DEPRECATED:
            properties[name]["deprecated"] = True
        return schema

    @model_serializer(mode="wrap", return_type=dict[str, Any])
    def _stated(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dumped(self)
        silent = [name for name in self.LATER if getattr(self, name) == type(self).model_fields[name].get_default()]
        return {name: value for name, value in values.items() if name not in silent}


def later_keys() -> frozenset[str]:
    """The names of all keys that sections leave out of plan.json while they have their default."""
    sections, names = [Section], set[str]()
    while sections:
        section = sections.pop()
        sections += section.__subclasses__()
        names |= set(section.LATER)
    return frozenset(names)


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


class UseGroupLoss(Use, what="group-loss"):
    """A loss of any number of modalities at once."""

    weight: float = Field(
        1.0, gt=0, description="what it counts for beside the pairs, whose loss is added to it; alone, its factor"
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="names of the modalities that are scored together; left out: all"
    )


class UsePositives(Use, what="positives"):
    """A rule for what belongs together."""


class UseSampler(Use, what="sampler"):
    """A way of putting recordings into batches."""


class UseHead(Use, what="head"):
    """A probe."""

    standardise: Literal["train", "group"] | None = Field(
        None, description="how its features are centred and scaled; left out: as probe.standardise says"
    )


class UseScorer(Use, what="scorer"):
    """A scorer."""

    source: str | None = Field(None, description="which source of the dataset to score; left out: the only one that fits")
    standardise: Literal["split"] | None = Field(
        None,
        description="split: the mean of the first number over the recordings of a split is taken from every number, which is then divided by "
        "that first number's deviation, as UniVA's code does; it reads the scores of test recordings together. Left out: as they are",
    )


class UsePretext(Use, what="pretext"):
    """A pretext task."""
