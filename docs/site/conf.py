"""The documentation as a site (`make site`), made by Sphinx of the pages as they are. A link that leads nowhere fails the build.

Sources are those of the whole repository, so that links between pages are the same here as where the code is read.
"""

project = "tallygate"
author = "the tallygate developers"
html_title = "tallygate"
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "grafana/README.md"]
extensions = ["myst_parser"]
myst_heading_anchors = 4  # links lead to headings
html_theme = "furo"
html_extra_path = ["index.html"]  # leads to the root document
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
suppress_warnings = ["misc.highlighting_failure"]  # names of recording rules have colons, which the lexer of PromQL does not know
