"""Names that whoever made the data, or the run folder, has chosen: classes, people, recordings, tasks, modalities. They stay words, whatever is in them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import mmcl
from mmcl.cli import main
from mmcl.media import write_audio
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe
from mmcl.report import run_and_report
from mmcl.runs import RunFolder, read_json
from tests.conftest import keep_split, split_of
from tests.test_report import Page

WORDS = {
    "reference": "url(#q)",
    "script": "</script></style></svg><script>alert(1)</script>",
    "attribute": "\"><img src=x onerror='alert(1)'>",
    "comment": "<!-- <![CDATA[ ]]> -->",
    "entity": "&lt;b&gt; &#60; &nosuch;",
    "formula": "$x^2$ \\frac{1}{2} %s {0} {{ 7*7 }}",
    "right to left": "\u202eevil\u202c \u2067שלום\u2069",
    "controls": "a\x1b[2Jb\x07\x00\x0bc\x9b",
    "no characters": "\ufffe\uffff\u200b",
    "line": "two\nlines\r\n\tand a tab",
    "long": "long " * 2000,
    "one word": "W" * 10_000,
    "empty": "",
    "blank": "   ",
    "path": "../../../etc/passwd",
    "formula of a spreadsheet": "=cmd|' /C calc'!A0",
}
TOGETHER = {
    "all at once": " ".join(word for word in WORDS.values() if len(word) < 9000),
    **{name: WORDS[name] for name in ("reference", "long", "one word", "empty", "line")},
}
"""The same in fewer words, for what is tried with each."""
NOTHING = {"script", "iframe", "object", "embed", "img", "base", "form", "foreignobject"}
"""Elements that no page of a run has."""
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
"""Signs that XML does not have, and those that turn the words around them round."""


def require_harmless(path: Path) -> Page:
    """A page in balance without anything that runs, whose pictures are XML; nothing is fetched by it."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not page.tags & NOTHING
    assert not FORBIDDEN.search(text)
    for tag, key, value in page.loads:
        assert value.startswith(("#", "data:,", "data:image/png;base64,")) or re.fullmatch(r"[\w./-]+\.html", value), (
            f"<{tag} {key}={value[:80]}>"
        )
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    for svg in svgs:
        picture = ElementTree.fromstring(svg)
        known = {one.get("id") for one in picture.iter()}
        for one in picture.iter():
            assert not [name for name in one.attrib if name.lower().startswith("on")]
            referred = re.findall(r"url\(#([^)]+)\)", " ".join(one.attrib.values())) + [
                value[1:] for name, value in one.attrib.items() if name.endswith("href") and value.startswith("#")
            ]
            assert set(referred) <= known
    assert svgs
    return page


# ------------------------------------------------------------------------------------------------ a corpus of such names


RECIPE = """\
format: 1
name: study
seed: 1
dataset: {{use: folder, root: {root}}}
modalities:
  voice: {{features: {{use: log-mel, bands: 4, hop: 0.1, window: 0.2}}, backbone: {{use: tcn, channels: [4]}}}}
  hand: {{features: {{use: signals}}, backbone: {{use: mlp, hidden: [4], width: 4}}}}
window: {{seconds: 0.5}}
projection: {{hidden: 4, width: 4}}
pretrain: {{batch_size: 8, epochs: 2}}
probe: {{inputs: [voice, all], heads: {{linear: {{use: linear, l2: [0.1]}}}}}}
supervise: {{inputs: [voice], heads: {{mlp: {{use: mlp, hidden: 4}}}}, epochs: 1, batch_size: 8}}
worth: {{few_shot: [0.5], draws: 1, maps: [pca], points: 60}}
report: {{against: [random, majority]}}
protocol: {{use: k-fold, k: 2}}
"""
LABELS = [
    re.sub("[;|,\x00\x9b]", "", word)  # a table's label with ; is a list, NUL is no text, and U+009B a quote of Windows
    for word in WORDS.values()
    if word.strip() and len(word) < 9000
]


