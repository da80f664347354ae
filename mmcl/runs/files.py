"""How files are written and read: whole or not at all, regular files alone, no link followed, sizes looked at before anything is read."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.errors import StageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

JsonObject = dict[str, Any]

TEXT_BYTES = 2**30
"""Text files of a run larger than this are refused."""
LINES_BYTES, LINE_BYTES = 2**36, 2**26
"""So are files with one object a line, and such a line."""
HOLES, FILLED, EXTENTS = 2**29, 20, 4096
"""How long a file may be: so many bytes and so many times those that lie on the disk; and how many pieces are looked at to count these."""
PART = ".mmcl-part"
"""How the names of files and folders end that are still being written."""


@contextmanager
def locked(path: Path, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Hold a lock file; whether it is ours. Without `wait` it may not be, with it another process is waited for.

    shared  beside others that share it, and beside nobody that holds it alone

    Raises StageError if the file is a link or no regular file.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path, os.O_RDWR | os.O_CREAT, "r+") as file:
        yield _flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def _flock(file: Any, how: int) -> bool:
    """Lock an open file; whether that was possible."""
    import fcntl

    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def tidy(folder: Path, name: str | None = None) -> None:
    """Take away what a killed process left half written: of one file or folder in it, or left out, of all below it."""
    for path in [*folder.rglob(f".*{PART}")] if name is None else [*folder.glob(f".{name[:64]}.*{PART}")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """A file of another name, beside `path`, that takes its place when it is whole and on disk; after an error it is gone.

    Raises StageError where a device or a pipe stands there, or is linked to, such as /dev/null: a file in its place would harm others.
    """
    with suppress(OSError):
        if any(is_one(path.stat().st_mode) for is_one in (stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISSOCK)):
            raise StageError(f"{path}: is a device or a pipe, in whose place no file is put; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}{PART}")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # O_EXCL follows no link either
    usual = stat.S_IMODE(part.stat().st_mode)  # as the umask has it
    try:
        yield part
        to_disk(part, usual)  # safetensors gives its files to their owner alone
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def to_disk(path: Path, mode: int | None = None) -> None:
    """Wait until what a file holds, or a folder's names, are on disk; give it these rights before. Raises OSError if it is a link."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if mode is not None:
            os.fchmod(file, mode)
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def folder_in_place_of(folder: Path) -> Iterator[Path]:
    """A new folder of another name, beside `folder`, that takes its place when it is whole; after an error it is gone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name[:64]}.{secrets.token_hex(8)}{PART}")
    part.mkdir()
    try:
        yield part
        to_disk(part)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    to_disk(folder.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with in_place_of(path) as part, _opened(part, os.O_WRONLY, "w") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all. NaN is refused: say null where there is no number."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=str) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    with lines_in_parts(path) as add:
        add(rows)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    with in_place_of(path) as part, _refusals(path):
        save_file(dict(tensors), str(part))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, whole or not at all; of those that are mapped no copy is held."""
    kinds = {name: _KINDS.get(array.dtype.str) for name, array in arrays.items()}
    if any(kind is None for kind in kinds.values()):
        from safetensors.numpy import save_file

        with in_place_of(path) as part, _refusals(path):
            save_file(dict(arrays), str(part))
        return
    forms = {name: (str(kinds[name]), array.shape) for name, array in arrays.items()}
    with arrays_in_parts(path, forms) as add:
        for name, array in arrays.items():
            flat = array.reshape(-1)  # a copy of what does not lie end to end
            most = max(1, AT_ONCE // flat.itemsize)
            for first in range(0, len(flat), most):
                add(name, flat[first : first + most].view("u1").data)


Form = tuple[str, tuple[int, ...]]
"""Type of an array, as safetensors calls it, and its shape."""
_BYTES = {"I64": 8, "F64": 8, "F32": 4, "I32": 4, "F16": 2, "U8": 1, "BOOL": 1}
"""Types in which arrays are written part by part, and how many bytes a number of each takes; the order is safetensors' own."""
_KINDS = {"<i8": "I64", "<f8": "F64", "<i4": "I32", "<f4": "F32", "<f2": "F16", "|u1": "U8", "|b1": "BOOL"}
"""The same types by numpy's name of them."""
AT_ONCE = 2**22
"""Bytes of an array that are written at a time."""


@contextmanager
def arrays_in_parts(path: Path, forms: Mapping[str, Form]) -> Iterator[Callable[[str, bytes | memoryview], None]]:
    """Write arrays as safetensors, whole or not at all, none of which is ever held: a function that adds bytes to one of them, by name.

    The file has the bytes that `write_arrays` would give it. Raises ValueError at the end unless each array got all its bytes.
    """
    order = sorted(forms, key=lambda name: (-_BYTES[forms[name][0]], list(_BYTES).index(forms[name][0]), name))
    places, entries, end = {}, {}, 0
    for name in order:
        kind, shape = forms[name]
        places[name], end = end, end + _BYTES[kind] * math.prod(shape)
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [places[name], end]}
    head = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    with in_place_of(path) as part:
        with _opened(part, os.O_RDWR, "r+b") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            begins = file.tell()

            def add(name: str, values: bytes | memoryview) -> None:
                file.seek(begins + places[name])
                file.write(values)
                places[name] += memoryview(values).nbytes

            yield add
        short = [name for name in order if places[name] != entries[name]["data_offsets"][1]]
        if short:
            raise ValueError(f"{path}: '{short[0]}' got {places[short[0]]} bytes by its end, and not {entries[short[0]]}")


