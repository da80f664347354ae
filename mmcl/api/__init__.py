"""The contract between the toolkit and its plug-ins. Imports no torch: plug-ins import this, and nothing else of mmcl."""

from typing import TYPE_CHECKING

from .adapters import Adapters, AdapterScale, adapt
from .backbone import Backbone, BackboneSpec
from .batch import Batch, Encoded, Items, Stream
from .dataset import Counting, Dataset, DatasetInfo, DatasetSpec, HasHeaders, Header, SampleRef, Task
from .deprecation import Deprecated, Deprecation, deprecated_names
from .errors import DataError, MmclError, PluginError, Problem, RecipeError, StageError, UnknownNameError
from .group import Group, GroupLoss, GroupLossSpec
from .head import Deciding, Head, HeadSpec, Labelled, OwnLoss, Penalised, SelfFitting, Showing, Shown
from .hooks import Register, hookimpl
from .kinds import Kind, Layout
from .loss import LossSpec, Pair, PairLoss, Positives, PositivesSpec, Scored, Softmax, SoftmaxLoss, Steps
from .modality import Modality, ModalitySpec
from .params import Field, NoParams, Params
from .preset import PresetSpec
from .pretext import Pretext, PretextSpec
from .published import Benchmark, Cell, PublishedSpec, PublishedTable
from .raw import Audio, Pictures, Raw, Sequence, Source, Still, Table, Timed, Video, Words
from .readout import Parts, ReadOutWidth, each_step, parts_of, read_out, resampled
from .sampler import Pool, Sampler, SamplerSpec
from .scorer import Scorer, ScorerSpec
from .version import VERSION

__all__ = [
    "AdapterScale",
    "Adapters",
    "Audio",
    "Backbone",
    "BackboneSpec",
    "Batch",
    "Benchmark",
    "Cell",
    "Counting",
    "DataError",
    "Dataset",
    "DatasetInfo",
    "DatasetSpec",
    "Deciding",
    "Deprecated",
    "Deprecation",
    "Encoded",
    "Field",
    "HasHeaders",
    "Group",
    "GroupLoss",
    "GroupLossSpec",
    "Head",
    "HeadSpec",
    "Header",
    "Items",
    "Kind",
    "Labelled",
    "Layout",
    "LossSpec",
    "MmclError",
    "Modality",
    "ModalitySpec",
    "NoParams",
    "OwnLoss",
    "Penalised",
    "Pair",
    "PairLoss",
    "Params",
    "Parts",
    "Pictures",
    "PluginError",
    "Pool",
    "Positives",
    "PositivesSpec",
    "PresetSpec",
    "Pretext",
    "PretextSpec",
    "Problem",
    "PublishedSpec",
    "PublishedTable",
    "Raw",
    "ReadOutWidth",
    "RecipeError",
    "Register",
    "SampleRef",
    "Sampler",
    "SamplerSpec",
    "Scored",
    "Scorer",
    "ScorerSpec",
    "SelfFitting",
    "Sequence",
    "Showing",
    "Shown",
    "Softmax",
    "SoftmaxLoss",
    "Source",
    "StageError",
    "Steps",
    "Still",
    "Stream",
    "Table",
    "Task",
    "Timed",
    "UnknownNameError",
    "VERSION",
    "Video",
    "Words",
    "adapt",
    "each_step",
    "hookimpl",
    "parts_of",
    "read_out",
    "resampled",
]

_OURS = Deprecated(
    "contract 1.3",
    "contract 2.0",
    "leave it out; hooks are declared by mmcl alone, and `hookimpl` is all that offers something",
)
DEPRECATED = dict.fromkeys(("PROJECT", "hookspec"), ("mmcl.api.hooks", _OURS))
"""Names of this module that will go: where each is defined, and what to do."""

if not TYPE_CHECKING:  # a type checker is to know no names but those above
    __getattr__ = deprecated_names(__name__, DEPRECATED)
