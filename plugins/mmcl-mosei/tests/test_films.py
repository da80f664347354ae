"""Films of segments: cut by the label's own interval, or a file whose times or length prove which interval it shows."""

from __future__ import annotations

import numpy as np
import pytest
from mmcl_mosei import MOSEI, MOSI, MoseiParams
from mmcl_mosei.tiny import write_csd
from PIL import Image

from mmcl.media import write_audio, write_film

pytest.importorskip("h5py")
pytest.importorskip("av")

# Rows as the label file of a public video has them: not in order of time. The archive numbers what it cut by time, and numbers skip.
VIDEO = "zv0Jl4TIQDc"
SPANS = ((12.8, 15.0), (4.4, 7.4), (8.1, 12.0))
NUMBERS = (10, 2, 3)  # the archive's, of the rows above
RATE = 10


def level(seconds):
    """Grey of the picture at a second of the whole film: another one every half second."""
    return 20 + 7 * int(seconds * 2)


def frames(start, end, rate=RATE):
    times = start + np.arange(round((end - start) * rate)) / rate
    return np.array([np.full((16, 16, 3), level(t), np.uint8) for t in times])


def labelled(root, spans=SPANS, video=VIDEO):
    rows = (np.linspace(-1, 1, len(spans)).reshape(-1, 1).astype(np.float32), np.array(spans))
    write_csd(root / "labels.csd", "Opinion Segment Labels", {video: rows}, ["sentiment"])


def segmented(root, numbers, spans, pictures=False):
    for number, (start, end) in zip(numbers, spans, strict=True):
        if not pictures:
            write_film(root / f"Raw/Videos/Segmented/Combined/{VIDEO}_{number}.mp4", frames(start, end), RATE)
            continue
        folder = root / f"Frames/{VIDEO}_{number}"
        folder.mkdir(parents=True)
        for i, picture in enumerate(frames(start, end)):
            Image.fromarray(picture).save(folder / f"{i + 1:04d}.png")


