"""Tables 2 to 5 of UniVA, and which score of which recipe stands beside each figure."""

from __future__ import annotations

from dataclasses import replace

from mmcl.api import Cell, PublishedSpec, PublishedTable

METRICS = (("Acc", "jaccard", 100.0), ("HL", "hamming_loss", 1.0), ("miF1", "f1_micro", 100.0), ("maF1", "f1_macro", 100.0))
BLIND = "words and voice alone, as M3ED's films are not published"
MOSEI, M3ED = (4_500, 4_662), (4_100, 4_201)
"""The fewest and the most test recordings of a whole corpus: the standard test fold, less what has no stream."""
OVER = "Of the recipe with {}."
NO_CONTRAST, NO_PRIOR = "supervise.contrast=0", "supervise.heads.univa.prior=off"
FEATURES = "Ours has COVAREP and FACET in place of wav2vec2 and InceptionResNet, and valence and arousal of labels."
SHARDED = "The authors' logs suggest that several processes each measured its own share of the test set."


def _cells(
    row: str,
    corpus: str,
    values: tuple[float, ...],
    recipe: str = "",
    which: tuple[str, ...] = ("Acc", "HL", "miF1", "maF1"),
    note: str = "",
    input: str = "all",
    sets: tuple[str, ...] = (),
    differs: str = "",
) -> list[Cell]:
    cells = []
    for value, (name, metric, scale) in zip(values, [m for m in METRICS if m[0] in which], strict=True):
        one = Cell(row, f"{corpus} {name}", value, recipe, "emotions", input, "univa", "supervised", metric, scale, note)
        if corpus == "MOSEI" and recipe:
            one = replace(one, note=f"{note} {FEATURES}".strip())
        cells.append(replace(one, sets=sets, differs=differs, tested=MOSEI if corpus == "MOSEI" else M3ED))
    return cells


def _table_2() -> PublishedTable:
    others = {
        "MulT (GloVe)": ((44.5, 0.190, 53.1, 34.4), None),
        "M3ER": ((40.9, 0.195, 51.9, 34.9), None),
        "HHMPN": ((45.9, 0.189, 55.6, 43.0), None),
        "TAILOR": ((43.7, 0.206, 49.7, 37.1), None),
        "RobMMR": ((48.4, 0.185, 56.9, 41.7), (45.8, 0.168, 46.3, 33.5)),
        "MDI (RoBERTa)": ((49.9, 0.186, 50.2, 10.9), (47.6, 0.159, 51.9, 33.6)),
        "FacialMMT": ((50.1, 0.190, 59.1, 40.8), (48.7, 0.154, 51.7, 37.9)),
        "Gemini, zero-shot": ((11.2, 0.268, 23.9, 20.6), (18.6, 0.198, 24.1, 19.1)),
    }
    cells = []
    for name, (mosei, m3ed) in others.items():
        cells += _cells(name, "MOSEI", mosei)
        cells += _cells(name, "M3ED", m3ed) if m3ed else []
    cells += _cells("UniVA-GloVe", "MOSEI", (49.0, 0.187, 57.2, 41.9), "univa_mosei")
    cells += _cells("UniVA-GloVe", "M3ED", (46.7, 0.164, 47.9, 34.2), "univa_m3ed_glove", differs=BLIND)
    cells += _cells("UniVA-RoBERTa", "MOSEI", (51.4, 0.185, 60.1, 43.5), "univa_mosei_roberta", note=SHARDED)
    cells += _cells("UniVA-RoBERTa", "M3ED", (50.6, 0.149, 53.4, 40.2), "univa_m3ed_finetuned", note=SHARDED, differs=BLIND)
    return PublishedTable("Table 2", "Jaccard index, Hamming loss, micro and macro F1", tuple(cells))


def _ablations() -> list[PublishedTable]:
    roberta, chinese = "univa_mosei_roberta", "univa_m3ed_finetuned"
    three, four, five = [], [], []
    for name, mosei, m3ed, sets in (
        ("without VA-CL", (50.0, 0.189, 59.3, 43.2), (48.9, 0.157, 51.5, 39.2), (NO_CONTRAST,)),
        ("without the prior", (51.0, 0.186, 59.8, 42.8), (49.1, 0.154, 51.7, 38.2), (NO_PRIOR,)),
        ("without both", (49.7, 0.189, 58.2, 39.0), (48.0, 0.160, 51.4, 37.6), (NO_CONTRAST, NO_PRIOR)),
    ):
        how = OVER.format(" ".join(f"--set {one}" for one in sets))
        three += _cells(name, "MOSEI", mosei, roberta, note=how, sets=sets)
        three += _cells(name, "M3ED", m3ed, chinese, note=how, sets=sets, differs=BLIND)
    some = ("Acc", "miF1")
    for name, mosei, m3ed, input in (
        ("without vision", (51.1, 59.9), (49.2, 52.0), "text+audio"),
        ("without audio", (49.7, 58.1), (48.4, 51.4), "text+video"),
        ("text alone", (50.6, 59.4), (48.0, 51.6), "text"),
        ("audio alone", (46.7, 54.5), (38.8, 41.3), "audio"),
        ("vision alone", (42.3, 48.2), (40.8, 40.7), "video"),
    ):
        how = OVER.format(f"--set supervise.inputs=[{input}]")
        four += _cells(name, "MOSEI", mosei, roberta, some, how, input)
        own = "" if "video" in input else chinese
        four += _cells(name, "M3ED", m3ed, own, some, how if own else "", "all" if input == "text+audio" else input)
    for name, mosei, m3ed, positives in (
        ("VA-CL", (51.4, 60.1), (50.6, 53.4), ""),
        ("Sup-CL", (50.3, 59.0), (48.8, 52.7), "{use: same-label, target: emotions}"),
        ("Self-CL", (49.6, 58.2), (46.2, 50.1), "same-sample"),
    ):
        sets = (f"pretrain.objective.positives={positives}",) if positives else ()
        how = OVER.format(f"--set 'pretrain.objective.positives={positives}'") if positives else ""
        five += _cells(name, "MOSEI", mosei, roberta, some, how, sets=sets)
        five += _cells(name, "M3ED", m3ed, chinese, some, how, sets=sets, differs=BLIND)
    return [
        PublishedTable("Table 3", "without its parts, with RoBERTa", tuple(three)),
        PublishedTable("Table 4", "fewer modalities, with RoBERTa", tuple(four)),
        PublishedTable("Table 5", "three ways of choosing positives, with RoBERTa", tuple(five)),
    ]


UNIVA = PublishedSpec(
    name="univa",
    summary="UniVA: CMU-MOSEI and M3ED (Tables 2 to 5)",
    paper="UniVA: A Unimodal Valence-Arousal Driven Contrastive Learning Framework for Multimodal Multi-Label Emotion Recognition",
    tables=(_table_2(), *_ablations()),
)
