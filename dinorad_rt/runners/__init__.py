"""Runners: one module per backend behind the small surface of `base.py`."""