@contextmanager
def lines_in_parts(path: Path) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """Write one JSON object a line, whole or not at all: a function that adds some, which are then forgotten."""
    with in_place_of(path) as part, _opened(part, os.O_WRONLY, "w") as file:
        yield lambda rows: file.writelines(json.dumps(row, allow_nan=False, default=str) + "\n" for row in rows)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system refuses while safetensors writes is an OSError, as it is elsewhere."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _opened(path: Path, flags: int, mode: str) -> Any:
    """Open a regular file that is no link; nothing is waited for. Raises StageError for anything else, OSError as `open` does."""
    try:
        number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise StageError(f"{path}: is a link, which a run folder may not hold; copy what it stands for") from None
        raise error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise StageError(f"{path}: is no regular file, as a run folder's files are")
    return os.fdopen(number, mode, encoding=None if "b" in mode else "utf-8")


def _hollow(number: int) -> bool:
    """Whether a file holds far fewer bytes than it is long: a few kilobytes can promise terabytes, which would be read as zeros.

    The blocks that it takes are asked first, then its pieces: some file systems do not count the one, and others do not know the other.
    """
    about = os.fstat(number)
    if about.st_size <= HOLES + FILLED * about.st_blocks * 512:
        return False
    held = at = pieces = 0
    try:
        while at < about.st_size and pieces < EXTENTS:
            first = os.lseek(number, at, os.SEEK_DATA)
            at = os.lseek(number, first, os.SEEK_HOLE)
            held, pieces = held + at - first, pieces + 1
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but holes from there on
            return False
    finally:
        os.lseek(number, 0, os.SEEK_SET)
    return about.st_size > HOLES + FILLED * held


def open_file(path: Path, unfinished: bool = False) -> BufferedReader:
    """Open a run folder's file for reading bytes.

    unfinished  it may have its length before its bytes

    Raises StageError if it is a link, no regular file, or next to none of its bytes are there; OSError as `open` does.
    """
    file: BufferedReader = _opened(path, os.O_RDONLY, "rb")
    if not unfinished and _hollow(file.fileno()):
        size = os.fstat(file.fileno()).st_size
        file.close()
        raise StageError(
            f"{path}: says that it has {size:,} bytes, and next to none of them are on the disk; it was changed or copied in part{_advice(path)}"
        )
    return file


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises StageError, naming the file, if it cannot be read."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror})") from None


def _advice(path: Path) -> str:
    """What to do about a file that is damaged or gone."""
    if path.name in ("sweep.json", "trials.json"):
        return "; delete it and run the sweep again"
    if path.stem == "state":  # of a checkpoint: whoever goes on from it knows whether there is another
        return ""
    return "; run its recipe again (`mmcl run`), which makes it anew"