def _sound(path: Path, seed: int) -> Path:
    write_audio(path, np.random.default_rng(seed).normal(0, 0.1, 6000), 8000)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished run of a folder whose classes, people and recordings are named so; where it lies, and the folder."""
    folder = tmp_path_factory.mktemp("words")
    root = folder / "data"
    (root / "sounds").mkdir(parents=True)
    with (root / "recordings.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "speaker", "mood", "voice", "hand", "hand_rate"])
        for i in range(6 * len(LABELS)):
            label = LABELS[i % len(LABELS)]
            _sound(root / "sounds" / f"{i}.wav", i)
            np.save(root / "sounds" / f"{i}.npy", np.random.default_rng(i).normal(size=(12, 3)).astype(np.float32))
            rows.writerow([f"{label}{i}", f"{label}{i % 12}", label, f"sounds/{i}.wav", f"sounds/{i}.npy", 10])
    recipe = RECIPE.format(root=root)
    run = RunFolder(folder / "runs" / "study")
    run_and_report(make_plan(parse_recipe(recipe, "the recipe")), run, workers=1)
    return run.root, root


@pytest.mark.slow
def test_a_corpus_of_hostile_names_runs_to_its_report(study):
    run, _ = study
    page = require_harmless(run / "report.html")
    task = read_json(run / "prepare.json")["tasks"]["mood"]
    assert {" ".join(label.split()) for label in LABELS} == {" ".join(one.split()) for one in task["classes"]}
    for word in ("url(#q)", "$x^2$", "<!-- <![CDATA[ ]]> -->", "<script>alert(1)</script>"):
        assert word in page.text, "names stand on the page as the words that they are"


@pytest.mark.slow
def test_what_is_asked_of_such_a_run_is_answered(study, tmp_path, capsys, monkeypatch):
    run, _ = study
    monkeypatch.chdir(tmp_path)
    sound = _sound(tmp_path / "one.wav", 7)
    asked = (
        ("audit", str(run)),
        ("compare", str(run)),
        ("predict", str(run), str(sound), "--input", "voice"),
        ("runs", "list", str(run.parent)),
        ("report", str(run), str(run.parent / "again"), "--out", str(tmp_path / "several.html")),
        ("search", str(run), str(sound)),
        ("publish", str(run), str(tmp_path / "published")),
        ("export", str(run), str(tmp_path / "tars"), "--to", "webdataset"),
    )
    shutil.copytree(run, run.parent / "again")
    for words in asked:
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        told = capsys.readouterr()
        assert stop.value.code in (0, None), (words, told.err[-600:])
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", told.out + told.err), words
    require_harmless(tmp_path / "several.html")
    shutil.rmtree(run.parent / "again")


@pytest.mark.slow
def test_the_page_of_one_recording_is_harmless(study, tmp_path):
    run, _ = study
    for id in [one["id"] for one in _samples(run)][: len(LABELS)]:
        out = tmp_path / "one.html"
        with pytest.raises(SystemExit) as stop:
            main(["data", "show", str(run), id, "--out", str(out)])
        assert stop.value.code in (0, None)
        require_harmless(out)
        out.unlink()


@pytest.mark.slow
def test_a_server_answers_with_such_names_as_json_and_its_page_holds_none_of_them(study, tmp_path):
    pytest.importorskip("fastapi", reason="the extra serve is not installed: pip install 'mmcl[serve]'")
    opened = mmcl.open(study[0])
    (answer,) = opened.predict([_sound(tmp_path / "one.wav", 3)])
    assert answer
    static = Path(mmcl.__file__).parent / "use" / "serve" / "static"
    script = (static / "page.js").read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser", script
    )


def _samples(run: Path) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = split_of(run)["samples"]
    return samples


# ------------------------------------------------------------------------------------- a folder in which every name is so


NAMES = ("emotion", "angry", "happy", "audio", "text", "speaker", "toy", "linear", "small", "toy-00001")


def _renamed(value: Any, word: str) -> Any:
    """JSON with a word in place of each of the names, also within others (`audio~text`) and as keys."""
    if isinstance(value, dict):
        return {_renamed(name, word): _renamed(one, word) for name, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, word) for one in value]
    if isinstance(value, str):
        for number, name in enumerate(NAMES):
            value = re.sub(rf"(?<![\w-]){name}(?![\w-])", lambda _, n=number: f"{word}{n or ''}", value)
    return value


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*TOGETHER, "half of a character"])
def test_a_folder_whose_names_are_hostile_is_reported_or_refused_in_a_sentence(kind, pair, tmp_path, capsys):
    """Whoever changed the files by hand has a report of words, or one sentence; nothing in between."""
    word = TOGETHER.get(kind, "\ud800")
    run = tmp_path / "runs" / "one"
    shutil.copytree(pair[0], run)
    shutil.copytree(pair[0].parent / "prepared", tmp_path / "runs" / "prepared")
    kept = split_of(run)
    for path in run.rglob("*.json*"):
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text(encoding="utf-8")]
        path.write_text("\n".join(json.dumps(_renamed(json.loads(line), word)) for line in lines) + "\n", encoding="utf-8")
    if kind != "half of a character":
        keep_split(run, {"stores": kept["stores"], "samples": _renamed(kept["samples"], word), "folds": kept["folds"]})
    codes, words_of = {}, {}
    for words in (("report",), ("compare",), ("audit",), ("tables", "mpuc-mer"), ("runs", "list")):
        with pytest.raises(SystemExit) as stop:
            main([*words, str(run if words[0] != "runs" else run.parent)])
        told = capsys.readouterr()
        codes[words[0]], words_of[words[0]] = stop.value.code, told.err
        assert stop.value.code in (0, None, 1, 2), words
        assert "Traceback" not in told.err + told.out
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", told.out + told.err), words
    assert codes["report"] in (0, None, 2)
    if codes["report"] != 2:
        require_harmless(run / "report.html")
    assert (codes["report"] == 2) == (kind == "half of a character"), words_of["report"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOGETHER)
def test_recordings_and_people_may_be_called_anything(kind, pair, tmp_path):
    """Ids and groups lie in columns; they reach pictures, tables and messages."""
    run = tmp_path / "runs" / "one"
    shutil.copytree(pair[0], run)
    kept = split_of(run)
    for number, one in enumerate(kept["samples"]):
        one["id"], one["group"] = f"{TOGETHER[kind]}{number or ''}", f"{TOGETHER[kind]}{one['group'] if number % 2 else ''}"
    keep_split(run, kept)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(run)])
    assert stop.value.code in (0, None)
    require_harmless(run / "report.html")
