"""Segmentation: decoders on patch tokens, networks from scratch, and masks of whole volumes."""
