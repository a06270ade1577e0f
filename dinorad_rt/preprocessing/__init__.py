"""A `Study` becomes the network's input; `reference.py` defines the numbers."""
