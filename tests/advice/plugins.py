"""Offers of the packages under plugins/, followed."""

from __future__ import annotations

from tests.advice import Elsewhere, NoOffer, Row

PLUGINS: list[Row | Elsewhere | NoOffer] = []
