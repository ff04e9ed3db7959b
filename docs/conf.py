"""How the documentation site is built: ``python -m sphinx -W -b html -c docs . site`` from the root of the repository.

The root is Sphinx's source folder, so that a page stands once and its relative links are right on a code host and in the site.
"""

import sys
from pathlib import Path

import c2f_np

sys.path.insert(0, str(Path(__file__).parent))  # for prepare.py

project = "c2f_np"
author = "the c2f_np developers"
version = release = c2f_np.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "prepare",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # MathJax and its fonts, copied into the site
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_external_toc",
]
include_patterns = [
    "index.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "notebooks/*.ipynb", "notebooks/*.md",
    "data/README.md", "benchmarks/results.md",
]  # fmt: skip
exclude_patterns = ["**/.ipynb_checkpoints"]
external_toc_path = "docs/_toc.yml"

# Pages and notebooks. Notebooks are shown as they are stored, with outputs; notebooks/build.py executes them.
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # formulas in outputs too
nb_ipywidgets_js = {}  # nothing from the network

# Docstrings.
autodoc_default_options = {"exclude-members": "set_fit_request, set_score_request, get_metadata_routing"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88
default_role = "code"
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False  # types are prose, not names to link

html_theme = "pydata_sphinx_theme"
html_title = "c2f_np"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_sidebars = {"index": [], "README": [], "CHANGELOG": []}
