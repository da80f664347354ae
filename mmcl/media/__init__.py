"""Public helpers for authors of datasets: files read whole or refused, each refusal a DataError of one sentence.

read_audio(path)       a sound file → Audio
open_audio(path)       the same, decoded a block at a time while it is used where it is long, so that an hour takes no more memory than a minute
at_rate(audio, rate)   its samples at another rate, refused if they are not finite; blocks_at_rate(audio, rate): the same, a block at a time
Framing(length, …)     equally long frames out of sound that comes a block at a time; joined(blocks): blocks in one array
read_table(path)       a CSV with a header → Table
read_listing(path)     a table of recordings: CSV as spreadsheets write it, JSON lines, Parquet → Listing
to_number(text)        the number in a cell, or None
read_words(path)       a transcript (txt, srt, vtt, json, csv) → Words; words_of(text, place): of a text
transcribe(audio, …)   the words that are spoken in a sound, with their times (faster-whisper) → Words; require_model(model): refused early
spoken_part(audio, …)  a sound from its first to its last voice → Audio; require_voices(): refused early
face_landmarks(path, rate), face_crops(path, rate)  the main face of a film, its 68 points (FACE_COLUMNS) or upright pictures of it (dlib) → Table,
                       Video; require_faces(): refused early
read_weights(path)     published weights, safetensors or torch → tensors by name; nothing of a pickle is run
read_array(path, key)  a ready array (npy, npz, mat, safetensors); array_shape(path, key): its shape, from its head; array_rate(path): its rate, if it says one
sound_header(path), film_header(path), folder_header(path, rate)  what the head of a sound, a film, a folder of pictures says → Header
ARRAYS, FILMS, PICTURES, SOUNDS, COMPRESSED_SOUNDS, TRANSCRIPTS, LISTINGS  usual endings of the files that these read
has_sound(path)        whether a film has sound; film_length(path): seconds that its pictures last, by its head
IDS, PEOPLE            columns that name a recording; that say who is in it
SPLIT_WORDS            words for a split → ours
read_text(path)        the text of a file, whatever its byte order mark, line endings and quotes; decoded(bytes): of its bytes
is_number(text)        whether a text is a number
read_mat(path, key)    one array of a MATLAB file
read_film(path, …)     a video file (PyAV), or a folder of numbered pictures, or a part of it → Video
read_sound(path)       the sound of a video file → Audio; open_sound(path): decoded while it is used, as `open_audio` does
open_film(path, size, rate)  the same, of a whole film, height × width and frames a second, decoded while it is used where it is long
grouped_frames(blocks, n)  the frames of `Video.blocks`, n at a time; nearest_frames(rate, wanted): those at another rate; retimed(film, rate): a film said to be of a rate
read_pictures(path, size)  pictures without a clock: of one file, or of a folder → Pictures
has_pictures(folder)   whether a folder holds numbered pictures
require_folder(…)      the folder of a dataset, or a DataError that says what belongs there and how to get it
cached_folder(name, write)  a folder of the cache, written whole on the first call
walk_folders(root)     each folder below a root once, hidden names passed over, links followed
Recordings(…)          the recordings below a folder: listed once, then known by id
defect(name), count_defects(…)  fields of a dataclass of defects, and how often each is there
write_audio(path, …), write_film(path, frames, rate, Audio)  a sound file and a small film, for the sample that a dataset writes of itself
nodding_oval(…), lit_wall(…)  frames of such a film
progress(title, total) shows how far a plug-in's own long work has come: `with progress(…) as tick: tick(done, "words")`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..screen import progress
from ..text import decoded, is_number, read_text

if TYPE_CHECKING:
    from .arrays import ARRAYS, array_rate, array_shape, read_array
    from .corpus import Recordings, count_defects, defect, walk_folders
    from .crops import FACE_COLUMNS, face_crops, face_landmarks
    from .files import cached_folder, packaged_files, require_folder
    from .film import (
        COMPRESSED_SOUNDS,
        FILMS,
        PICTURES,
        has_pictures,
        open_film,
        open_sound,
        read_film,
        read_pictures,
        read_sound,
        write_film,
    )
    from .finder import require_faces
    from .frames import grouped_frames, nearest_frames, retimed
    from .headers import film_header, film_length, folder_header, has_sound, sound_header
    from .listing import IDS, LISTINGS, PEOPLE, SPLIT_WORDS, Listing, read_listing, to_number
    from .matlab import read_mat
    from .samples import lit_wall, nodding_oval
    from .sound import SOUNDS, Framing, at_rate, blocks_at_rate, joined, open_audio, read_audio, write_audio
    from .speech import require_model, require_voices, spoken_part, transcribe
    from .tables import read_table
    from .transcripts import TRANSCRIPTS, read_words, words_of
    from .weights import read_weights

__all__ = [
    "ARRAYS",
    "COMPRESSED_SOUNDS",
    "FACE_COLUMNS",
    "FILMS",
    "IDS",
    "LISTINGS",
    "PEOPLE",
    "PICTURES",
    "SPLIT_WORDS",
    "SOUNDS",
    "TRANSCRIPTS",
    "Framing",
    "Listing",
    "Recordings",
    "at_rate",
    "blocks_at_rate",
    "cached_folder",
    "count_defects",
    "decoded",
    "defect",
    "face_crops",
    "face_landmarks",
    "film_length",
    "array_rate",
    "array_shape",
    "film_header",
    "folder_header",
    "grouped_frames",
    "has_pictures",
    "has_sound",
    "is_number",
    "joined",
    "lit_wall",
    "nearest_frames",
    "nodding_oval",
    "open_audio",
    "open_film",
    "open_sound",
    "packaged_files",
    "progress",
    "read_array",
    "read_audio",
    "read_film",
    "read_listing",
    "read_mat",
    "read_pictures",
    "read_sound",
    "read_table",
    "read_weights",
    "read_words",
    "read_text",
    "require_faces",
    "require_folder",
    "require_model",
    "require_voices",
    "retimed",
    "sound_header",
    "spoken_part",
    "to_number",
    "transcribe",
    "walk_folders",
    "words_of",
    "write_audio",
    "write_film",
]

_IN = {
    "arrays": ("ARRAYS", "array_rate", "array_shape", "read_array"),
    "corpus": ("Recordings", "count_defects", "defect", "walk_folders"),
    "crops": ("FACE_COLUMNS", "face_crops", "face_landmarks"),
    "files": ("cached_folder", "packaged_files", "require_folder"),
    "film": (
        "COMPRESSED_SOUNDS",
        "FILMS",
        "has_pictures",
        "PICTURES",
        "open_film",
        "open_sound",
        "read_film",
        "read_pictures",
        "read_sound",
        "write_film",
    ),
    "finder": ("require_faces",),
    "frames": ("grouped_frames", "nearest_frames", "retimed"),
    "headers": ("film_header", "film_length", "folder_header", "has_sound", "sound_header"),
    "listing": ("IDS", "LISTINGS", "PEOPLE", "SPLIT_WORDS", "Listing", "read_listing", "to_number"),
    "matlab": ("read_mat",),
    "samples": ("lit_wall", "nodding_oval"),
    "sound": ("SOUNDS", "Framing", "at_rate", "blocks_at_rate", "joined", "open_audio", "read_audio", "write_audio"),
    "speech": ("require_model", "require_voices", "spoken_part", "transcribe"),
    "tables": ("read_table",),
    "transcripts": ("TRANSCRIPTS", "read_words", "words_of"),
    "weights": ("read_weights",),
}
"""Files of this folder and what they offer, each imported when something of it is first asked for: a dataset that only looks for its folder
needs no numpy to be listed."""


def __getattr__(name: str) -> Any:
    for file, names in _IN.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f".{file}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
