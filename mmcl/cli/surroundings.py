"""Errors of the machine that a command runs on, as sentences: what the system refuses is the user's to mend, and no bug."""

from __future__ import annotations

import errno
import os
import re

_AGAIN = "the same command goes on then"
_PLACES = "give a place that can be read and written"
WORDS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"make room, or write elsewhere; {_AGAIN}"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), _PLACES
    ),
    **dict.fromkeys((errno.EFBIG,), f"larger files must be allowed (ulimit -f, or another file system); {_AGAIN}"),
    **dict.fromkeys(
        (errno.EIO, errno.EXDEV, errno.EBUSY, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT),
        f"look after the disk, or give another place; {_AGAIN}",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), f"more open files must be allowed (ulimit -n); {_AGAIN}"),
    **dict.fromkeys(
        (errno.EAGAIN, errno.EUSERS), f"more processes must be allowed (ulimit -u), or fewer workers asked for; {_AGAIN}"
    ),
}
"""What to do about what the system says of a file, a folder or a process."""

MEMORY = (
    f"there is not enough memory: make batch_size or micro_batch, widths or windows smaller, or use a larger machine; {_AGAIN}"
)
_REFUSED = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory|std::bad_alloc|Unable to allocate", re.I
)


_LIBRARY = re.compile(
    r"undefined symbol|could not load this library|cannot open shared object|different CUDA versions|operator torchvision::|DLL load failed",
    re.I,
)
"""What a compiled package says that was built for other versions of the packages beside it."""


def library_of(error: BaseException) -> str | None:
    """Which compiled package does not fit those beside it, in a sentence, if an error or what it came of says that; None for any other."""
    for one in _chain(error):
        if isinstance(one, ImportError | OSError | RuntimeError) and _LIBRARY.search(str(one)):
            first = str(one).strip().splitlines()[0]
            return f"a compiled package cannot be loaded beside those that are installed ({first[:240]}); `mmcl doctor` looks for the one that does not fit"
    return None


def sentence_of(error: BaseException) -> str | None:
    """What the machine lacks, in a sentence, if an error or what it came of says that; None for any other."""
    return next((sentence for one in _chain(error) if (sentence := _own(one))), None)


def _chain(error: BaseException) -> list[BaseException]:
    """An error, what it came of, and so on."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return chain


def _own(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _REFUSED.search(str(error))):
        asked = re.search(r"(?:allocate|Tried to allocate) ([\d.]+ ?(?:bytes|[KMGT]iB))", str(error))
        return MEMORY + (f" (it was {asked[1]} that could not be had)" if asked else "")
    if isinstance(error, OSError):
        number = errno.ENOMEM if error.errno is None else error.errno
        if error.errno == errno.ENOMEM:
            return MEMORY
        if number in WORDS:
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            return f"{where}{error.strerror or os.strerror(number)}; {WORDS[number]}"
    return None
