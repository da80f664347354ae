"""All that reading recordings needs, loaded: a process that has imported this can be copied into readers at once."""

from __future__ import annotations

from ..plugins import plugins
from . import prepare as prepare

plugins()
