from tests.advice import Elsewhere, NoOffer, Row

USE: list[Row | Elsewhere | NoOffer] = []
