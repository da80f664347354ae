"""Plans: every name looked up, every option checked, all problems said at once, each with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import BaseModel

from mmcl.api import (
    BackboneSpec,
    DatasetInfo,
    DatasetSpec,
    Field,
    HeadSpec,
    Kind,
    Layout,
    LossSpec,
    ModalitySpec,
    NoParams,
    Params,
    PositivesSpec,
    RecipeError,
    Source,
    Task,
)
from mmcl.plugins import Loaded, Offer, Plugins
from mmcl.recipe import optimisers, schema
from mmcl.recipe.planner import make_plan
from mmcl.recipe.read import parse_recipe

GOOD = """\
format: 1
name: good
dataset: toy
modalities:
  words: {features: hashed-words, backbone: {use: mlp}}
  audio: {features: log-mel, backbone: tcn}
  faces: {features: frames, backbone: frame-cnn}
"""


def plan(*overrides: str, text: str = GOOD, data: Path | None = None, folder: Path = Path()):
    return make_plan(parse_recipe(text, "r.yaml", overrides, folder), data, overrides=overrides)


def refusal(*overrides: str, **more) -> str:
    with pytest.raises(RecipeError) as error:
        plan(*overrides, **more)
    return str(error.value)


def test_everything_has_a_default_and_the_plan_is_json():
    resolved = plan()
    text = json.dumps(resolved.to_json(), allow_nan=False)
    assert '"temperature": 0.07' in text
    assert '"patience": null' in text
    assert resolved.to_json()["modalities"]["audio"]["backbone"]["params"]["dropout"] == 0.1
    assert resolved.seeds == (0,)
    assert set(resolved.inputs) == {"words", "audio", "faces", "all"}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("all", {("words", "audio"), ("words", "faces"), ("audio", "faces")}),
        ("star:audio", {("audio", "words"), ("audio", "faces")}),
        ("[[faces, words]]", {("faces", "words")}),
    ],
)
def test_pairs_are_what_they_say(pairs, expected):
    assert set(plan(f"pretrain.objective.pairs={pairs}").pairs) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "pretrain.objective.pairs=[[audio, text]]",
            "--set: pretrain.objective.pairs: no modality is named text; there are words, audio, faces",
        ),
        ("pretrain.objective.pairs=[[audio, words], [words, audio]]", "names a pair twice"),
        (
            "pretrain.objective.pairs=same",
            "pairs a modality with itself, where 'same-sample' has no positives but the anchor itself",
        ),
        ("pretrain.objective.pairs=every", "must be all, same, all+same, star:NAME, none or a list of pairs, got 'every'"),
        ("probe.inputs=[audio+text]", "probe.inputs[0]: no modality is named 'text'"),
        ("probe.tasks=[mood]", "probe.tasks[0]: no task is named 'mood'; 'toy' has the tasks emotion"),
        (
            "modalities.audio.source=faces",
            "'log-mel' reads audio, and source 'faces' is video; the dataset has words (words), audio (audio)",
        ),
        ("modalities.audio.source=voice", "the dataset has no source 'voice'"),
        ("modalities.audio.features=skeleton", "modalities.audio"),
        ("modalities.audio.backbone=r2plus1", "unknown backbone 'r2plus1'"),
        ("modalities.audio.backbone.kernel=0", "modalities.audio.backbone.kernel: must be greater than or equal to 1, got 0"),
        ("modalities.audio.backbone.kernal=3", "modalities.audio.backbone.kernal: is not a key here; did you mean 'kernel'?"),
        ("modalities.audio.backbone.channels=64", "must be a list, such as [64], got 64"),
        ("modalities.audio.features.bands=many", "modalities.audio.features.bands: must be a valid integer, got 'many'"),
        ("modalities.audio.features.fmax=9000", "fmax 9000 Hz is above half the sample rate"),
        ("modalities.all={features: log-mel, source: audio, backbone: tcn}", "must be a name of letters, digits"),
        ("protocol={use: k-fold, k: 1}", "protocol.k: must be greater than or equal to 2, got 1"),
        (
            "protocol=bootstrap",
            "protocol: must name one of official, hold-out, k-fold, folds, leave-one-group-out, got 'bootstrap'",
        ),
        ("pretrain.schedule={every: 5}", "pretrain.schedule: needs 'use:'"),
        ("pretrain.optimizer={use: sgd, momentum: 1.5}", "momentum"),
        ("seed=soon", "seed"),
        ("format=2", "format"),
        ("name=a b", "name"),
        ("dataset={use: toy, root: here}", "'toy' makes its own data; leave root out"),
        ("dataset=ravdess", "where is the data? Set dataset.root, or give --data DIR"),
        ("window.hop=1", "needs window.seconds"),
        ("pretrain.pretext=cae", "modalities.audio.backbone: is not used with pretrain.pretext"),
        ("pretrain.balance=mood", "pretrain.balance: no task is named 'mood'"),
        ("pretrain={balance: emotion, transductive: [valid]}", "would read the labels of the splits in pretrain.transductive"),
        ("pretrain.pretext=cea", "unknown pretext 'cea'"),
        ("modalities.audio.backbone=", "modalities.audio.backbone: is missing"),
        ("window={seconds: 1, share: 0.5}", "window.share: stands in place of window.seconds"),
        ("pretrain.objective.pairs=same", "has no positives but the anchor itself; set pretrain.views: 2"),
        ("modalities.audio.augment.rotate=0.3", "turns channels that come in threes (x y z); this stream has"),
        ("probe.heads.linear={use: linear, l2: []}", "probe.heads.linear.l2"),
    ],
)
def test_each_mistake_has_its_sentence(override, message):
    assert message in refusal(override)


def test_all_problems_are_told_at_once_in_the_order_of_their_lines():
    text = (
        GOOD.replace("name: good", "nam: good")
        .replace("backbone: tcn", "backbone: {use: tcn, kernel: 0}")
        .replace("frame-cnn", "frame-cn")
    )
    lines = refusal(text=text).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "2", "6", "7"]
    assert "is missing" in lines[0]
    assert "did you mean 'name'?" in lines[1]
    assert "did you mean 'frame-cnn'" in lines[3]


def test_folds_come_from_a_file_beside_the_recipe(tmp_path):
    (tmp_path / "f.csv").write_text("group,fold\na,0\nb,1\nc,2\n")
    resolved = plan("protocol={use: folds, file: f.csv}", folder=tmp_path)
    assert resolved.fold_of == {"a": "0", "b": "1", "c": "2"}
    assert resolved.fold_key == "group"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_folds_of_a_spreadsheet_are_read_whatever_it_saves(tmp_path, encoding):
    (tmp_path / "f.csv").write_bytes("group,fold\r\né,0\r\nb,1\r\n".encode(encoding))
    assert plan("protocol={use: folds, file: f.csv}", folder=tmp_path).fold_of == {"é": "0", "b": "1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("speaker,fold\na,0\n", "needs the columns 'group' (or 'id') and 'fold', has speaker, fold"),
        ("group,fold\na,0\na,1\n", "f.csv:3: group 'a' stands in fold 0 and in fold 1"),
        ("group,fold\na,0\nb,\n", "f.csv:3: group 'b' has no fold"),
        ("group,fold\na,0\n", "has 1 fold; at least two are needed"),
        (None, "cannot be read as CSV (No such file or directory)"),
    ],
)
def test_a_bad_file_of_folds_is_refused_in_words(tmp_path, content, message):
    if content is not None:
        (tmp_path / "f.csv").write_text(content)
    assert message in refusal("protocol={use: folds, file: f.csv}", folder=tmp_path)


def test_roots_lie_under_the_data_folder_unless_absolute(tmp_path):
    text = (
        GOOD.split("modalities:")[0].replace("toy", "ravdess")
        + "modalities:\n  audio: {features: log-mel, backbone: tcn}\n  openface: {features: action-units, backbone: mlp}\nprotocol: {use: k-fold}\n"
    )
    assert plan(text=text, data=tmp_path).root == tmp_path / "ravdess"
    assert plan("dataset.root=r", text=text, data=tmp_path).root == tmp_path / "r"
    assert plan("dataset.root=r", text=text).root == Path("r")
    assert plan("dataset.root=/x/r", text=text, data=tmp_path).root == Path("/x/r")


def test_a_dataset_without_official_splits_needs_another_protocol():
    text = (
        GOOD.split("modalities:")[0].replace("toy", "ravdess")
        + "modalities:\n  audio: {features: log-mel, backbone: tcn}\n  openface: {features: action-units, backbone: mlp}\n"
    )
    assert "'ravdess' has no official test split; use hold-out, k-fold, folds or leave-one-group-out" in refusal(
        text=text, data=Path("d")
    )


def test_a_source_is_not_asked_for_where_the_dataset_has_none_that_fits():
    text = GOOD.split("modalities:")[0].replace("toy", "ravdess") + "modalities:\n  audio: {features: log-mel, backbone: tcn}\n"
    words = refusal("scores={mood: va-words}", text=f"{text}protocol: {{use: k-fold}}\n", data=Path("d"))
    assert re.search(r"scores.mood: 'va-words' reads words; the dataset has .*audio \(audio\)", words)


# ------------------------------------------------------------------------- every sentence, word for word, with plug-ins of our own


class CorpusParams(Params):
    part: Literal["speech", "song"] = Field("speech", description="which recordings")


class BeatsParams(Params):
    channels: int = Field(4, ge=1, le=64, description="channels")


class CellParams(Params):
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((8,), min_length=1, description="widths")
    share: float = Field(0.5, gt=0, lt=1, description="a share")
    both: bool = Field(False, description="both ways")
    readout: Literal["mean", "last"] = Field("mean", description="how steps become a vector")
    rate: Annotated[float, Field(gt=0)] | Literal["learned"] = Field(1.0, description="a rate, or learned")
    label: str = Field("x", description="a word")
    sizes: tuple[Annotated[int, Field(ge=1)], ...] | int = Field(3, description="one size, or several")


class NeededParams(Params):
    size: int = Field(description="no default")


def odd_hidden(params, layout) -> None:
    if layout.sizes["channel"] > 16:
        raise ValueError(f"{layout.sizes['channel']} channels are more than cell takes; 16 at most")


def corpus_info(params) -> DatasetInfo:
    sources = {
        "voice": Source("audio", "a voice"),
        "camera": Source("video", "a face"),
        "wrist": Source("audio", "a second one"),
    }
    tasks = {"mood": Task("mood", "single-label", ("calm", "tense")), "valence": Task("valence", "regression", ("valence",))}
    return DatasetInfo(sources, tasks, "person", official=() if params.part == "song" else ("train", "test"))


def synthetic_info(params) -> DatasetInfo:
    return DatasetInfo({"voice": Source("audio", "made")}, {}, "person", official=("train", "test"), synthetic=True)


def never(*_) -> None:
    raise AssertionError("a plan builds nothing")


SIGNAL, PICTURES = ("time", "channel"), ("time", "channel", "height", "width")
OURS_ALONE = Plugins(
    [
        Loaded(
            "fakes",
            "mmcl",
            "1.0",
            "fakes",
            tuple(
                Offer(what, spec, "mmcl", "1.0", "fakes")
                for what, spec in [
                    ("kind", Kind("signal", SIGNAL, "a signal")),
                    ("kind", Kind("pictures", PICTURES, "pictures")),
                    ("dataset", DatasetSpec("corpus", "a corpus", CorpusParams, corpus_info, never)),
                    ("dataset", DatasetSpec("made", "made up", NoParams, synthetic_info, never, needs_root=False)),
                    (
                        "modality",
                        ModalitySpec(
                            "beats",
                            "beats",
                            ("audio",),
                            BeatsParams,
                            lambda p, s: Layout("signal", SIGNAL, {"channel": p.channels}, 50.0),
                            never,
                        ),
                    ),
                    (
                        "modality",
                        ModalitySpec(
                            "stills",
                            "stills",
                            ("video",),
                            NoParams,
                            lambda p, s: Layout("pictures", PICTURES, {"channel": 3, "height": 8, "width": 8}),
                            never,
                        ),
                    ),
                    ("backbone", BackboneSpec("cell", "a cell", (SIGNAL,), CellParams, never, odd_hidden)),
                    ("backbone", BackboneSpec("eye", "an eye", (PICTURES,), NoParams, never)),
                    ("backbone", BackboneSpec("needy", "needs a size", (SIGNAL,), NeededParams, never)),
                    ("loss", LossSpec("info-nce", "a loss", NoParams, never)),
                    ("positives", PositivesSpec("same-sample", "a rule", NoParams, never)),
                    (
                        "positives",
                        PositivesSpec("same-age", "another rule", NoParams, never, needs=lambda params, names: ("age",)),
                    ),
                    ("head", HeadSpec("linear", "a head", ("single-label", "regression"), NoParams, never)),
                    ("head", HeadSpec("classes-only", "another head", ("single-label",), NoParams, never)),
                ]
            ),
        ),
        Loaded("broken", "mmcl-broken", "0.1", "broken", failure="ImportError: no"),
    ]
)

SMALL = """\
format: 1
name: small
dataset: {use: corpus, root: /data}
modalities:
  voice:
    features: beats
    backbone: {use: cell}
  camera:
    features: stills
    backbone: eye