def transcript(root, numbers, spans):
    path = root / f"Raw/Transcript/Segmented/Combined/{VIDEO}.txt"
    path.parent.mkdir(parents=True)
    lines = [f"{VIDEO}___{n}___{start}___{end}___what___was said" for n, (start, end) in zip(numbers, spans, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def corpus(root, spec=MOSI):
    return spec.build(MoseiParams(folds="none", video="frames", video_size=(8, 8)), root)


def shown(root, spec=MOSI):
    """Row of the label file → the greys of the first and the last picture read for it."""
    dataset = corpus(root, spec)
    films = {s.id: dataset.read(s.id, "video") for s in dataset.samples() if "video" in s.sources}
    counts = {name: count for name, count in dataset.counts().items() if count}
    return {
        int(id.split("[")[1][:-1]): (round(film.frames[0].mean()), round(film.frames[-1].mean())) for id, film in films.items()
    }, counts


def expected(spans=SPANS, rows=None):
    return {row: (level(start), level(end - 1 / RATE)) for row, (start, end) in enumerate(spans) if rows is None or row in rows}


def agree(got, wanted):
    assert set(got) == set(wanted)
    for row, greys in wanted.items():
        np.testing.assert_allclose(got[row], greys, atol=4, err_msg=f"row {row}")


@pytest.mark.parametrize("folder", ["Raw/Videos/Full/Combined", "Raw/Video/Full"])
def test_a_segment_is_cut_from_the_full_film_by_its_interval(tmp_path, folder):
    labelled(tmp_path)
    write_film(tmp_path / folder / f"{VIDEO}.mp4", frames(0, 16), RATE)
    segmented(tmp_path, (0, 1, 2), SPANS[::-1])  # names that look like rows of the label file, and show other segments
    got, counts = shown(tmp_path)
    agree(got, expected())
    assert counts["segments cut from the full film"] == 3


@pytest.mark.parametrize("pictures", [False, True])
def test_the_times_of_the_transcript_say_what_a_segmented_file_shows(tmp_path, pictures):
    labelled(tmp_path)
    others = ((0.5, 3.5), (15.0, 15.6))  # cut and numbered, but not labelled
    segmented(tmp_path, (*NUMBERS, 0, 11), (*SPANS, *others), pictures)
    transcript(tmp_path, (0, 2, 3, 10, 11), (others[0], SPANS[1], SPANS[2], SPANS[0], others[1]))
    got, counts = shown(tmp_path)
    agree(got, expected())
    assert counts["segments whose own film or pictures have the label's times in Transcript/Segmented"] == 3


def test_pictures_with_times_are_read_at_the_rate_that_their_number_gives(tmp_path):
    labelled(tmp_path)
    segmented(tmp_path, NUMBERS, SPANS, pictures=True)  # 10 a second, which pictures cannot say
    transcript(tmp_path, NUMBERS, SPANS)
    dataset = corpus(tmp_path)
    for sample, (start, end) in zip(dataset.samples(), SPANS, strict=True):
        film = dataset.read(sample.id, "video")
        assert len(film.frames) == round((end - start) * film.rate)


def test_lengths_that_fit_in_one_way_alone_prove_a_segmented_film(tmp_path):
    labelled(tmp_path)
    segmented(tmp_path, (*NUMBERS, 0), (*SPANS, (0.5, 1.5)))
    got, counts = shown(tmp_path)
    agree(got, expected())
    assert counts["segments whose own film or pictures are proven by the lengths of the video's segments"] == 3


def test_what_neither_times_nor_lengths_prove_is_refused_and_counted(tmp_path):
    spans = ((12.8, 15.0), (4.4, 7.4), (8.1, 11.1))  # rows 1 and 2 are of one length
    labelled(tmp_path, spans)
    segmented(tmp_path, (*NUMBERS, 0), (*spans, (1.0, 4.0)))  # and so is what number 0 shows, which has no label
    got, counts = shown(tmp_path)
    agree(got, expected(spans, rows={0}))
    assert counts["segments whose own film or pictures were refused: neither times nor lengths prove what they show"] == 2


def test_a_row_of_the_label_file_is_never_taken_for_the_archives_number(tmp_path):
    labelled(tmp_path)
    segmented(tmp_path, (0, 1, 2), ((1.0, 2.0), (2.0, 3.0), (3.0, 4.0)))
    got, counts = shown(tmp_path)
    assert got == {}
    assert counts["segments whose own film or pictures were refused: neither times nor lengths prove what they show"] == 3


def test_a_film_that_does_not_last_as_long_as_its_times_say_is_refused(tmp_path):
    labelled(tmp_path)
    segmented(tmp_path, NUMBERS, (SPANS[0], SPANS[2], (4.4, 6.4)))
    transcript(tmp_path, NUMBERS, SPANS)
    got, counts = shown(tmp_path)
    agree(got, expected(rows={0}))
    assert counts["segments whose own film or pictures were refused: they do not last as long as their times say"] == 2


def test_a_segment_that_begins_before_the_recording_begins_with_it(tmp_path):
    labelled(tmp_path, ((-0.4, 2.0), (2.5, 4.0)))
    write_film(tmp_path / f"Raw/Videos/Full/Combined/{VIDEO}.mp4", frames(0, 5), RATE)
    tone = np.repeat(np.linspace(0.1, 0.5, 50), 1600)
    write_audio(tmp_path / f"Raw/Audio/Full/WAV_16000/{VIDEO}.wav", tone, 16_000)
    got, counts = shown(tmp_path)
    agree(got, expected(((0.0, 2.0), (2.5, 4.0))))
    assert counts["segments that begin before the recording, taken from its beginning"] == 1
    dataset = corpus(tmp_path)
    first, second = (dataset.read(s.id, "audio").samples for s in dataset.samples())
    assert (len(first), len(second)) == (32_000, 24_000)
    np.testing.assert_allclose(first, tone[:32_000], atol=1e-3)
    assert dataset.samples()[0].facts["seconds"] == 2.0


def test_the_sample_that_the_dataset_writes_has_what_the_archive_has(tmp_path):
    MOSEI.sample(tmp_path, 36, 0)
    dataset = MOSEI.build(MoseiParams(video="frames", video_size=(16, 16)), tmp_path)
    samples = dataset.samples()
    counts = dataset.counts()
    for name in (
        "segments cut from the full film",
        "segments whose own film or pictures have the label's times in Transcript/Segmented",
        "segments whose own film or pictures are proven by the lengths of the video's segments",
        "segments whose own film or pictures were refused: neither times nor lengths prove what they show",
        "segments that begin before the recording, taken from its beginning",
    ):
        assert counts[name], name
    by_emotion = {0: [], 1: []}
    for sample in samples:
        if "video" in sample.sources:  # the face is brighter where there is joy
            by_emotion[sample.targets["emotions"][0]].append(dataset.read(sample.id, "video").frames[:, :, 6:8, 6:11].mean())
    assert max(by_emotion[0]) < min(by_emotion[1])
