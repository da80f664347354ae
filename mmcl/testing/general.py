"""What is checked of everything that is built, whatever its kind: the process stays as it was, one device, every option at its bounds.

Each kind gives a trial: it builds with some options, uses what it built once, and refuses what can't be right.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

from ..api.errors import MmclError
from ..api.params import Params
from .checks import Check, NotTried, expect
from .device import Mixed, as_on_an_accelerator
from .params import make_variants
from .process import changes_of

Trial = Callable[[Any, Callable[[Any], None]], object]
"""Options, and what is to be called with a network once it is built → anything. Raises ValueError where the options are refused."""

LARGEST = 64
"""Upper bounds of whole numbers that are tried; what is larger takes seconds, and memory."""
_SHARE = 1e-3


def general_checks(subject: str, params: Any, trial: Trial, tensors: bool = True) -> Iterator[Check]:
    """What holds of everything that is built.

    tensors  False for what works in NumPy alone
    """
    if tensors:
        yield "its tensors stand on one device", functools.partial(_device, subject, params, trial)
    values = option_values(type(params)) if params == _defaults(type(params)) else []
    if values:
        yield "it works with every choice and at every bound", functools.partial(_options, subject, params, trial, values)


def process_check(spec: Any, subject: str, params: Any, trial: Trial) -> Check:
    """The first check of all: what is changed for good can be seen once."""
    return "it leaves its process as it was", functools.partial(_process, spec, subject, params, trial)


def package_of(spec: Any) -> str:
    """The package whose code builds it."""
    build = spec.build
    while isinstance(build, functools.partial):
        build = build.func
    return str(getattr(build, "__module__", "")).partition(".")[0]


def option_values(model: type[Params]) -> list[tuple[str, Any]]:
    """(option, value): every other choice, and each bound of a number, open ones from just inside; whole numbers above 64 are left out."""
    try:
        default = model()
    except ValueError:  # some option is required
        return []
    values: list[tuple[str, Any]] = []
    for one in make_variants(model)[1:]:
        values += [(name, getattr(one, name)) for name in model.model_fields if getattr(one, name) != getattr(default, name)][
            :1
        ]
    for name, field in model.model_fields.items():
        value = getattr(default, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low, high = _bounds(field.metadata, isinstance(value, int))
        for bound in (low, high):
            whole_and_large = isinstance(value, int) and bound is not None and abs(bound) > LARGEST
            if bound is not None and bound != value and not whole_and_large:
                values.append((name, int(bound) if isinstance(value, int) else float(bound)))
    return values


def _bounds(metadata: Any, whole: bool) -> tuple[float | None, float | None]:
    """The least and the largest value that an option takes."""
    bound = {key: getattr(one, key) for one in metadata for key in ("ge", "gt", "le", "lt") if hasattr(one, key)}
    span = max(abs(v) for v in (*bound.values(), 0)) or 1.0
    inside = 1 if whole else _SHARE * span
    low = bound["ge"] if "ge" in bound else bound["gt"] + inside if "gt" in bound else None
    high = bound["le"] if "le" in bound else bound["lt"] - inside if "lt" in bound else None
    return low, high


def _defaults(model: type[Params]) -> Params | None:
    try:
        return model()
    except ValueError:
        return None


def _ignore(network: Any) -> None:
    return None


def _process(spec: Any, subject: str, params: Any, trial: Trial) -> None:
    def work() -> None:
        try:
            trial(params, _ignore)
        except Exception:  # noqa: BLE001 - the checks that follow look at what it builds, and say so; NotTried too
            return

    changed = changes_of(work, package_of(spec))
    expect(
        not changed,
        f"{subject} changes {'; '.join(changed)}. Everything else in the process works under it, so no run would be what its plan says; "
        "leave it alone, or put it back",
    )


def _device(subject: str, params: Any, trial: Trial) -> None:
    try:
        with as_on_an_accelerator() as moved:
            trial(params, moved)
    except Mixed as error:
        raise AssertionError(
            f"{subject}: {error}: a GPU refuses that. Make tensors where the data are (device=stream.values.device), and those that are kept a "
            "parameter or a buffer"
        ) from error
    except ValueError as error:
        raise NotTried(f"{subject} refuses what is made up here ({error})") from error


def _options(subject: str, params: Any, trial: Trial, values: list[tuple[str, Any]]) -> None:
    for name, value in values:
        try:
            other = type(params).model_validate({**params.model_dump(), name: value})
        except ValueError:
            continue  # refused by the options themselves
        where = f"{subject} with {name}: {value}"
        try:
            trial(other, _ignore)
        except NotTried:
            continue
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        except (ValueError, MmclError):
            continue  # refused in a sentence
        except Exception as error:
            raise AssertionError(
                f"{where} raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}; its option allows "
                "that value, so it works, or is refused by a bound, a validator or `fits`, before anything runs"
            ) from error


def expect_finite(value: Any, what: str) -> None:
    """Refuse numbers that are not finite."""
    import torch

    fine = bool(value.isfinite().all()) if isinstance(value, torch.Tensor) else math.isfinite(value)
    expect(fine, f"{what} is not finite")
