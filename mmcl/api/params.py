"""Options of plug-ins: every option has a type, bounds, a sentence and a default, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

from .deprecation import Deprecated

__all__ = ["Field", "NoParams", "Params"]


class Params(BaseModel):
    """Base of every plug-in's options. Unknown keys are refused, values are not bent to fit, and nothing changes later.

    Write one attribute per option, with `Field(default, gt=0, description="…, in seconds")`: the description is the help
    text of `mmcl describe` and of the JSON schema.

    LATER  options that came after others had results: while they have their default, fingerprints leave them out, so that those
           results stay valid. Their default must change nothing of what was there before
    DEPRECATED  options that will go, such as {"size": Deprecated("acme 1.1", "acme 2.0", "write `width`")}: a recipe that has one is told so
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )
    LATER: ClassVar[tuple[str, ...]] = ()
    DEPRECATED: ClassVar[Mapping[str, Deprecated]] = {}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """pydantic's, with what will go marked for editors."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name in cls.DEPRECATED:
            properties[name]["deprecated"] = True
        return schema

    def stated(self) -> dict[str, Any]:
        """Plain values of all options, for plan.json and for fingerprints; those of LATER only where they say something."""
        return self.model_dump(mode="json", context=_STATED)

    @model_serializer(
        mode="wrap", return_type=dict[str, Any]
    )  # the first pydantic 2.10 would look for Any in a plug-in's module
    def _options(self, dumped: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """All options; where they are stated, here and in options inside options, without the silent ones."""
        values: dict[str, Any] = dumped(self)
        if info.context != _STATED:
            return values
        fields = type(self).model_fields  # of a default that is worked out from other options there is none
        defaults = {name: fields[name].get_default(call_default_factory=True, validated_data={}) for name in self.LATER}
        return {name: one for name, one in values.items() if name not in defaults or getattr(self, name) != defaults[name]}


_STATED = {"stated": True}


class NoParams(Params):
    """For a plug-in without options."""
