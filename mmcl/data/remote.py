"""Prepared streams at a URL, read through a cache on this machine that keeps to a size.

    URL/DATASET/FEATURES-KEY/        a store, file by file (`store.py`), and
        remote.json                  size and SHA-256 of each of its files; written last, so a folder with it is whole
        seconds.safetensors          how long each stream is, where steps carry their own times
    URL/DATASET/recordings-LISTED/   recordings of a dataset with certain options, with their scores:
        listing.json recordings.safetensors
        CONTENT/place.json           the store of what is made of them by certain features
    CACHE/streams/DIGEST/            the files of it that were asked for; DIGEST is that of the URL and of what remote.json says

LISTED and CONTENT are fingerprints of what a plan says. The URL is the user's. What lies there may come from anybody: it names no place, only
files of the few names that a store has, each within the size and with the checksum that remote.json says. A file takes its place in the cache when both are right, and is read under a shared
lock that lives as long as its memory map: whoever makes room takes away the file that nobody has used for longest, and none that is locked.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, TypeVar, overload
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ..api.errors import StageError
from ..runs import PART, PREPARED, JsonObject, digest, fingerprint, locked, open_file
from ..shapes import memory_of, parsed, require_modest, shape_of
from .store import LONGEST, NOT_WHOLE, Arrays, Store, mapped_file, shard_name

CACHE, CACHE_GB = "MMCL_CACHE", "MMCL_CACHE_GB"
"""Variables: the folder of the cache, and how much it may hold in GB."""
GB = 50.0
"""How much the cache may hold unless MMCL_CACHE_GB says another."""
PROTOCOLS = ("s3", "gs", "https", "http", "file")
"""What a URL may begin with."""
ABOUT, SECONDS, LISTING, PLACE = "remote.json", "seconds.safetensors", "listing.json", "place.json"
"""The files at a URL that a folder of prepared streams has not."""
ABOUT_BYTES, RECORDINGS_BYTES, CHUNK = 2**28, 2**36, 2**22
"""A larger remote.json is refused, and larger recordings.safetensors; bytes that are asked for at a time."""
TRIES, PAUSE, ROOM_SECONDS = 4, 0.5, 60.0
"""How often a request is made, seconds before the second (twice as long each time), and how long room in the cache is waited for."""
_NAME = re.compile(r"store\.json|index\.safetensors|seconds\.safetensors|recordings\.safetensors|shard-\d{5,9}\.safetensors")

Result = TypeVar("Result")


class Wrong(Exception):
    """What lies at a URL is not what it should be; it may be so the next time, as after a broken connection."""


def split_url(url: str) -> str:
    """A URL of prepared streams, as it is used. Raises StageError if it is none."""
    parts = urlsplit(url)
    if parts.scheme not in PROTOCOLS or "::" in url or not (parts.netloc or parts.scheme == "file"):
        known = ", ".join(f"{one}://" for one in PROTOCOLS)
        raise StageError(f"{url}: is no URL of prepared streams; one begins with {known} (--prepared, {PREPARED})")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise StageError(
            f"{parts.scheme}://{parts.hostname}{parts.path}: the URL of prepared streams is that of a folder, without ?, # and passwords; "
            "credentials stand in the environment, as the protocol's own tools have them"
        )
    return url.rstrip("/")


class Remote:
    """A folder at a URL. Its files are read whole; an error is one sentence."""

    def __init__(self, url: str) -> None:
        self.url = split_url(url)

    @cached_property
    def _system(self) -> Any:
        """The protocol's file system. Raises StageError if a package is missing."""
        scheme = self.url.partition("://")[0]
        options: dict[str, Any] = {"use_listings_cache": False}
        try:
            import fsspec

            if scheme == "s3":
                options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
            elif scheme.startswith("http"):
                import aiohttp

                options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)}
            return fsspec.filesystem(scheme, **options)
        except ImportError as error:
            extra = "mmcl[remote]" if scheme != "gs" else "mmcl[remote]' 'gcsfs"
            raise StageError(f"{self.url}: a package is missing ({error}): pip install '{extra}'") from None

    def _tried(self, name: str, attempt: Callable[[], Result]) -> Result:
        """What an attempt gives, made again where that may help. Raises StageError."""
        for tried in range(1, TRIES + 1):
            try:
                return attempt()
            except StageError:
                raise
            except Exception as error:  # each protocol raises errors of its own
                sentence, again = _reason(error)
                if not again or tried == TRIES:
                    often = f", {TRIES} times" if again else ""
                    raise StageError(f"{self.url}/{name}: {sentence}{often}") from error
            time.sleep(PAUSE * 2 ** (tried - 1))
        raise AssertionError

    def chunks(self, name: str, most: int) -> Iterator[bytes]:
        """The bytes of a file, no more than one beyond `most`. Raises what the protocol raises."""
        with self._system.open(f"{self.url}/{name}", "rb", cache_type="none") as file:
            there = 0
            while there <= most and (chunk := file.read(min(CHUNK, most + 1 - there))):
                there += len(chunk)
                yield chunk

    def text(self, name: str, most: int = ABOUT_BYTES) -> bytes:
        """A whole small file. Raises StageError if it is not there, cannot be read or is larger than `most`."""
        content: bytes = self._tried(name, lambda: b"".join(self.chunks(name, most)))
        if len(content) > most:
            raise StageError(f"{self.url}/{name}: has more than {most:,} bytes, where that is the most")
        return content

    def json(self, name: str) -> JsonObject:
        """A JSON file that `mmcl upload` wrote. Raises StageError if it is not there, or none."""
        return _object(self.text(name), name.rpartition("/")[2], f"{self.url}/{name.rpartition('/')[0]}")

    def has(self, name: str) -> bool:
        """Whether a file is there. Raises StageError if that cannot be known."""

        def attempt() -> bool:
            try:
                self._system.info(f"{self.url}/{name}")  # `exists` of some protocols says no where nothing can be reached
            except FileNotFoundError as error:
                if _cause(error) is not error:
                    raise
                return False
            return True

        return self._tried(name, attempt)

    def fetch(self, name: str, entry: Mapping[str, Any], place: Path) -> None:
        """Write a file of known size and checksum into `place`, which is there and has that size. Raises StageError."""
        self._tried(name, lambda: self._fetch(name, int(entry["bytes"]), str(entry["sha256"]), place))

    def _fetch(self, name: str, size: int, sha256: str, place: Path) -> None:
        hashed, there = hashlib.sha256(), 0
        with place.open("r+b") as file:
            for chunk in self.chunks(name, size):
                there += len(chunk)
                if there > size:
                    break
                hashed.update(chunk)
                file.write(chunk)
        if there != size:
            more = "goes on after" if there > size else "ends after"
            raise Wrong(f"{more} {min(there, size):,} bytes, where {size:,} were uploaded")
        if hashed.hexdigest() != sha256:
            raise Wrong("is not what was uploaded (its checksum is another): it was changed there, or on the way")

    def put(self, path: Path, name: str) -> None:
        """Copy a file there, and see that it has arrived. Raises StageError if that cannot be done."""
        size = path.stat().st_size

        def attempt() -> None:
            if self.url.startswith("file://"):
                self._system.makedirs(f"{self.url}/{name}".rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), f"{self.url}/{name}")
            there = self._system.info(f"{self.url}/{name}").get("size")
            if there != size:
                raise Wrong(f"has {there} bytes after {size:,} were uploaded")

        if self.url.startswith("http"):
            raise StageError(
                f"{self.url}: nothing can be uploaded over HTTP; upload to the bucket, or to the folder (file:///…), that it serves"
            )
        self._tried(name, attempt)