pretrain:
  epochs: 2
probe:
  heads: {linear: linear}
protocol: official
"""


SENTENCES = [
    (row["right"], row["wrong"], row["says"])
    for row in yaml.safe_load((Path(__file__).parent / "sentences.yaml").read_text(encoding="utf-8"))
]


def small(text: str = SMALL, *overrides: str, data: Path | None = None, folder: Path = Path()):
    return make_plan(parse_recipe(text, "s.yaml", overrides, folder), data, OURS_ALONE, overrides)


def sentences(text: str, *overrides: str, **more) -> list[str]:
    with pytest.raises(RecipeError) as error:
        small(text, *overrides, **more)
    return str(error.value).splitlines()


def test_a_lenient_option_that_a_plug_in_does_not_know_is_left_out_of_the_plan_too():
    text = SMALL
    plan = small(text, "modalities.voice.backbone.graph?=face", "modalities.voice.backbone.share?=0.25")
    assert plan.modalities[0].backbone.params.share == 0.25
    with pytest.raises(RecipeError, match="graph: is not a key here"):
        small(text, "modalities.voice.backbone.graph=face")


def test_the_recipe_that_the_sentences_are_tried_on_is_sound():
    assert [m.name for m in small().modalities] == ["voice", "camera"]


@pytest.mark.parametrize(("right", "wrong", "sentence"), SENTENCES)
def test_each_mistake_has_this_one_sentence_at_its_line(right, wrong, sentence):
    assert SMALL.count(right) == 1, "the mistake is made in one place"
    assert sentences(SMALL.replace(right, wrong)) == [sentence]


def test_a_dataset_that_makes_its_own_data_takes_no_root():
    text = SMALL.replace("use: corpus", "use: made").replace("  camera:\n    features: stills\n    backbone: eye\n", "")
    assert sentences(text, "pretrain.epochs=0") == ["s.yaml:3: dataset.root: 'made' makes its own data; leave root out"]


def test_one_modality_gives_no_pair():
    text = SMALL.replace("  camera:\n    features: stills\n    backbone: eye\n", "")
    assert sentences(text) == ["s.yaml:8: pretrain.objective.pairs: gives no pair to contrast among voice"]
    assert small(text, "pretrain.epochs=0").pairs == ()


def test_mistakes_of_every_sort_are_told_together_in_the_order_of_their_lines_and_overrides_last():
    text = (
        SMALL.replace("use: corpus", "use: corups")
        .replace("{use: cell}", "{use: cell, share: 2, redout: mean}")
        .replace("epochs: 2", "epochs: two")
        .replace("official", "ofical")
    )
    lines = sentences(text, "probe.heads.linear=liner")
    assert [line.split(": ")[:2] for line in lines] == [
        ["s.yaml:3", "dataset"],
        ["s.yaml:7", "modalities.voice.backbone.share"],
        ["s.yaml:7", "modalities.voice.backbone.redout"],
        ["s.yaml:12", "pretrain.epochs"],
        ["s.yaml:15", "protocol"],
        ["--set", "probe.heads.linear"],
    ]


def test_problems_can_be_read_by_programs_too():
    with pytest.raises(RecipeError) as error:
        small(SMALL.replace("epochs: 2", "epochs: two"))
    (problem,) = error.value.problems
    assert (problem.file, problem.line, problem.key) == ("s.yaml", 12, "pretrain.epochs")


def keys_of(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def test_plan_json_holds_every_key_of_a_recipe_with_its_default():
    """What is compared are the models of the recipe, so a key that is added to one has to come out here too."""
    resolved = json.loads(json.dumps(small().to_json(), allow_nan=False))
    assert keys_of(schema.Recipe) - {"base"} <= set(resolved)  # a plan is of the whole, so its recipe has no base
    for section, model in (
        ("window", schema.Window),
        ("projection", schema.Projection),
        ("pretrain", schema.Pretrain),
        ("probe", schema.Probe),
        ("protocol", schema.Official),
        ("report", schema.Report),
    ):
        assert keys_of(model) - set(model.LATER) == set(resolved[section]), section  # LATER: left out at their default
    assert set(resolved["pretrain"]["objective"]) == keys_of(schema.Objective) - {
        "weights",
        "combine",
        "group",
        "queue",
        "momentum",
        "predictor",
    }  # there where they are given
    assert resolved["pretrain"]["optimizer"] == optimisers.Sgd().model_dump(mode="json")
    assert resolved["pretrain"]["schedule"] == optimisers.Constant().model_dump(mode="json")
    assert set(resolved["probe"]["training"]) == keys_of(schema.HeadTraining)
    voice = resolved["modalities"]["voice"]
    assert set(voice) >= keys_of(schema.ModalitySection) - {"frozen"}  # there where it is true
    assert voice["augment"] == schema.Augment().stated()
    later = {
        "mask_bands",
        "mask_joints",
        "speed",
        "permute",
        "mirror",
    }  # left out at their default: fingerprints stay as they were
    assert set(voice["augment"]) == set(schema.Augment.model_fields) - later
    assert schema.Augment(speed=0.2).stated() == {**voice["augment"], "speed": 0.2}
    assert voice["backbone"] == {
        "use": "cell",
        "params": CellParams().model_dump(mode="json"),
        "package": "mmcl",
        "version": "1.0",
    }
    assert voice["source"] == "voice"
    assert resolved["probe"]["inputs"] == {"voice": ["voice"], "camera": ["camera"], "all": ["voice", "camera"]}
    assert resolved["probe"]["tasks"] == ["mood", "valence"]
    assert resolved["dataset"]["root"] == "/data"


def test_an_option_that_is_given_is_the_one_in_the_plan():
    resolved = small(SMALL, "modalities.voice.backbone.share=0.25", "pretrain.optimizer={use: adamw, lr: 3e-4}").to_json()
    assert resolved["modalities"]["voice"]["backbone"]["params"]["share"] == 0.25
    assert resolved["pretrain"]["optimizer"]["lr"] == 3e-4
    assert resolved["overrides"] == ["modalities.voice.backbone.share=0.25", "pretrain.optimizer={use: adamw, lr: 3e-4}"]


# --------------------------------------------------------------------------------------------------------- weights of pairs


def weighed(pairs, weights, **more):
    resolved = plan(f"pretrain.objective.pairs={pairs}", f"pretrain.objective.weights={weights}", "pretrain.views=2", **more)
    return dict(zip(["~".join(pair) for pair in resolved.pairs], resolved.weights, strict=True))


def test_a_pair_weighs_what_it_is_given_or_the_product_of_its_modalities():
    assert weighed("all", "{words: 3, audio: 0.5}") == {"words~audio": 1.5, "words~faces": 3.0, "audio~faces": 0.5}
    assert weighed("same", "{words: 3}") == {"words~words": 3.0, "audio~audio": 1.0, "faces~faces": 1.0}  # not 9
    assert weighed("all", "{words: 3, faces~words: 2}") == {"words~audio": 3.0, "words~faces": 2.0, "audio~faces": 1.0}
    assert weighed("all+same", "{words: 3, words~words: 5}")["words~words"] == 5.0


def test_what_weighs_nothing_is_not_contrasted():
    assert weighed("all", "{words~audio: 0}") == {"words~faces": 1.0, "audio~faces": 1.0}
    assert "weights: leave no pair to contrast: all weigh 0" in refusal(
        "pretrain.objective.weights={words: 0, audio: 0, faces: 0}"
    )


@pytest.mark.parametrize(
    ("pairs", "given", "sentence"),
    [
        ("all", "voice: 2", "no modality is named 'voice'; there are words, audio, faces"),
        ("all", "words~voice: 2", "no modality is named 'voice'; there are words, audio, faces"),
        ("all", "words~audio~faces: 2", "must be a modality or a pair such as words~faces"),
        ("same", "words~audio: 2", "is no pair that pretrain.objective.pairs contrasts; these are words~words, audio~audio"),
        ("[[words, audio]]", "faces: 2", "is in no pair that pretrain.objective.pairs contrasts; these are words~audio"),
        ("all", "words: -1", "must be greater than or equal to 0"),
    ],
)
def test_a_wrong_weight_is_one_sentence_with_its_line(pairs, given, sentence):
    text = GOOD + f"pretrain:\n  views: 2\n  objective:\n    pairs: {pairs}\n    weights:\n      {given}\n"
    message = refusal(text=text)
    assert message.count("\n") == 0
    assert message.startswith(f"r.yaml:{len(text.splitlines())}: pretrain.objective.weights.{given.split(':')[0]}: ")
    assert sentence in message


def test_a_pair_weighed_twice_and_weights_beside_a_pretext_are_refused():
    assert "weighs a pair a second time" in refusal("pretrain.objective.weights={words~audio: 1, audio~words: 2}")
    vectors = GOOD.replace("features: log-mel, backbone: tcn", "features: log-mel").replace(", backbone: {use: mlp}", "")
    vectors = vectors.replace(", backbone: frame-cnn", "")
    message = refusal("pretrain.pretext=cae", "pretrain.objective.weights={words: 2}", text=vectors)
    assert "weigh pairs of modalities, of which a recipe with pretrain.pretext has none" in message


def test_without_weights_the_plan_says_nothing_of_them():
    """So that what a run without weights is fingerprinted by stays as it was before there were any."""
    assert list(plan().to_json()["pretrain"]["objective"]) == ["pairs", "positives", "loss"]
    assert plan("pretrain.objective.weights={words: 2}").to_json()["pretrain"]["objective"]["weights"] == [2.0, 2.0, 1.0]
    with_pairs = plan("pretrain.objective.weights={words~audio: 0}").to_json()["pretrain"]["objective"]
    assert with_pairs["pairs"] == [["words", "faces"], ["audio", "faces"]]


def test_a_typo_in_a_modality_s_name_makes_no_modality():
    text = GOOD.replace(
        "  words:",
        "  voices: {source: audio, features: log-mel, backbone: {use: mlp}}\n  audoi: {features: log-mel, backbone: {use: mlp}}\n  words:",
    )
    with pytest.raises(RecipeError, match="modalities.audoi: nearly 'audio': is it that"):
        make_plan(parse_recipe(text, "x.yaml"))
    meant = text.replace("audoi: {", "audoi: {source: audio, ")
    assert {m.name for m in make_plan(parse_recipe(meant, "x.yaml")).modalities} >= {"audoi", "voices"}


def test_a_recipe_s_file_of_nearly_that_name_is_offered(tmp_path):
    from mmcl.recipe.shipped import find

    (tmp_path / "my.yaml").write_text(GOOD)
    for asked in ("my.yam", "mi.yaml"):
        with pytest.raises(RecipeError, match=r"did you mean '.*my\.yaml'"):
            find(asked, tmp_path)


def test_a_data_folder_that_is_the_dataset_s_own_is_offered_the_one_above(tmp_path):
    (tmp_path / "data" / "study").mkdir(parents=True)
    text = GOOD.replace("dataset: toy", "dataset: {use: folder, root: study}")
    with pytest.raises(RecipeError, match=f"did you mean --data {tmp_path / 'data'}"):
        make_plan(parse_recipe(text, "x.yaml"), tmp_path / "data" / "study")
