"""Published figures on the speech of RAVDESS, actors never seen, and which score of which recipe stands beside each."""

from __future__ import annotations

from mmcl.api import Benchmark, Cell, PublishedSpec, PublishedTable

_FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))

FIVE_FOLDS = Benchmark(
    dataset="ravdess",
    task="emotion",
    classes=8,
    tested=tuple(tuple(f"actor-{actor:02d}" for actor in fold) for fold in _FOLDS),
    recordings=1440,
    protocol="speech, eight emotions, five folds of actors; an actor is tested by what never saw him or her",
)

TRANSFER = PublishedSpec(
    name="ravdess-transfer",
    summary="two networks of other corpora fine-tuned on RAVDESS, voice and face, on five folds of actors",
    paper=(
        "Luna-Jiménez et al. 2021, Sensors 21(22), 7665, doi 10.3390/s21227665 (CNN-14 and spatial transformer); Luna-Jiménez et al. 2022, "
        "Applied Sciences 12(1), 327, doi 10.3390/app12010327 (xlsr-Wav2Vec 2.0 and action units)"
    ),
    tables=(
        PublishedTable(
            name="Late fusion",
            caption="RAVDESS, accuracy in percent, mean of the five folds",
            cells=(
                Cell(
                    "CNN-14 and spatial transformer with bi-LSTM, 2021",
                    "voice and films of the face",
                    80.08,
                    task="emotion",
                    note=(
                        "Fine-tuned with labels; the voice's network was trained on AudioSet before, and faces are read frame by frame, as pictures."
                    ),
                    sources=("audio", "video"),
                ),
                Cell(
                    "xlsr-Wav2Vec 2.0 and sequences of action units, 2022",
                    "voice and action units",
                    86.70,
                    recipe="ravdess_voice_units",
                    task="emotion",
                    head="late",
                    note=(
                        "Fine-tuned with labels; the voice's network was trained on speech of many languages before, and action units are "
                        "read frame by frame, not as one mean a clip."
                    ),
                    sources=("audio", "openface"),
                ),
            ),
            benchmark=FIVE_FOLDS,
        ),
    ),
)
