"""Tensors that a plug-in makes on the CPU and mixes with those that it was given: an error on any accelerator, seen here without one.

The tensors that a plug-in is given, and all that is made from them, count as an accelerator's. One that is made without `device=` counts as the
CPU's, and so does what comes from NumPy or from `.cpu()`. A number (0-d) and an index may come from either side, as on a real accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

FACTORIES = (
    *("arange", "as_tensor", "empty", "eye", "from_numpy", "full", "linspace", "logspace", "normal", "ones", "rand", "randint"),
    *("randn", "randperm", "tensor", "tril_indices", "triu_indices", "zeros"),
)
"""Functions of torch that make a tensor of nothing that lies on a device."""
MOVES = ("cpu", "cuda", "to", "type_as")
MIXING = (
    *("__getitem__", "__setitem__", "_pack_padded_sequence", "copy_", "index_put_", "pack_padded_sequence", "set_", "shape"),
    *("__get__", "__set__", "load_state_dict", "requires_grad_"),
)
"""What takes tensors of both sides."""


class Mixed(Exception):
    """A tensor of the CPU meets one of the accelerator."""


@contextmanager
def as_on_an_accelerator() -> Iterator[Callable[[Any], None]]:
    """While a plug-in works: raise Mixed where its tensors could not stand on one device. Gives what says that a network, or what is
    given to it, has been moved there.

    Nothing is computed otherwise than without it.
    """
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils.weak import WeakTensorKeyDictionary

    strays = WeakTensorKeyDictionary()
    factories = {getattr(torch, name) for name in FACTORIES}

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            named = dict(kwargs or {})
            given = list(_tensors([*args, *named.values()]))
            here = [one for one in given if one in strays]
            name = getattr(func, "__name__", "")
            _refuse_mixture(name, given, here)
            out = func(*args, **named)
            stray = bool(here) and len(here) == len(given)
            if func in factories:
                stray = named.get("device") is None and (stray or not given)
            elif name in MOVES and isinstance(out, torch.Tensor):
                stray, out = _moved(name, args, named, out, stray)
            for one in _tensors([out]):
                if stray:
                    strays[one] = True
            return out

    def moved(given: Any) -> None:
        for one in _held(given):
            if one in strays:
                del strays[one]

    with Watch():
        yield moved


def _refuse_mixture(name: str, given: list[Tensor], here: list[Tensor]) -> None:
    if name in ("numpy", "__array__") and given and not here:
        raise Mixed(f"{name} is asked of a tensor on the accelerator")
    if not here or len(here) == len(given) or name in MIXING or name in MOVES:
        return
    lost = [one for one in here if one.dim() > 0]
    if lost:
        raise Mixed(f"{name} is given a tensor of shape {tuple(lost[0].shape)} that was made on the CPU")


def _moved(name: str, args: tuple[Any, ...], named: Mapping[str, Any], out: Tensor, stray: bool) -> tuple[bool, Tensor]:
    """Whether a tensor that was moved stands on the CPU now; the tensor, as another object where its side has changed."""
    import torch

    others = (*args[1:], *named.values())
    target = next((one for one in others if isinstance(one, str | torch.device | torch.Tensor)), None)
    if name == "cpu" or (name == "to" and str(target) == "cpu" and isinstance(target, str)):
        return True, out.view(out.shape)
    if name == "to" and target is None:
        return stray, out  # another type of number
    return False, out.view(out.shape)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Every tensor of nested lists."""
    import torch

    for one in values:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from _tensors(one)


def _held(given: Any) -> Iterator[Tensor]:
    """Every tensor of a network, or of a dataclass, a mapping or a list of tensors."""
    import torch

    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, torch.nn.Module):
        yield from (*given.parameters(), *given.buffers())
    elif isinstance(given, Mapping):
        for one in given.values():
            yield from _held(one)
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _held(one)
    elif hasattr(given, "__dataclass_fields__"):
        for name in given.__dataclass_fields__:
            yield from _held(getattr(given, name))
