"""What a dataset's plug-in raises while it lists or reads is the user's to mend: plug-in, file and recording are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcl.api import DataError, StageError
from mmcl.data.reading import read_source, samples_of

MOODS = ("calm", "glad")


class Study:
    """A dataset as one is written after the docs, without a thought for what may be wrong in a file."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def samples(self):
        if self.fault is not None:
            raise self.fault
        row = {"\ufeffid": "a1", "mood": "gald"}
        return [row["id"], MOODS.index(row["mood"])]

    def read(self, id, source):
        if self.fault is not None:
            raise self.fault
        return MOODS.index("gald")


def test_listing_that_fails_names_plug_in_folder_and_line():
    with pytest.raises(DataError) as caught:
        samples_of(Study(), "study", Path("data/study"))
    text = str(caught.value)
    assert text.startswith("data/study: dataset 'study' could not list its recordings: there is no 'id' (KeyError) (")
    lines = Path(__file__).read_text().splitlines()
    (line,) = [number for number, words in enumerate(lines, 1) if words.strip().startswith('return [row["id"]')]
    assert f"test_reading.py line {line}" in text
    assert "\n" not in text
    assert isinstance(caught.value.__cause__, KeyError)


def test_reading_that_fails_names_the_file_and_the_recording():
    with pytest.raises(
        DataError, match=r"^clips/a1\.wav: dataset 'study' could not read 'audio' of recording 'a1': ValueError: "
    ):
        read_source(Study(), "study", "a1", "audio", "clips/a1.wav")


@pytest.mark.parametrize("fault", [DataError("said well"), StageError("said well")])
def test_what_a_plug_in_says_well_stays_as_it_is(fault):
    for call in (lambda: samples_of(Study(fault), "study", None), lambda: read_source(Study(fault), "study", "a", "b", "c")):
        with pytest.raises(type(fault), match="^said well$"):
            call()


def test_running_out_of_memory_is_no_fault_of_a_file():
    with pytest.raises(MemoryError):
        read_source(Study(MemoryError()), "study", "a1", "audio", "a1.wav")
