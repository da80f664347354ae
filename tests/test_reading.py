"""What a dataset's plug-in raises while it lists or reads is the user's to mend: plug-in, file and recording are named."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import pytest

from mmcl.api import DataError, PluginError, StageError
from mmcl.data.reading import Unread, read_source, samples_of, value_or_reason

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


def test_a_file_without_permission_is_the_files_fault_and_no_plug_ins():
    class Reader:
        def read(self, id, source):
            return path.read_bytes()

    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:  # one that an ordinary user may enter
        path = Path(folder) / "a1.wav"
        path.write_bytes(b"sound")
        path.chmod(0)
        if root:
            Path(folder).chmod(0o755)
            os.chown(path, 65534, 65534)
            os.seteuid(65534)
        try:
            read = partial(read_source, Reader(), "study", "a1", "audio", "a1.wav")
            answer = value_or_reason(read, "a1.wav", Path(folder))
            path.chmod(0o400)  # what the sentence says to do
            again = value_or_reason(read, "a1.wav", Path(folder))
        finally:
            if root:
                os.seteuid(0)
    assert isinstance(answer, Unread)
    assert answer.alike == ""
    assert f"{path} may not be read (Permission denied); give yourself the right to" in answer.reason
    assert again == b"sound"


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a1.wav")
    answer = value_or_reason(lambda: pytest.fail("was read"), "a1.wav", tmp_path)
    assert answer == Unread("a1.wav: is neither a file nor a folder, but a pipe, a socket or a device; recordings are files")


def test_an_unforeseen_error_and_a_stream_of_another_shape_are_the_plug_ins():
    def wrong():
        raise PluginError("the modality returned shape (3,), its layout is [T, 4]")

    unforeseen = value_or_reason(lambda: read_source(Study(), "study", "a1", "audio", "a1.wav"), "a1.wav", None)
    assert unforeseen.alike == "ValueError"
    assert value_or_reason(wrong, "a1.wav", None).error is not None