def _object(content: bytes, name: str, where: str) -> JsonObject:
    """The object of a JSON file within the limits of such a file. Raises StageError if it is none."""
    try:
        text = content.decode()
        require_modest(memory_of(text), len(text))
        value = parsed(text)
        check = shape_of(PurePath(name))
        if not isinstance(value, dict) or check is None:
            raise ValueError("it holds no object")
        check(value)
    except ValueError as error:
        raise StageError(
            f"{where}/{name}: is not what 'mmcl upload' writes ({error}); remove it there and upload the run again"
        ) from None
    return value


def _cause(error: Exception) -> Exception:
    """What went wrong: fsspec calls a file missing whatever kept it from looking at it over HTTP, and names that as its cause."""
    cause = error.__cause__
    of_http = isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp")
    return cause if of_http and isinstance(cause, Exception) and getattr(cause, "status", None) not in (404, 410) else error


def _reason(error: Exception) -> tuple[str, bool]:
    """What an error of a protocol means, and whether another try may help."""
    error = _cause(error)
    status, words = getattr(error, "status", None), f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    if isinstance(error, Wrong):
        return str(error), True
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "is not there", False
    if isinstance(error, PermissionError) or status in (401, 403) or "Credential" in type(error).__name__:
        return f"may not be read or written with what this machine knows of credentials ({words})", False
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
        return f"is refused by the server ({words})", False
    return f"cannot be reached, or broke off ({words})", True


