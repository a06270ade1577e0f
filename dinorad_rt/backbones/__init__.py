"""Backbones: the facts of each set of weights, and loading them safely into one architecture."""
