"""Vision backbones on radiology: evaluated and deployed through the same engine."""

from __future__ import annotations

__version__ = "0.1.0"
