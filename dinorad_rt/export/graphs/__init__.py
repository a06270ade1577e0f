"""Modules that are traced: the backbone's own weights in a form that every backend runs well."""
