"""M3ED's utterances: order, emotions by name, splits by show, characters as words, films cut to them, and files that are not as they should be."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mmcl_m3ed import EMOTIONS, M3ED, M3edParams

from mmcl.testing import check_dataset
from mmcl.testing.corpora import calls_of, expect_refusal, expect_seeded, tiny_copies, write_pictures

root, spoilt = tiny_copies(M3ED, 96)


def dataset(root, **options):
    return M3ED.build(M3edParams(**options), root)


def entries(root):
    """Utterance → what the annotation file says of it, and its show; listed shows only."""
    annotation = json.loads((root / "annotation.json").read_text(encoding="utf-8"))
    listed = {show for path in (root / "splitInfo").iterdir() for show in path.read_text().split()}
    return {
        id: {**one, "show": show}
        for show, dialogues in annotation.items()
        if show in listed
        for dialogue in dialogues.values()
        for id, one in dialogue["Dialog"].items()
    }


def seconds(time):
    hours, minutes, whole, frames = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(whole) + int(frames) / 25


@pytest.mark.parametrize("options", [{}, {"words": "spaces", "clips": "none"}], ids=["default", "words-alone"])
def test_the_toolkits_own_checks_pass(options, tmp_path):
    check_dataset(M3ED, tmp_path, M3edParams(**options))


def test_utterances_carry_their_emotions_by_name_and_their_shows_split(root):
    lists = {
        show: {"train": "train", "val": "valid", "test": "test"}[p.stem.split("_")[-1]]
        for p in (root / "splitInfo").iterdir()
        for show in p.read_text().split()
    }
    wanted, samples = entries(root), dataset(root).samples()
    assert {s.id for s in samples} == set(wanted)
    assert len(samples) == len(wanted)
    for s in samples:
        one = wanted[s.id]
        assert s.group == one["show"]
        assert s.split == lists[one["show"]]
        emotions = one["EmoAnnotation"]
        assert {name for name, there in zip(EMOTIONS, s.targets["emotions"], strict=True) if there} == set(
            emotions["final_mul_emo"].lower().split(",")
        )
        assert EMOTIONS[s.targets["emotion"]] == emotions["final_main_emo"].lower()
        assert s.facts["speaker"] == f"{one['show']}_1_{one['Speaker']}"
    assert any(sum(s.targets["emotions"]) == 2 for s in samples)


def test_every_emotion_is_in_every_split_of_the_tiny_copy(root):
    samples = dataset(root).samples()
    for split in ("train", "valid", "test"):
        assert {s.targets["emotion"] for s in samples if s.split == split} == set(range(7))
        assert np.any([s.targets["emotions"] for s in samples if s.split == split], axis=0).all()


def test_utterances_stand_by_their_numbers_though_the_file_has_ten_before_two(root):
    keys = [id for id, one in entries(root).items() if one["show"] == "anjia"]
    assert keys.index("anjia_1_10") < keys.index("anjia_1_2")
    numbers = [int(s.id.split("_")[-1]) for s in dataset(root).samples() if s.group == "anjia"]
    assert numbers == list(range(1, len(keys) + 1))


def test_dialogues_stand_by_their_numbers_too(spoilt):
    path = spoilt / "annotation.json"
    annotation = json.loads(path.read_text())
    lines = annotation["jia"]["jia_1"]["Dialog"]
    for k in (10, 9):
        annotation["jia"][f"jia_{k}"] = {"Dialog": {id.replace("_1_", f"_{k}_"): one for id, one in lines.items()}}
    path.write_text(json.dumps(annotation))
    order = list(dict.fromkeys(s.facts["dialogue"] for s in dataset(spoilt).samples() if s.group == "jia"))
    assert order == ["jia_1", "jia_9", "jia_10"]


def test_words_are_characters_or_what_stands_between_spaces(root, spoilt):
    corpus, wanted = dataset(root), entries(root)
    sample = next(s for s in corpus.samples() if "text" in s.sources)
    text = wanted[sample.id]["Text"]
    assert corpus.read(sample.id, "text").words == tuple(text)
    assert corpus.read(sample.id, "text").times is None
    assert dataset(root, words="spaces").read(sample.id, "text").words == (text,)
    mixed = next(id for id, one in wanted.items() if "OK" in one["Text"])
    assert corpus.read(mixed, "text").words == ("OK", "，", "给", "我", "300", "块")
    path = spoilt / "annotation.json"
    path.write_text(path.read_text().replace("OK，给我300块", "你 don't 知道 3.5吗？"))
    assert dataset(spoilt).read(mixed, "text").words == ("你", "don't", "知", "道", "3.5", "吗", "？")
    assert dataset(spoilt, words="spaces").read(mixed, "text").words == ("你", "don't", "知道", "3.5吗？")


def test_sound_is_the_speakers_wav_of_the_utterance_wherever_it_lies(spoilt):
    corpus, wanted = dataset(spoilt), entries(spoilt)
    for s in corpus.samples():
        if "audio" in s.sources:
            assert Path(s.sources["audio"]).name == f"{wanted[s.id]['Speaker']}_{s.id}.wav"
    s = next(s for s in corpus.samples() if "audio" in s.sources)
    wave, rate = soundfile.read(spoilt / s.sources["audio"], dtype="float32")
    (spoilt / "elsewhere").mkdir()
    (spoilt / s.sources["audio"]).rename(spoilt / "elsewhere" / Path(s.sources["audio"]).name)
    got = dataset(spoilt).read(s.id, "audio")
    assert got.rate == rate
    np.testing.assert_array_equal(got.samples, wave)


def test_a_film_is_cut_to_the_utterance(root):
    corpus, wanted = dataset(root, video_size=(24, 32)), entries(root)
    seen = 0
    for s in corpus.samples():
        if "video" not in s.sources or s.group not in ("anjia", "zheli"):
            continue
        start, end = (seconds(wanted[s.id][key]) for key in ("StartTime", "EndTime"))
        got = corpus.read(s.id, "video")
        assert got.rate == 25
        assert got.frames.shape == (round(end * 25) - round(start * 25), 3, 24, 32)
        # The tiny films are bright (110 and more) while somebody speaks, dark (40) in between.
        assert np.abs(got.frames.astype(int) - (110 + 15 * s.targets["emotion"])).max() < 12
        assert s.facts["seconds"] == pytest.approx(end - start, abs=0.001)
        seen += 1
    assert seen == 2 * 12 - 1  # one ends before it begins


def test_an_utterance_is_its_own_part_of_the_film(root, monkeypatch):
    import mmcl_m3ed.utterances as module

    read_film, calls = module.read_film, calls_of(monkeypatch, module, "read_film")
    corpus = dataset(root)
    utterances = [s for s in corpus.samples() if s.group == "anjia" and "video" in s.sources]
    times = [tuple(seconds(entries(root)[s.id][key]) for key in ("StartTime", "EndTime")) for s in utterances]
    assert len(utterances) > 4
    for s, (start, end) in zip(utterances, times, strict=True):
        whole = read_film(root / s.sources["video"], M3edParams().video_size, 25.0)
        np.testing.assert_array_equal(corpus.read(s.id, "video").frames, whole.frames[round(start * 25) : round(end * 25)])
    assert [call[3:] for call in calls] == times


def test_an_utterance_that_a_film_does_not_reach_is_refused(spoilt):
    write_pictures(spoilt / "pictures" / "anjia_1", np.zeros((100, 8, 8, 3)), "{:04d}.jpg")
    corpus = dataset(spoilt, picture_rate=25, video_size=(8, 8))
    refused = []
    for s in corpus.samples():
        if s.facts["dialogue"] == "anjia_1" and "video" in s.sources:
            if seconds(entries(spoilt)[s.id]["EndTime"]) <= 4:
                corpus.read(s.id, "video")
            elif seconds(entries(spoilt)[s.id]["StartTime"]) > 3.9:
                refused.append(s.id)
                expect_refusal(lambda s=s: corpus.read(s.id, "video"), "anjia_1", f"utterance '{s.id}'", "ends after 4.00 s")
    assert refused


def test_a_folder_of_pictures_goes_before_the_film_and_pyav_is_named_where_it_lacks(spoilt, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("anjia_1", "jia_1"):
        shutil.rmtree(spoilt / name.split("_")[0])
        (spoilt / name.split("_")[0]).mkdir()
        (spoilt / name.split("_")[0] / f"{name}.mp4").write_bytes(b"film")
    pictures = (np.full((24, 32, 3), i) for i in range(250))
    write_pictures(spoilt / "pictures" / "anjia_1", pictures, "{:04d}.jpg", quality=100)
    corpus = dataset(spoilt, picture_rate=12.5, video_size=(8, 8))
    s = next(s for s in corpus.samples() if s.group == "anjia")
    one = entries(spoilt)[s.id]
    got = corpus.read(s.id, "video")
    first, last = (round(seconds(one[key]) * 12.5) for key in ("StartTime", "EndTime"))
    assert got.rate == 12.5
    np.testing.assert_allclose(got.frames[:, 0, 0, 0], range(first, last), atol=2)
    other = next(s.id for s in corpus.samples() if s.group == "jia")
    expect_refusal(lambda: corpus.read(other, "video"), "jia_1.mp4", "pip install 'mmcl[video]'")


def test_without_clips_there_are_words_alone_and_nothing_is_missed(root):
    assert set(M3ED.info(M3edParams(clips="none")).sources) == {"text"}
    corpus = dataset(root, clips="none")
    assert {tuple(s.sources) for s in corpus.samples()} == {("text",), ()}
    assert corpus.defects().no_audio == corpus.defects().no_film == []


def test_facts_tell_who_speaks_and_which_episode_it_is(root, spoilt):
    annotation = json.loads((root / "annotation.json").read_text())
    relations = json.loads((root / "relation_annotation_release.json").read_text())
    wanted = entries(root)
    for s in dataset(root).samples():
        dialogue = s.facts["dialogue"]
        person = annotation[s.group][dialogue]["SpeakerInfo"][wanted[s.id]["Speaker"]]
        assert (s.facts["age"], s.facts["gender"]) == (person["Age"], person["Gender"])
        assert s.facts["episode"] == relations[s.group][dialogue]["episode"]
    (spoilt / "relation_annotation_release.json").unlink()
    without = dataset(spoilt).samples()
    assert [s.id for s in without] == [s.id for s in dataset(root).samples()]
    assert all("episode" not in s.facts for s in without)


def test_what_is_odd_is_listed_and_counted(root):
    corpus, wanted = dataset(root), entries(root)
    samples, defects = {s.id: s for s in corpus.samples()}, corpus.defects()
    assert defects.unlisted == ["nowhere"]
    assert defects.absent == ["zuozhe"]
    assert defects.no_words == [id for id in samples if not wanted[id]["Text"]] != []
    assert defects.no_audio == [id for id in samples if not list((root / "audio").glob(f"?_{id}.wav"))] != []
    assert defects.times == [id for id in samples if wanted[id]["EndTime"].endswith(":142")] != []
    assert defects.no_length == [
        id for id in samples if id not in defects.times and seconds(wanted[id]["EndTime"]) <= seconds(wanted[id]["StartTime"])
    ]
    assert len(defects.no_length) == 1
    assert set(defects.no_film) == {id for id in samples if id.startswith("nihao")} | {*defects.times, *defects.no_length}
    emotions = {id: one["EmoAnnotation"] for id, one in wanted.items()}
    assert defects.main == [
        id for id in samples if emotions[id]["final_main_emo"] not in emotions[id]["final_mul_emo"].split(",")
    ]
    assert len(defects.main) == 1
    assert "seconds" not in samples[defects.times[0]].facts
    assert corpus.counts() == {
        "shows that stand in no list": 1,
        "shows of the lists without an annotation": 1,
        "utterances without a word": 1,
        "utterances without a wav": 1,
        "utterances without a film": len(defects.no_film),
        "utterances that end before they begin": 1,
        "utterances with a time that cannot be": 1,
        "utterances whose strongest emotion is not among the agreed ones": 1,
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"final_main_emo": "Happy"', '"final_main_emo": "Joyful"', "has the emotion 'joyful'; one of happy"),
        ('"Speaker": "A"', '"speaker": "A"', "lacks 'Speaker'"),
        ('"StartTime": "00:00:00:01"', '"StartTime": "2 s"', "StartTime is '2 s'; HH:MM:SS:FF was expected"),
        ('"Dialog"', '"Dialogue"', "has no 'Dialog' of utterances"),
        ('"anjia_1_10": {', '"anjia_1_10": [], "anjia_1_99": {', "utterance 'anjia_1_10' is no table"),
        ('"bianjing_1_1": {', '"anjia_1_1": {', "'anjia_1_1' stands in two dialogues"),
        ('"anjia": {', '{"anjia": {', "is not JSON"),
    ],
)
def test_damaged_annotations_give_one_sentence(spoilt, old, new, words):
    text = (spoilt / "annotation.json").read_text()
    assert old in text
    (spoilt / "annotation.json").write_text(text.replace(old, new, 1))
    expect_refusal(lambda: dataset(spoilt).samples(), str(spoilt / "annotation.json"), words)


def test_other_damaged_files_give_one_sentence(spoilt, tmp_path):
    corpus = dataset(spoilt)
    s = next(s for s in corpus.samples() if "audio" in s.sources)
    (spoilt / s.sources["audio"]).write_bytes(b"RIFF")
    expect_refusal(lambda: corpus.read(s.id, "audio"), Path(s.sources["audio"]).name)
    expect_refusal(lambda: corpus.read("anjia_9_9", "audio"), "'anjia_9_9' is not there")
    expect_refusal(lambda: corpus.read(corpus.defects().no_audio[0], "audio"), corpus.defects().no_audio[0], "has no audio")
    (spoilt / "more").mkdir()
    shutil.copy(spoilt / "audio" / "A_jia_1_1.wav", spoilt / "more")
    expect_refusal(lambda: dataset(spoilt).samples(), "more/A_jia_1_1.wav", "audio/A_jia_1_1.wav", "leave one")
    shutil.rmtree(spoilt / "more")
    (spoilt / "annotation.json").write_bytes("高兴".encode("gb18030"))
    expect_refusal(lambda: dataset(spoilt).samples(), "annotation.json", "is not JSON in UTF-8")
    (spoilt / "annotation.json").unlink()
    expect_refusal(lambda: dataset(spoilt).samples(), "has no annotation.json", "https://github.com/AIM3-RUC/RUCM3ED")
    expect_refusal(lambda: dataset(tmp_path / "nowhere").samples(), "is not there")


def test_a_show_in_two_lists_is_refused_and_so_is_a_list_that_lacks(spoilt):
    with (spoilt / "splitInfo/movie_list_test.txt").open("a") as file:
        file.write("anjia\n")
    expect_refusal(lambda: dataset(spoilt).samples(), "movie_list_test.txt", "show 'anjia' stands in train too")
    (spoilt / "splitInfo/movie_list_val.txt").unlink()
    expect_refusal(lambda: dataset(spoilt).samples(), "movie_list_val.txt", "it names the shows of a split")


def test_the_same_seed_writes_the_same_files_and_another_seed_others(root, tmp_path):
    expect_seeded(M3ED, root, 96, tmp_path, differs="annotation.json")


def test_annotation_and_folders_of_public_loaders_are_read(tmp_path):
    """The keys that four public loaders read, `<speaker>_<utterance>.wav` in modality_speech, lists of shows by split; names are made up."""

    def line(start, end, text, speaker, several, main):
        votes = {f"EmoAnnotator{k}": main for k in (1, 2, 3)}
        emotions = {**votes, "final_mul_emo": several, "final_main_emo": main}
        return {"StartTime": start, "EndTime": end, "Text": text, "Speaker": speaker, "EmoAnnotation": emotions}

    people = {
        "A": {"Name": "甲", "Age": "mid", "Gender": "female", "OtherName": []},
        "B": {"Name": "乙", "Age": "young", "Gender": "male", "OtherName": ["丙"]},
    }
    dialog = {
        "anjia_1_10": line("00:00:08:00", "00:00:09:12", "再见", "B", "Neutral", "Neutral"),
        "anjia_1_9": line("00:00:04:05", "00:00:06:00", "你好 朋友", "A", "Happy,Surprise", "Happy"),
    }
    annotation = {"anjia": {"anjia_1": {"SpeakerInfo": people, "Dialog": dialog}}}
    annotation["jia"] = {
        "jia_1": {"SpeakerInfo": people, "Dialog": {"jia_1_1": line("00:00:01:00", "00:00:02:00", "走", "A", "Sad", "Sad")}}
    }
    annotation["huan"] = {
        "huan_1": {"SpeakerInfo": people, "Dialog": {"huan_1_1": line("00:00:01:00", "00:00:02:00", "走", "A", "Sad", "Sad")}}
    }
    (tmp_path / "annotation.json").write_text(json.dumps(annotation, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "splitInfo").mkdir()
    for split, show in (("train", "anjia"), ("val", "jia"), ("test", "huan")):
        (tmp_path / "splitInfo" / f"movie_list_{split}.txt").write_text(f"{show}\n")
    (tmp_path / "modality_speech").mkdir()
    soundfile.write(tmp_path / "modality_speech" / "A_anjia_1_9.wav", np.zeros(16_000), 16_000)
    data = dataset(tmp_path)
    first, second, *_ = data.samples()
    assert (first.id, second.id, first.split, first.group) == ("anjia_1_9", "anjia_1_10", "train", "anjia")
    assert {name for name, there in zip(EMOTIONS, first.targets["emotions"], strict=True) if there} == {"happy", "surprise"}
    assert first.facts["seconds"] == pytest.approx(1.8)
    assert first.sources["audio"].endswith("A_anjia_1_9.wav")
    assert "audio" not in second.sources
    assert data.read(first.id, "text").words == ("你", "好", "朋", "友")
