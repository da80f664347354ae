"""What a user or a plug-in may call is written down, name by name and signature by signature: none changes by accident.

After a change that is meant: raise `mmcl.api.VERSION` where the contract asks for it, then `python tests/test_public.py` writes the list anew.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).with_name("public.json")
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
    from mmcl.api import hooks

    listed["hooks"] = {name: signature(one) for name, one in sorted(vars(hooks).items()) if name.startswith("register_")}
    return {"contract": modules["mmcl.api"].VERSION, **listed}


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


@pytest.mark.parametrize("module", MODULES)
def test_every_name_that_a_module_lists_is_there_once(module):
    names = importlib.import_module(module).__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(importlib.import_module(module), name) for name in names)


if __name__ == "__main__":
    LIST.write_text(json.dumps(public(), indent=1) + "\n", encoding="utf-8")