def read_text(path: Path, largest: int = TEXT_BYTES) -> str:
    """A text file. Raises StageError, naming the file, if it is missing, no regular file, too large or not UTF-8."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise StageError(f"{path}: has {size:,} bytes, where at most {largest:,} are expected")
            return file.read(size).decode()
    except FileNotFoundError:
        raise StageError(f"{path}: is missing{_advice(path)}") from None
    except (OSError, ValueError) as error:
        raise StageError(f"{path}: cannot be read as text ({error}){_advice(path)}") from error


def read_json(path: Path) -> JsonObject:
    """A JSON file's object. Raises StageError, naming the file, if it is missing, not JSON, or does not hold what such a file holds."""
    return _object(_modest(path), f"{path}:", path)


def read_jsonl(path: Path) -> list[JsonObject]:
    """The objects of a file with one a line. Raises StageError, naming the file and line, as `read_json` does."""
    return list(each_jsonl(path))


def each_jsonl(path: Path) -> Iterator[JsonObject]:
    """The same, one after the other: none is held, nor the text of more than a line. Raises StageError as `read_jsonl` does."""
    from ..shapes import memory_of, require_modest

    number = memory = characters = 0
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > LINES_BYTES:
                raise StageError(f"{path}: has {size:,} bytes, where at most {LINES_BYTES:,} are expected")
            while line := file.readline(LINE_BYTES + 1):
                number += 1
                if len(line) > LINE_BYTES:
                    raise StageError(f"{path}: line {number} has more than {LINE_BYTES:,} bytes{_advice(path)}")
                text = line.decode().rstrip("\n")
                memory, characters = memory + memory_of(text), characters + len(text)
                require_modest(memory, characters)  # whoever asks may keep all of them
                if text:
                    yield _object(text, f"{path}: line {number}", path)
    except FileNotFoundError:
        raise StageError(f"{path}: is missing{_advice(path)}") from None
    except (OSError, ValueError) as error:
        what = "text" if isinstance(error, OSError | UnicodeDecodeError) else "JSON"
        raise StageError(f"{path}: cannot be read as {what} ({error}){_advice(path)}") from error


def _modest(path: Path) -> str:
    """The text of a file of JSON. Raises StageError, naming the file, if its values would take far more memory than it has bytes."""
    from ..shapes import memory_of, require_modest  # late: it brings pydantic, which `mmcl --help` can do without

    text = read_text(path)
    try:
        require_modest(memory_of(text), len(text))
    except ValueError as error:
        raise StageError(f"{path}: cannot be read as JSON ({error}){_advice(path)}") from None
    return text


def _object(text: str, where: str, path: Path) -> JsonObject:
    from ..shapes import parsed, shape_of

    try:
        value = parsed(text)
    except ValueError as error:
        raise StageError(f"{where} cannot be read as JSON ({error}){_advice(path)}") from error
    if not isinstance(value, dict):
        raise StageError(f"{where} holds {type(value).__name__}, not an object{_advice(path)}")
    if check := shape_of(path):
        try:
            check(value)
        except ValueError as error:
            raise StageError(f"{where} does not hold what it should ({error}){_advice(path)}") from error
    return value


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises StageError, naming the file, if it is missing, no regular file or damaged."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = _tensors(path, load_file)
    return tensors


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The same, as arrays."""
    from safetensors.numpy import load_file

    arrays: dict[str, NDArray[np.generic]] = _tensors(path, load_file)
    return arrays


def _tensors(path: Path, load: Any) -> Any:
    from safetensors import SafetensorError

    try:
        with open_file(path) as file:  # refuses what safetensors would follow or wait for
            return load(f"/dev/fd/{file.fileno()}")  # not by its name, which may lead elsewhere by now
    except FileNotFoundError:
        raise StageError(f"{path}: is missing{_advice(path)}") from None
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise StageError(f"{path}: is not a whole safetensors file ({error}){_advice(path)}") from error
