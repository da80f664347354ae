"""The version of the contract, which is not that of mmcl: plug-ins go on to work while its first number stays."""

from __future__ import annotations

VERSION = "1.3"
"""Two numbers. The first rises when something that a plug-in may call or must offer is changed or taken away, the second when something is added."""
