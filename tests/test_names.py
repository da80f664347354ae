"""Names that people give: a class called as a part of a picture is, a folder called as a file is."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from mmcl.begin.table import draft_table
from mmcl.media import walk_folders
from mmcl.plugins import plugins
from mmcl.report.figures.picture import picture
from mmcl.report.tags import distinct_ids
from mmcl.runs import read_json
from mmcl.stages.prepare import prepare

NAMES = [
    "url(#q)",
    ' id="q"',
    'href="#q"',
    "style: #010101",
    "font-family: x; y",
    "xlink:href",
    "<metadata>a</metadata>",
    "url(#",
    "</svg>",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_class_stands_in_a_picture_as_it_is(name):
    def draw(width):
        figure = Figure(figsize=(width / 72, 2))
        axes = figure.subplots()
        axes.scatter(range(3), range(3), clip_on=True)
        axes.set_xticks([0], [name])
        return figure

    once = picture(draw, name)
    page = distinct_ids(f"<html>{once.wide}{once.narrow}</html>")
    texts = [re.sub(r"<[^>]*>", "", one) for one in re.findall(r"<text.*?</text>", page, re.DOTALL)]
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert sum(escaped.strip() in one for one in texts) == 2
    tags = "".join(re.findall(r"<[^>]*>", page))
    ids = re.findall(r' id="([^"]+)"', tags)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:href=\"|url\()#([\w.-]+)", tags)) <= set(ids)


def test_a_folder_that_is_called_as_a_file_is_listed_and_named(tiny_plan, tmp_path, run):
    root = tmp_path / "data" / "ravdess"
    plugins().get("dataset", "ravdess").spec.sample(root, 12, 0)
    victim = sorted(root.rglob("03-01-*.wav"))[0]
    victim.unlink()
    victim.mkdir()
    (victim / "inside.txt").write_text("x", encoding="utf-8")
    recipe = (
        "format: 1\nname: read\ndataset: ravdess\nmodalities:\n  one: {source: audio, features: {use: log-mel, bands: 4}, "
        "backbone: {use: mlp, hidden: [4], width: 4}}\npretrain: {epochs: 0}\nprobe: {inputs: [one]}\n"
        "protocol: {use: hold-out, test: 0.3, valid: 0.3}\n"
    )
    prepare(tiny_plan(text=recipe, data=tmp_path / "data"), run, workers=1)
    (skipped,) = read_json(run.root / "prepare.json")["modalities"]["one"]["skipped"]
    assert victim.name in skipped["where"]
    assert "is not a file" in skipped["reason"]


def test_a_folder_of_pictures_that_is_called_as_a_film_is_a_film_still(tmp_path):
    from PIL import Image

    for name in ("film.mp4", "empty.mp4"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "film.mp4" / "0.png")
    (_, folders, files), *_ = walk_folders(tmp_path)
    assert (folders, files) == (["film.mp4"], ["empty.mp4"])


def test_a_draft_of_a_table_leaves_such_a_folder_out_and_says_so(tmp_path):
    import numpy as np
    import soundfile

    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(160), 16000)
    (tmp_path / "c.wav").mkdir()
    draft = draft_table(tmp_path)
    assert [row["id"] for row in draft.rows] == ["a", "b"]
    assert "c.wav: left out; is a folder, and is called as a recording's file is" in draft.notes
