"""Pictures of the pages: dots and bars, line charts, matrices, clouds of points. Each file holds a family; a new picture joins its own."""

from .dots_and_bars import Measured, dots, file_of_scores, ranked, recalls, shares, splits
from .line_charts import Curve, Line, climb, curves, lines
from .matrices import confusion, heat, pair_map
from .picture import MARKED, Picture
from .point_clouds import Cloud, clouds, scatter, slices

__all__ = [
    "MARKED",
    "Cloud",
    "Curve",
    "Line",
    "Measured",
    "Picture",
    "climb",
    "clouds",
    "confusion",
    "curves",
    "dots",
    "file_of_scores",
    "heat",
    "lines",
    "pair_map",
    "ranked",
    "recalls",
    "scatter",
    "shares",
    "slices",
    "splits",
]