class Cache:
    """A folder of files that can be had again, which holds no more than so many bytes. Safe for several processes and threads."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._held: OrderedDict[Path, tuple[Arrays, int]] = OrderedDict()
        self._turn = threading.Lock()

    def held(self, path: Path) -> Arrays | None:
        """The arrays of a file that this process has used a short while ago; None where they are to be mapped anew."""
        with self._turn:
            if path not in self._held:
                return None
            self._held.move_to_end(path)
            return self._held[path][0]

    def hold(self, path: Path, arrays: Arrays, size: int) -> None:
        """Keep the arrays of a file at hand, as far as a sixteenth of the cache reaches: what is held is in use, and so never taken away."""
        with self._turn:
            self._held[path] = (arrays, size)
            while sum(size for _, size in self._held.values()) > self.most // 16:
                self._held.popitem(last=False)

    def release(self) -> None:
        """Let go of all that is held."""
        with self._turn:
            self._held.clear()

    @staticmethod
    def usual() -> Cache:
        """The cache of this user. Raises StageError if MMCL_CACHE_GB is no number, and where there is no home for a cache."""
        asked = os.environ.get(CACHE_GB) or str(GB)
        try:
            most = float(asked)
        except ValueError:
            most = math.nan
        if not 0 < most < math.inf:
            raise StageError(
                f"{CACHE_GB} is '{asked}', where it is how many GB the cache of remote streams may hold, such as 50"
            )
        try:  # as `mmcl.media` has it, which readers of prepared streams do not know
            root = Path(os.environ.get(CACHE) or "~/.cache/mmcl").expanduser()
        except RuntimeError as error:
            raise StageError(
                f"there is no home folder to keep a cache in: name a folder that can be written in {CACHE}"
            ) from error
        return Cache(root / "streams", round(most * 10**9))

    @contextmanager
    def room_for(self, place: Path, size: int) -> Iterator[Path]:
        """A file of `size` bytes beside `place`, which takes its place when the caller has filled it. Raises StageError if there is no room."""
        if size > self.most:
            raise StageError(
                f"{place.name}: has {size:,} bytes, and the cache of remote streams ({self.folder}) holds at most {self.most:,}; set {CACHE_GB} "
                "to a larger number"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        part, file = place.with_name(f".{place.name}.{os.getpid()}-{threading.get_ident()}{PART}"), None
        until = time.monotonic() + ROOM_SECONDS
        while file is None:
            with locked(self.folder / ".lock"):
                if self._makes_room(size):
                    file = part.open("w+b")
                    _lock(file.fileno())  # by which others see that somebody is writing it
                    os.truncate(part, size)  # so much of the cache is taken from now on
            if file is None:
                if time.monotonic() > until:
                    raise StageError(
                        f"{self.folder}: the files in use leave no room for {size:,} bytes of {place.name}, where the cache holds at most "
                        f"{self.most:,}; set {CACHE_GB} to a larger number, or run fewer processes at once"
                    )
                self.release()
                time.sleep(0.05)
        try:
            with file:
                yield part
                os.fsync(file.fileno())
                with locked(self.folder / ".lock"):  # whoever counts meanwhile would miss it under both names
                    part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _makes_room(self, size: int) -> bool:
        """Take away the files used longest ago, none that is in use, until `size` bytes fit in; whether they do."""
        known: list[tuple[float, int, Path]] = []
        for path in self.folder.rglob("*"):
            with suppress(OSError):
                status = path.lstat()
                if path.is_file() and not path.name.endswith("lock"):
                    known.append((-1.0 if path.name.endswith(PART) else status.st_mtime, status.st_size, path))
        over = sum(bytes_ for _, bytes_, _ in known) + size - self.most
        for when, bytes_, path in sorted(known):
            if (over > 0 or when < 0) and _dropped(path):  # what a killed process left half written goes at once
                over -= bytes_
        return over <= 0


def _lock(number: int, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file; whether that was possible."""
    import fcntl

    try:
        fcntl.flock(number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _dropped(path: Path) -> bool:
    """Take a file of the cache away unless somebody has locked it; whether it is gone."""
    try:
        with open_file(path, unfinished=True) as file:
            if not _lock(file.fileno(), wait=False):
                return False
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


class Files:
    """The files of one store at a URL, each fetched when it is asked for. Safe to use from several threads.

    Raises StageError if the store is not there, or not whole.
    """

    def __init__(self, remote: Remote, where: str, cache: Cache) -> None:
        self.remote, self.where, self.cache = remote, where, cache
        about = remote.json(f"{where}/{ABOUT}")
        self.key, self._entries = str(about["key"]), dict(about["files"])
        for name, entry in self._entries.items():
            if not _NAME.fullmatch(name) or not 0 <= entry["bytes"] <= LONGEST:
                raise StageError(f"{remote.url}/{where}/{ABOUT}: names '{name[:80]}', which is no file of prepared streams")
        self.folder = self.cache.folder / fingerprint([remote.url, where, about])

    def __str__(self) -> str:
        return f"{self.remote.url}/{self.where}"

    @property
    def names(self) -> list[str]:
        """Every file."""
        return sorted(self._entries)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(int(entry["bytes"]) for entry in self._entries.values())

    def about(self) -> JsonObject:
        """What store.json says. Raises StageError if it does not hold what it should."""
        with self._at_hand("store.json") as file:
            return _object(file.read(), "store.json", str(self))

    def arrays(self, name: str) -> Arrays:
        """The arrays of a file, memory-mapped; it stays where it is for as long as one of them is used."""
        path = self.folder / name
        if (known := self.cache.held(path)) is not None:
            return known
        with self._at_hand(name) as file:  # its lock lives on in the memory map, which holds the same open file
            arrays = mapped_file(file, path)
        self.cache.hold(path, arrays, int(self._entries[name]["bytes"]))
        return arrays

    def shards(self, count: int, check: Callable[[int, Arrays], None]) -> Shards:
        """All shards; each is checked when it is first asked for."""
        return Shards(self, count, check)

    def seconds(self, streams: int) -> NDArray[np.float64] | None:
        """How long each stream is, where steps carry their own times. Raises ValueError if that is not there."""
        seconds = np.array(self.arrays(SECONDS)["seconds"])
        if seconds.dtype != np.float64 or seconds.shape != (streams,) or not np.isfinite(seconds).all():
            raise ValueError(f"{SECONDS} does not say how long {streams} streams are")
        return seconds

    @contextmanager
    def _at_hand(self, name: str) -> Iterator[Any]:
        """A file of the cache, open and locked against being taken away."""
        if name not in self._entries:
            raise StageError(f"{self}: {NOT_WHOLE} (it has no {name}); remove it there and upload the run again")
        path = self.folder / name
        while True:
            try:
                file = open_file(path)
            except FileNotFoundError:
                self._fetch(name, path)
                continue
            with file:
                _lock(file.fileno(), shared=True)
                if os.fstat(file.fileno()).st_nlink:  # else it was taken away before it was locked
                    os.utime(path)
                    yield file
                    return

    def _fetch(self, name: str, path: Path) -> None:
        """Bring a file into the cache, unless another process does that meanwhile."""
        entry = self._entries[name]
        with locked(path.with_name(f".{name}.lock")):
            if path.exists():
                return
            with self.cache.room_for(path, int(entry["bytes"])) as part:
                self.remote.fetch(f"{self.where}/{name}", entry, part)

    def changed(self) -> list[str]:
        """A sentence for each file that is not, to the byte, what was uploaded; every byte is read, here or there."""
        wrong = []
        for name in self.names:
            with self._at_hand(name):
                if digest(self.folder / name) != self._entries[name]["sha256"]:
                    wrong.append(f"{self.folder / name} is not what was fetched; delete it, and it is fetched again")
        return wrong


class Shards(Sequence[Arrays]):
    """The shards of a store at a URL, each fetched, and checked once, when it is asked for."""

    def __init__(self, files: Files, count: int, check: Callable[[int, Arrays], None]) -> None:
        self._files, self._count, self._check = files, count, check
        self._known: set[int] = set()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, shard: int) -> Arrays: ...
    @overload
    def __getitem__(self, shard: slice) -> list[Arrays]: ...
    def __getitem__(self, shard: int | slice) -> Arrays | list[Arrays]:
        if isinstance(shard, slice):
            return [self[one] for one in range(*shard.indices(self._count))]
        arrays = self._files.arrays(shard_name(shard))
        if shard not in self._known:
            try:
                self._check(shard, arrays)
            except (ValueError, KeyError) as error:
                raise StageError(f"{self._files}: {NOT_WHOLE} ({error}); remove it there and upload the run again") from None
            self._known.add(shard)
        return arrays


def open_store(remote: Remote, where: str, cache: Cache) -> Store:
    """The store at a place below a URL. Raises StageError if it is not there, not whole, or cannot be reached."""
    files = Files(remote, where, cache)
    return Store(files.folder, files)
