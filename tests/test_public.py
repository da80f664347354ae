"""What a user or a plug-in may call is written down, name by name and signature by signature: none changes by accident.

After a change that is meant: raise `mmcl.api.VERSION` where the contract asks for it, then `python tests/test_public.py` writes the list anew.

`public-released.json` is the list of the last release, with what was deprecated then; `python tests/test_public.py --release` writes it, once a
release. What stands in it may only go after it stood there as deprecated.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import sys
import typing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import mmcl.api
from mmcl.api import Deprecated, hooks
from mmcl.plugins import DEPRECATED_NAMES, OURS, REGISTRIES, plugins
from mmcl.recipe.schema import Recipe
from mmcl.recipe.slots import Section

LIST = Path(__file__).with_name("public.json")
RELEASED = LIST.with_name("public-released.json")
MODULES = ("mmcl", "mmcl.api", "mmcl.media", "mmcl.testing")


def signature(value: Any) -> str:
    """How it is called, without the addresses that objects have in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"<function ([^>]*?) at [^>]*>", r"<\1>", str(inspect.signature(value))))


def described(value: Any) -> Any:
    """What of a public thing another package may rely on."""
    if inspect.isclass(value):
        own: dict[str, Any] = {"bases": [base.__name__ for base in value.__mro__[1:] if base.__module__.startswith("mmcl")]}
        protocol = getattr(value, "_is_protocol", False)  # typing lays an __init__ of its own over those
        if "__init__" in vars(value) and not protocol:
            own["call"] = signature(value)
        own["members"] = {}
        for name, member in vars(value).items():
            if name.startswith("_") and name != "__call__":
                continue
            plain = getattr(member, "__func__", member)
            if isinstance(member, property):
                own["members"][name] = "property"
            elif inspect.isfunction(plain):
                own["members"][name] = signature(plain)
        own["fields"] = {name: str(kind) for name, kind in vars(value).get("__annotations__", {}).items() if name[0] != "_"}
        return own
    if callable(value) and hasattr(value, "__module__") and str(value.__module__).startswith(("mmcl", "pydantic")):
        return signature(value) if str(value.__module__).startswith("mmcl") else f"{value.__module__}.{value.__name__}"
    return type(value).__name__


def public() -> dict[str, dict[str, Any]]:
    modules = {name: importlib.import_module(name) for name in MODULES}
    listed: dict[str, Any] = {
        name: {one: described(getattr(module, one)) for one in sorted(module.__all__)} for name, module in modules.items()
    }
    for module, table in DEPRECATED_NAMES.items():
        defined = {one: getattr(importlib.import_module(where), one) for one, (where, _) in table.items()}
        listed[module] = dict(sorted({**listed[module], **{one: described(value) for one, value in defined.items()}}.items()))
    listed["hooks"] = {name: signature(one) for name, one in sorted(vars(hooks).items()) if name.startswith("register_")}
    listed["recipe"] = sorted({key for key, _ in keys(Recipe)})
    listed["options"] = {
        f"{what} {name}": sorted(offer.spec.params.model_fields)
        for what in REGISTRIES
        for name, offer in plugins().all(what)
        if offer.package == OURS and hasattr(offer.spec, "params")
    }
    return {"contract": modules["mmcl.api"].VERSION, **listed, "deprecated": {what: asdict(one) for what, one in deprecated()}}


def keys(section, at=""):
    """Every key of a recipe, dotted, with its field; those of plug-ins are under "options"."""
    for name, field in section.model_fields.items():
        yield f"{at}{name}", field
        for inner in sections_in(field.annotation):
            yield from keys(inner, f"{at}{name}.")


