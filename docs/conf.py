"""How the site is built of these pages: `sphinx-build -W docs build/site`. Pages of commands are made before it is."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import command_pages  # noqa: E402

from marco_data import __version__  # noqa: E402

command_pages.write(HERE / "commands")

project = "marco-data"
author = "the marco-data authors"
version = release = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "marco-data"
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []
myst_heading_anchors = 3
smartquotes = False  # they make a dash of the two hyphens of an option
html_theme_options = {"navigation_with_keys": True}
