"""One call for `mmcl export` and `mmcl publish`: what is written, and what is said of it."""

from __future__ import annotations

from pathlib import Path

from ..api.errors import StageError
from .learned import read_learned


def give(run: Path, folder: Path, to: str, fold: int | None, seed: int | None, network: str | None) -> list[str]:
    """Write what a run learned; lines that say what was written and how near it is to the run's own.

    to  "onnx", "torch-export", "safetensors"; or "webdataset": the prepared streams of a fold in place of what was learned from them

    Raises StageError for anything that is missing, cannot be exported or comes out otherwise.
    """
    if to == "webdataset":
        from .tars import write_tars

        if seed is not None or network is not None:
            raise StageError(
                "--to webdataset writes the streams of a fold, which are of no seed and no network; leave --seed and --network out"
            )
        return write_tars(run, folder, fold)
    learned = read_learned(run, fold, seed, network)
    if to == "safetensors":
        from .publish import publish

        left_out = publish(learned, folder)
        lines = [f"{folder}: {learned}; the weights read back are the same to the bit; open it with mmcl.load"]
    else:
        from .export import NEAR, export_graph

        done = export_graph(learned, to, folder)
        left_out = done.left_out
        lines = [
            f"{done.file}: {learned}",
            f"  inputs   {', '.join(done.inputs)}",
            f"  outputs  {', '.join(done.outputs)}",
            f"  checked  at most {done.apart:.1e} from the run's own on made-up batches ({NEAR:g} is allowed), by {done.compared}",
            f"  sizes    {'; '.join(done.fixed) if done.fixed else 'any number of rows, any length'}",
        ]
    return [*lines, *(f"  left out {one}" for one in left_out)]
