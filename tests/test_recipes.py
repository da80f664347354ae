"""Every shipped recipe is sound, and the small ones run on format-faithful samples."""

from __future__ import annotations

import importlib
import itertools
import shlex
from pathlib import Path

import pytest
import yaml

from mmcl.plugins import plugins
from mmcl.recipe.planner import load_plan
from mmcl.recipe.search import load_sweep
from mmcl.runs import RunFolder, read_json, read_jsonl

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
COPIES = {"iemocap", "m3ed", "cmu-mosi", "ravdess by sample", "sse_ft_meld_face"}
"""Datasets (or recipes) whose samples are copies of each other in truth: they sing few tones, or show one drawing of each actor."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_has_no_problem_and_is_named_after_its_file(path):
    assert load_plan(path, data=Path("data")).name == path.stem


@pytest.mark.parametrize("path", [p for p in RECIPES if "\nsweep:" in p.read_text(encoding="utf-8")], ids=lambda p: p.stem)
def test_what_a_recipe_searches_over_has_no_problem(path):
    search = load_sweep(path, data=Path("data"))
    assert f"mmcl sweep {path.stem}" in path.read_text(encoding="utf-8")
    assert search.trials > 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_begins_with_how_to_run_it(path):
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"mmcl run {path.stem}" in line for line in comment)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_is_plain_yaml_too(path):
    """A stranger's YAML reader sees the same keys; what a recipe with a base leaves out stands in that one."""
    keys = set(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert keys >= {"format", "name", "about"} | ({"base"} if "base" in keys else {"dataset", "modalities"})


@pytest.mark.parametrize("path", [p for p in RECIPES if "--preset" in p.read_text(encoding="utf-8")], ids=lambda p: p.stem)
def test_a_preset_that_the_head_of_a_recipe_names_has_no_problem(path, tmp_path):
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#   mmcl run") and "--preset" in line
    ]
    assert lines
    for line in lines:
        words = shlex.split(line.lstrip("# "), comments=True)
        given = {flag: [b for a, b in itertools.pairwise(words) if a == flag] for flag in ("--preset", "--set")}
        presets = [one for name in given["--preset"] for one in plugins().get("preset", name).spec.sets]
        plan = load_plan(path, [*presets, *given["--set"]], data=tmp_path)
        converted = {"audio", "video", "text"} - ({"text"} if "no_text" in path.stem else set())
        whole = set(load_plan(path, data=tmp_path).recipe.modalities)
        assert set(plan.recipe.modalities) == (converted if "cmu-mosei-converted" in given["--preset"] else whole)


