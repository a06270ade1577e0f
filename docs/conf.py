"""Sphinx configuration: `make docs` builds the site into build/docs, every warning an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import reference  # noqa: E402  found by the line above

from dinorad_rt import __version__  # noqa: E402

project = "dinorad-rt"
author = "the authors of dinorad-rt"
copyright = "the authors of dinorad-rt, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_ext", "README.md"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = reference.tables() | {"release": release}

highlight_language = "none"
default_role = "literal"  # docstrings write `name`
smartquotes = False  # `--option` stays two hyphens
nitpicky = False
autodoc_typehints = "none"  # docstrings say what is taken and given; signatures stay short
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"dinorad-rt {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/icon.svg"
html_use_index = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": False}


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for pages; docstrings are plain text."""
    app.connect("builder-inited", lambda _: reference.write_pages(HERE))
    app.connect("include-read", lambda _, path, __, text: reference.turn_links(HERE, path, text))
    app.connect("autodoc-process-docstring", lambda *given: reference.escape(given[-1]))
