"""Tables 2 to 5 of UniVA, and which score of which recipe stands beside each figure."""

from __future__ import annotations

from mmcl.api import Cell, PublishedSpec, PublishedTable

METRICS = (("Acc", "jaccard", 100.0), ("HL", "hamming_loss", 1.0), ("miF1", "f1_micro", 100.0), ("maF1", "f1_macro", 100.0))
BLIND = "M3ED's films are not published: ours has words and voice alone."
SHARDED = "The authors' logs suggest that several processes each measured its own share of the test set."


def _cells(
    row: str,
    corpus: str,
    values: tuple[float, ...],
    recipe: str = "",
    which: tuple[str, ...] = ("Acc", "HL", "miF1", "maF1"),
    note: str = "",
    input: str = "all",
) -> list[Cell]:
    cells = []
    for value, (name, metric, scale) in zip(values, [m for m in METRICS if m[0] in which], strict=True):
        cells.append(
            Cell(row, f"{corpus} {name}", value, recipe, "emotions", input, "univa", "supervised", metric, scale, note)
        )
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
    cells += _cells("UniVA-GloVe", "M3ED", (46.7, 0.164, 47.9, 34.2))
    cells += _cells("UniVA-RoBERTa", "MOSEI", (51.4, 0.185, 60.1, 43.5), "univa_mosei_roberta", note=SHARDED)
    cells += _cells("UniVA-RoBERTa", "M3ED", (50.6, 0.149, 53.4, 40.2), "univa_m3ed_finetuned", note=f"{SHARDED} {BLIND}")
    return PublishedTable("Table 2", "Jaccard index, Hamming loss, micro and macro F1", tuple(cells))


def _ablations() -> list[PublishedTable]:
    three = [
        *_cells("without VA-CL", "MOSEI", (50.0, 0.189, 59.3, 43.2), "univa_mosei_no_contrast"),
        *_cells("without VA-CL", "M3ED", (48.9, 0.157, 51.5, 39.2), "univa_m3ed_no_contrast", note=BLIND),
        *_cells("without the prior", "MOSEI", (51.0, 0.186, 59.8, 42.8), "univa_mosei_no_prior"),
        *_cells("without the prior", "M3ED", (49.1, 0.154, 51.7, 38.2), "univa_m3ed_no_prior", note=BLIND),
        *_cells("without both", "MOSEI", (49.7, 0.189, 58.2, 39.0), "univa_mosei_plain"),
        *_cells("without both", "M3ED", (48.0, 0.160, 51.4, 37.6), "univa_m3ed_plain", note=BLIND),
    ]
    some = ("Acc", "miF1")
    four = []
    for name, mosei, m3ed, input, other in (
        ("without vision", (51.1, 59.9), (49.2, 52.0), "text+audio", ("univa_m3ed", "all")),
        ("without audio", (49.7, 58.1), (48.4, 51.4), "text+video", ("", "")),
        ("text alone", (50.6, 59.4), (48.0, 51.6), "text", ("univa_m3ed_modalities", "text")),
        ("audio alone", (46.7, 54.5), (38.8, 41.3), "audio", ("univa_m3ed_modalities", "audio")),
        ("vision alone", (42.3, 48.2), (40.8, 40.7), "video", ("", "")),
    ):
        four += _cells(name, "MOSEI", mosei, "univa_mosei_modalities", some, input=input)
        four += _cells(name, "M3ED", m3ed, other[0], some, input=other[1] or "all")
    five = []
    for name, mosei, m3ed, recipe in (
        ("VA-CL", (51.4, 60.1), (50.6, 53.4), "univa_mosei"),
        ("Sup-CL", (50.3, 59.0), (48.8, 52.7), "univa_mosei_sup_cl"),
        ("Self-CL", (49.6, 58.2), (46.2, 50.1), "univa_mosei_self_cl"),
    ):
        five += _cells(name, "MOSEI", mosei, recipe, some)
        five += _cells(name, "M3ED", m3ed, recipe.replace("mosei", "m3ed"), some, BLIND)
    return [
        PublishedTable("Table 3", "without its parts (on MOSEI the text is RoBERTa, ours GloVe)", tuple(three)),
        PublishedTable("Table 4", "fewer modalities", tuple(four)),
        PublishedTable("Table 5", "three ways of choosing positives (on MOSEI the text is RoBERTa, ours GloVe)", tuple(five)),
    ]


UNIVA = PublishedSpec(
    name="univa",
    summary="UniVA: CMU-MOSEI and M3ED (Tables 2 to 5)",
    paper="UniVA: A Unimodal Valence-Arousal Driven Contrastive Learning Framework for Multimodal Multi-Label Emotion Recognition",
    tables=(_table_2(), *_ablations()),
)