def sections_in(annotation):
    """The sections that a key may hold, however they are wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [one for inner in typing.get_args(annotation) for one in sections_in(inner)]


def deprecated():
    """Everything of ours that will go: (its place in the list, what is said of it)."""
    for module, table in DEPRECATED_NAMES.items():
        yield from ((f"{module}.{name}", one) for name, (_, one) in table.items())
    for name in mmcl.api.__all__:
        fields = getattr(getattr(mmcl.api, name), "DEPRECATED", None) or {}
        yield from ((f"mmcl.api.{name}.fields.{field}", one) for field, one in fields.items())
    for name, value in vars(hooks).items():
        told = getattr(value, "mmcl_spec", None) and value.mmcl_spec["warn_on_impl"]
        if told:
            yield f"hooks.{name}", told.args[1]
    for key, _ in keys(Recipe):
        owner = Recipe
        *above, last = key.split(".")
        owners = [owner]
        for part in above:
            owners = [
                one
                for section in owners
                if part in section.model_fields
                for one in sections_in(section.model_fields[part].annotation)
            ]
        yield from ((f"recipe.{key}", one.DEPRECATED[last]) for one in owners if last in one.DEPRECATED)
    for what in REGISTRIES:
        for name, offer in plugins().all(what):
            if offer.package == OURS and hasattr(offer.spec, "params"):
                yield from ((f"options.{what} {name}.{option}", one) for option, one in offer.spec.params.DEPRECATED.items())


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Every leaf that is not the same, by its place."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for name in sorted({*old, *new})
            for line in differences(old.get(name), new.get(name), f"{at}.{name}".strip("."))
        ]
    return [] if old == new else [f"{at}: was {old}, is {new}"]


def test_every_public_name_and_signature_is_the_one_that_is_written_down():
    wrong = differences(json.loads(LIST.read_text(encoding="utf-8")), json.loads(json.dumps(public())))
    assert not wrong, "\n".join(wrong) + "\n(if it is meant: mmcl.api.VERSION, then python tests/test_public.py)"


def test_a_name_or_an_argument_that_goes_or_changes_is_seen(monkeypatch):
    import mmcl.api

    before = json.loads(json.dumps(public()))
    monkeypatch.setattr(mmcl.api, "__all__", [name for name in mmcl.api.__all__ if name != "Scored"])
    assert any(line.startswith("mmcl.api.Scored") for line in differences(before, json.loads(json.dumps(public()))))
    monkeypatch.undo()

    @dataclasses.dataclass
    class Scored:
        loss: Any

    monkeypatch.setattr(mmcl.api, "Scored", Scored)
    assert any(line.startswith("mmcl.api.Scored") for line in differences(before, json.loads(json.dumps(public()))))


def vanished(released: Any, now: Any, at: str = "") -> list[str]:
    """Every name of a released list that is not there any more, by its place; of what is taken away whole, the whole."""
    if isinstance(released, dict):
        gone = [f"{at}.{name}".strip(".") for name in released if not isinstance(now, dict) or name not in now]
        inner = [name for name in released if isinstance(now, dict) and name in now]
        return [*gone, *(line for name in inner for line in vanished(released[name], now[name], f"{at}.{name}".strip(".")))]
    if isinstance(released, list):
        return [f"{at}.{name}" for name in released if name not in now]
    if isinstance(released, str) and isinstance(now, str):  # two signatures: their parameters
        before, after = (re.findall(r"[(,] ?\*{0,2}(\w+): '", one) for one in (released, now))
        return [f"{at}({name})" for name in before if name not in after]
    return []


def unannounced(released: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What went, or is called in a way that the released one would not bear, without having been deprecated in the release before."""
    told = released["deprecated"]
    lists = ({name: value for name, value in one.items() if name not in ("contract", "deprecated")} for one in (released, now))
    wrong = [f"{place} vanished, and no release has deprecated it" for place in vanished(*lists) if place not in told]
    if now["contract"].partition(".")[0] == released["contract"].partition(".")[0]:
        early = [
            place for place, one in told.items() if one["since"].startswith("contract") and place in vanished(released, now)
        ]
        wrong += [
            f"{place} vanished, and goes with {told[place]['gone']}; this is contract {now['contract']}" for place in early
        ]
    return wrong


def test_nothing_that_was_released_vanishes_without_having_been_deprecated_in_a_release():
    wrong = unannounced(json.loads(RELEASED.read_text(encoding="utf-8")), json.loads(json.dumps(public())))
    assert not wrong, "\n".join(wrong) + "\n(deprecate it for one release first: docs/decisions/0014)"


def test_what_vanishes_unannounced_or_too_early_is_named():
    now = json.loads(json.dumps(public()))
    told = {"since": "contract 1.3", "gone": "contract 2.0", "instead": "-"}
    released = {
        **now,
        "deprecated": {"mmcl.api.Scored": told, "recipe.window.hop": {**told, "since": "mmcl 0.2", "gone": "mmcl 0.3"}},
    }
    assert unannounced(released, now) == []

    def without(*places):
        left = json.loads(json.dumps(now))
        for module, name in places:
            left[module].remove(name) if isinstance(left[module], list) else left[module].pop(name)
        return left

    assert unannounced(released, without(("mmcl.api", "Pair"))) == ["mmcl.api.Pair vanished, and no release has deprecated it"]
    assert unannounced(released, without(("recipe", "window.place"))) == [
        "recipe.window.place vanished, and no release has deprecated it"
    ]
    assert unannounced(released, without(("recipe", "window.hop"))) == []  # deprecated in the release before
    assert unannounced(released, without(("mmcl.api", "Scored"))) == [
        f"mmcl.api.Scored vanished, and goes with contract 2.0; this is contract {now['contract']}"
    ]
    assert unannounced(released, {**without(("mmcl.api", "Scored")), "contract": "2.0"}) == []
    fewer = json.loads(json.dumps(now))
    del fewer["mmcl.api"]["Pair"]["fields"]["ignore"]
    fewer["mmcl"]["run"] = fewer["mmcl"]["run"].replace(" only: 'str | None' = None", "")
    fewer["options"]["loss info-nce"].remove("temperature")
    assert {line.partition(" vanished")[0] for line in unannounced(released, fewer)} == {
        "mmcl.api.Pair.fields.ignore",
        "mmcl.run(only)",
        "options.loss info-nce.temperature",
    }


def test_deprecating_and_taking_away_at_once_is_no_announcement():
    now = json.loads(json.dumps(public()))
    released = json.loads(json.dumps(now))
    del now["mmcl.api"]["Scored"]
    now["deprecated"]["mmcl.api.Scored"] = asdict(Deprecated("contract 1.3", "contract 2.0", "-"))
    assert unannounced(released, now) == ["mmcl.api.Scored vanished, and no release has deprecated it"]


@pytest.mark.parametrize("module", MODULES)
def test_every_name_that_a_module_lists_is_there_once(module):
    names = importlib.import_module(module).__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(importlib.import_module(module), name) for name in names)


if __name__ == "__main__":
    if "--release" in sys.argv:
        RELEASED.write_text(json.dumps(public(), indent=1) + "\n", encoding="utf-8")
    LIST.write_text(json.dumps(public(), indent=1) + "\n", encoding="utf-8")
