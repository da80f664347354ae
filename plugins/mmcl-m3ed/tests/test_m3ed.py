"""M3ED's utterances: order, emotions by name, splits by show, characters as words, and files that are not as they should be."""

from __future__ import annotations

import json
import shutil

import pytest
from mmcl_m3ed import EMOTIONS, M3ED, M3edParams

from mmcl.api import DataError
from mmcl.testing import check_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m3ed")
    M3ED.sample(folder, 96, 0)
    return folder


def dataset(root, **options):
    return M3ED.build(M3edParams(**options), root)


def test_the_toolkits_own_checks_pass(tmp_path):
    check_dataset(M3ED, tmp_path)


def test_utterances_carry_their_emotions_by_name_and_their_shows_split(root):
    said = json.loads((root / "annotation.json").read_text())
    lists = {
        show: {"train": "train", "val": "valid", "test": "test"}[p.stem.split("_")[-1]]
        for p in (root / "splitInfo").iterdir()
        for show in p.read_text().split()
    }
    samples = dataset(root).samples()
    assert len(samples) == sum(
        len(d["Dialog"]) for show, dialogues in said.items() if show in lists for d in dialogues.values()
    )
    for sample in samples:
        show = sample.id.split("_")[0]
        emotions = said[show][f"{show}_1"]["Dialog"][sample.id]["EmoAnnotation"]
        assert sample.group == show
        assert sample.split == lists[show]
        assert {name for name, there in zip(EMOTIONS, sample.targets["emotions"], strict=True) if there} == set(
            emotions["final_mul_emo"].lower().split(",")
        )
        assert EMOTIONS[sample.targets["emotion"]] == emotions["final_main_emo"].lower()
    numbers = [int(s.id.split("_")[-1]) for s in samples if s.group == "anjia"]
    assert numbers == sorted(numbers)
    assert len(numbers) > 9


def test_words_are_characters_or_what_stands_between_spaces(root, tmp_path):
    made = dataset(root)
    sample = next(s for s in made.samples() if "text" in s.sources)
    text = json.loads((root / "annotation.json").read_text())[sample.group][f"{sample.group}_1"]["Dialog"][sample.id]["Text"]
    assert made.read(sample.id, "text").words == tuple(text)
    assert dataset(root, words="spaces").read(sample.id, "text").words == (text,)
    assert len(made.read(sample.id, "audio").samples) > 8000


def test_what_is_odd_is_counted(root):
    made = dataset(root)
    made.samples()
    assert made.counts() == {
        "shows that stand in no list": 1, "utterances without a word": 1, "utterances without a wav": 1, "utterances that end before they begin": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"final_main_emo": "Happy"', '"final_main_emo": "Joyful"', "has the emotion 'joyful'; one of happy"),
        ('"Speaker": "A"', '"speaker": "A"', "lacks 'Speaker'"),
        ('"StartTime": "00:00:02:00"', '"StartTime": "2 s"', "StartTime is '2 s'; HH:MM:SS:FF was expected"),
        ('"Dialog"', '"Dialogue"', "has no 'Dialog' of utterances"),
        ('{"anjia"', '{{"anjia"', "is not JSON"),
    ],
)
def test_damaged_files_give_one_sentence(root, tmp_path, old, new, words):
    bad = tmp_path / "bad"
    shutil.copytree(root, bad)
    text = (bad / "annotation.json").read_text()
    assert old in text
    (bad / "annotation.json").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        dataset(bad).samples()


def test_a_show_in_two_lists_is_refused(root, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(root, bad)
    with (bad / "splitInfo/movie_list_test.txt").open("a") as file:
        file.write("anjia\n")
    with pytest.raises(DataError, match="show 'anjia' stands in train too"):
        dataset(bad).samples()
    (bad / "splitInfo/movie_list_val.txt").unlink()
    with pytest.raises(DataError, match="it names the shows of a split"):
        dataset(bad).samples()
