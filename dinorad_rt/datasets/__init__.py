"""Labelled images: the user's own folder or table, and registered datasets."""