def tiny_model(which: str, root: Path) -> Path:
    """A random model of a real class, saved as its library saves it."""
    transformers = pytest.importorskip("transformers")
    folder = root / which
    folder.mkdir()
    if which in ("hf-text", "hf-tokens"):
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "great"]))
        config = transformers.BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        )
        transformers.BertModel(config).save_pretrained(folder)
        transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    else:
        config = transformers.Wav2Vec2Config(
            hidden_size=32,  # with 8, in one of four random models two of the sample's tones sound alike to the audit
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            conv_dim=(32, 32),
            conv_kernel=(10, 320),
            conv_stride=(5, 64),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
        transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def smaller(path: Path, data: Path, root: Path) -> list[str]:
    """Overrides that make a recipe small: the same plug-ins and stages on little pictures, few epochs and one split."""
    recipe = load_plan(path, data=data).recipe
    small = ["seed=0", "pretrain.batch_size=8", "probe.training={epochs: 2}"]
    if recipe.pretrain.epochs:
        small.append("pretrain.epochs=1")
    if recipe.worth is not None:
        few = "[0.5]" if recipe.worth.few_shot else "[]"
        small += [f"worth.few_shot={few}", "worth.draws=1", "worth.maps=[pca]", "worth.points=20"]
        small += ["worth.robustness={noise: [1.0], late: [0.5]}"] if recipe.worth.robustness.noise else []
    if recipe.supervise is not None:
        small += ["supervise.epochs=1", "supervise.batch_size=8"]
    if recipe.protocol.use != "official":
        small.append(f"protocol={{use: hold-out, by: {recipe.protocol.by}, test: 0.3, valid: 0.3}}")
    for name, section in recipe.modalities.items():
        if section.features.use == "face-clip":
            small += [
                f"modalities.{name}.features={{use: face-clip, size: [16, 16], rate: 4}}",
                f"modalities.{name}.backbone={{use: r2plus1d, frames: 2, width: 16}}",
            ]
        if section.features.use == "fab-net":
            small.append(f"modalities.{name}.features={{use: fab-net, weights: none, fps: 5, longest: 8}}")
        if section.backbone is not None and section.backbone.use == "univa-encoder":
            small.append(f"modalities.{name}.backbone={{use: univa-encoder, width: 8, heads: 2, layers: 1, feedforward: 8}}")
            if "projection={hidden: null, width: 8}" not in small:
                small.append("projection={hidden: null, width: 8}")
        if section.features.use == "glove":
            words = root / "glove.txt"
            words.write_text("".join(f"{w} {' '.join(['0.5', '-1'] * 10)}\n" for w in ("the", "film", "great", "sad")))
            small += [
                f"modalities.{name}.features={{use: glove, dim: 20, file: {words}}}",
                f"modalities.{name}.backbone={{use: transformer, layers: 1, feedforward: 8}}",
            ]
        if section.features.use in ("hf-text", "hf-tokens", "hf-speech"):
            small.append(
                f"modalities.{name}.features={{use: {section.features.use}, model: {tiny_model(section.features.use, root)}}}"
            )
            if (
                section.features.use == "hf-speech"
                and section.backbone is not None
                and section.backbone.use == "cls-transformer"
            ):
                small.append(f"modalities.{name}.backbone={{use: cls-transformer, width: 8, layers: 1, feedforward: 8}}")
    for name, scorer in recipe.scores.items():
        if scorer.use in ("va-words", "hf-regressor"):
            bank = root / "emobank.csv"
            lines = [
                f"{i},{('train', 'train', 'dev', 'test')[i % 4]},{2 + i % 3},{2 + i % 2},3,the film is {('sad', 'great', 'so so')[i % 3]}"
                for i in range(80)
            ]
            bank.write_text("\n".join(["id,split,V,A,D,text", *lines]) + "\n")
            model = f", model: {root / 'hf-text'}" if scorer.use == "hf-regressor" else ""  # as the text features above
            small.append(f"scores.{name}={{use: {scorer.use}, corpus: {bank}{model}}}")
    return small


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_runs_end_to_end_on_a_sample_of_its_data(path, tmp_path, monkeypatch):
    from mmcl.report import run_and_report as run_all
    from mmcl.review.audit import audit

    monkeypatch.setenv("MMCL_CACHE", str(tmp_path / "cache"))
    plan = load_plan(path, data=tmp_path)
    name = plan.dataset.spec.name
    small = smaller(path, tmp_path, tmp_path)
    if name == "toy":
        small.append("dataset.samples=96")
    else:
        films = any(
            modality.features.use == "face-clip" for modality in plan.recipe.modalities.values()
        )  # their network is large
        size = 64 if plan.supervised is None and not films else 32
        if name == "ravdess" and plan.dataset.params.openface == "frames":
            importlib.import_module("mmcl_ravdess.tiny").write(tmp_path / name, size, 0, whole=True)
        else:
            plugins().get("dataset", name).spec.sample(tmp_path / name, size, 0)
    run = RunFolder(tmp_path / "runs" / path.stem)
    report = run_all(load_plan(path, small, tmp_path), run)
    assert report.stat().st_size > 10_000
    written = read_json(run.root / "report.json")
    expected = {"random"} | ({"pretrained"} if plan.recipe.pretrain.epochs else set())
    expected |= {"pooled"} & set(plan.recipe.report.against)
    if plan.tasks:
        assert {r["encoder"] for r in written["scores"]} == expected | {"none"} | ({"supervised"} if plan.supervised else set())
    else:
        assert {r["encoder"] for r in written["retrieval"]} == expected
    if plan.recipe.pretrain.epochs:
        ((_, _, folder),) = run.units("pretrain")
        assert all(r["train_loss"] is not None for r in read_jsonl(folder / "history.jsonl"))
    modalities = read_json(run.root / "prepare.json")["modalities"]
    assert all(m["present"] for m in modalities.values()), modalities
    audited = audit(run)
    assert audited.left_out == {}
    alike = COPIES & {name, f"{name} by {plan.recipe.protocol.by}", path.stem}
    copies = {"no recording twice under two names, across splits"} if alike else set()
    assert [one for one in audited.findings if not one.asked and one.check not in copies] == []
