"""`mmcl upload`: the prepared streams of a run, and its recordings, put at a URL (`data/remote.py`)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..api.errors import StageError
from ..data.columns import write_recordings
from ..data.prepared import RECORDINGS, load_prepared
from ..data.remote import ABOUT, LISTING, PLACE, SECONDS, Remote
from ..data.store import Store
from ..runs import RunFolder, digest, read_json, write_arrays, write_json
from ..screen import progress


def upload(root: Path, url: str) -> list[str]:
    """Put the prepared streams of a run at a URL, with its recordings; what was put there, in words. What is there already stays.

    Raises StageError if the run is not prepared, or what is there is of other recordings.
    """
    run, remote = RunFolder(root, RunFolder(root).prepared), Remote(url)
    prepared, about = load_prepared(run), read_json(root / "prepare.json")
    names, lines = about.get("listed"), []
    if names is None:
        raise StageError(
            f"{root}: an older mmcl prepared this run; run its recipe again, which keeps what there is, before it is uploaded"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, store in prepared.stores.items():
            if not store.has_checksums:
                raise StageError(
                    f"{store.folder}: an older mmcl prepared these streams and kept no checksums; delete that folder and run the recipe "
                    "again, which prepares them anew"
                )
            lines.append(_put_store(remote, f"{names['dataset']}/{store.folder.name}", store, Path(folder), name))
        base = f"{names['dataset']}/recordings-{names['recordings']}"
        table, listing = Path(folder) / RECORDINGS, Path(folder) / LISTING
        write_recordings(table, prepared.samples, ())
        entry = _entry(table)
        if remote.has(f"{base}/{LISTING}"):
            if remote.json(f"{base}/{LISTING}")["recordings"] != entry:
                raise StageError(
                    f"{remote.url}/{base}: holds other recordings than {root}, whose files have changed; upload to another URL, or remove that"
                )
        else:
            remote.put(table, f"{base}/{RECORDINGS}")
            write_json(listing, {"format": 1, "recordings": entry, "scored": about.get("scores", {})})
            remote.put(listing, f"{base}/{LISTING}")
        for name, content in names["streams"].items():
            store, place = prepared.stores[name], Path(folder) / PLACE
            write_json(place, {"format": 1, "folder": store.folder.name, "key": store.key, "recordings": entry["sha256"]})
            remote.put(place, f"{base}/{content}/{PLACE}")
    return [
        *lines,
        f"{remote.url}: {len(prepared.samples):,} recordings; 'mmcl run … --prepared {remote.url}' starts from them",
    ]


def _put_store(remote: Remote, where: str, store: Store, folder: Path, name: str) -> str:
    """Put one store there, remote.json last; what was put there, in words."""
    paths = {path.name: path for path in sorted(store.folder.iterdir()) if path.suffix in (".safetensors", ".json")}
    if store.timed:
        paths[SECONDS] = folder / SECONDS
        write_arrays(paths[SECONDS], {"seconds": store.durations()})
    files = {file: _entry(path) for file, path in paths.items()}
    size = sum(one["bytes"] for one in files.values())
    about = {"format": 1, "key": store.key, "files": files}
    if remote.has(f"{where}/{ABOUT}"):
        if remote.json(f"{where}/{ABOUT}") == about:
            return f"{name}: {remote.url}/{where} is there already"
        raise StageError(f"{remote.url}/{where}: holds other streams of the name; remove it, or upload to another URL")
    done = 0
    with progress(f"upload {name}", size) as tick:
        for file, path in paths.items():
            remote.put(path, f"{where}/{file}")
            done += files[file]["bytes"]
            tick(done, file)
    write_json(folder / ABOUT, about)
    remote.put(folder / ABOUT, f"{where}/{ABOUT}")
    return f"{name}: {remote.url}/{where}, {size:,} bytes in {len(files)} files"


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": digest(path)}
