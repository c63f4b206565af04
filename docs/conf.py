"""How the documentation is built: `sphinx-build -W docs docs/_build/html`."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "ibllm"
author = "The ibllm developers"
copyright = "the ibllm developers"
version = release = version_of("ibllm")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build", "_ext", "examples", "measured"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name` for code
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # torch's own words on forward()
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"ibllm {release}"
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
