"""Frozen features come from each modality's own length, and recordings of uneven modalities are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmcl import load_encoders, load_joint
from mmcl.data.prepared import load_prepared
from mmcl.model.frozen import encode_rows
from mmcl.report import run_and_report as run_all
from mmcl.runs import RunFolder, read_json

CAE = (
    "pretrain={pretext: {use: cae, steps: 10, channels: [2, 2, 2, 2]}, batch_size: 16, epochs: 1, optimizer: {use: adamw, lr: 1e-3}}",
    "modalities.text.backbone=",
    "modalities.audio.backbone=",
    "modalities.landmarks.backbone=",
    "probe.inputs=[all]",
)


def unit(run: RunFolder, stage: str) -> Path:
    return run.stage(stage, 0, 3)


def shortened(stores, folder: Path, name: str, steps: int):
    """The same stores, but for one modality whose streams end after so many steps."""
    from mmcl.data.store import Store, StoreWriter

    writer = StoreWriter(folder / name, stores[name].layout)
    for row in stores[name].rows:
        writer.add(row, np.array(stores[name].values(row, 0, steps)))
    writer.close({"key": "short", "skipped": []})
    return {**stores, name: Store(folder / name)}


def test_a_short_modality_leaves_the_features_of_the_others_as_they_were(tiny_plan, tiny_run, tmp_path):
    prepared = load_prepared(tiny_run)
    encoders = load_encoders(unit(tiny_run, "pretrain"))
    rows, device = prepared.folds[0].test, torch.device("cpu")
    whole = encode_rows(tiny_plan(), encoders, prepared.stores, rows, device)
    short = encode_rows(tiny_plan(), encoders, shortened(prepared.stores, tmp_path, "landmarks", 5), rows, device)
    for name in ("text", "audio"):
        assert torch.equal(whole[name].vector, short[name].vector), name
        assert torch.equal(whole[name].projection, short[name].projection), name
    assert not torch.equal(whole["landmarks"].vector, short["landmarks"].vector)


def test_features_are_the_mean_over_windows_of_each_modality_s_own_length(tiny_plan, tiny_run, tmp_path):
    from mmcl.api import Stream
    from mmcl.data.windows import cut, slide

    prepared = load_prepared(tiny_run)
    encoders = load_encoders(unit(tiny_run, "pretrain"))
    stores = shortened(prepared.stores, tmp_path, "audio", 30)  # 1.2 seconds, where the others go on for two
    rows = prepared.folds[0].test[:8]
    features = encode_rows(tiny_plan(), encoders, stores, rows, torch.device("cpu"))
    for name, store in stores.items():
        for i, row in enumerate(rows):
            if row not in store:
                continue
            vectors = []
            for span in slide({name: store}, row, 0.8, "sliding", None):
                values = cut(store, row, span)
                if values is not None:
                    steps = torch.from_numpy(np.array(values, np.float32))[None] * store.layout.scale
                    with torch.no_grad():
                        vectors.append(
                            encoders[name](
                                Stream(steps, torch.ones(1, steps.shape[1], dtype=torch.bool), torch.ones(1, dtype=torch.bool))
                            )
                        )
            torch.testing.assert_close(features[name].vector[i], torch.cat(vectors).mean(0), rtol=1e-4, atol=1e-5)


def test_one_network_of_all_modalities_sees_the_longest_to_its_end(tiny_plan, run, tmp_path):
    from mmcl.model.frozen import encode_joint

    plan = tiny_plan(*CAE)
    run_all(plan, run, workers=1)
    prepared = load_prepared(run)
    joint = load_joint(unit(run, "pretrain"))
    row = next(row for row in prepared.folds[0].test if all(row in store for store in prepared.stores.values()))
    short = shortened(prepared.stores, tmp_path, "landmarks", 5)
    late = shortened(short, tmp_path / "late", "audio", short["audio"].length(row) - 5)
    vectors = [encode_joint(plan, joint, stores, [row], torch.device("cpu"))["joint"].vector for stores in (short, late)]
    assert not torch.equal(*vectors), "the end of the sound counts, though the landmarks ended long before"


def test_recordings_whose_modalities_differ_in_length_are_counted_in_the_data_card(tiny_plan, run, monkeypatch):
    from mmcl.api import Audio
    from mmcl.plugins import plugins

    dataset = type(plugins().get("dataset", "toy").spec.build(tiny_plan().dataset.params, None))
    read = dataset.read

    def cut_short(self, id, source):
        raw = read(self, id, source)
        return Audio(raw.samples[: len(raw.samples) // 2], raw.rate) if isinstance(raw, Audio) else raw

    monkeypatch.setattr(dataset, "read", cut_short)
    run_all(tiny_plan("pretrain.epochs=0"), run, workers=1)
    stores = load_prepared(run).stores
    both = [row for row in stores["audio"].rows if row in stores["landmarks"]]
    assert read_json(run.root / "prepare.json")["uneven"]["recordings"] == len(both) > 0
    assert "differ in length by more than a tenth" in (run.root / "report.html").read_text()
