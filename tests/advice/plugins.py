"""Offers of the packages under plugins/, followed."""

from __future__ import annotations

from tests.advice import Elsewhere, NoOffer, Row
from tests.advice.plugins_corpora import CORPORA
from tests.advice.plugins_features import FEATURES
from tests.advice.plugins_folder import FOLDER
from tests.advice.plugins_hub import HUB
from tests.advice.plugins_networks import NETWORKS

PLUGINS: list[Row | Elsewhere | NoOffer] = [*NETWORKS, *FEATURES, *FOLDER, *CORPORA, *HUB]
