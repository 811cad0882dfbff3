"""The documentation. `sphinx-build -n -W --keep-going -b html docs docs/_build/html`, or `nox -s docs`."""

from __future__ import annotations

import importlib.metadata
import pathlib
from typing import Any

project = "algolia-usertoken"
author = "the algolia-usertoken authors"
copyright = author
release = importlib.metadata.version("algolia-usertoken")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"algolia-usertoken {release}"
html_theme_options = {"light_logo": "logo-light.svg", "dark_logo": "logo-dark.svg"}
# Furo's own style for the dark underlines the names of modules, and the line hides the underscores in them.
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_show_sourcelink = False  # llms.txt leads to the sources; readers have the pages
html_show_sphinx = False
html_show_copyright = False

copybutton_exclude = ".linenos, .gp, .go"  # a command is copied without its `$`

default_role = "code"  # docstrings write `name`, as Markdown does
toc_object_entries_show_parents = "hide"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # "Returns:" is prose here, and may have a colon in it
napoleon_custom_sections = [("Keywords on all", "params_style")]
python_maximum_signature_line_length = 80

# Types of others, which have no page here, and type variables. Nothing is fetched while building.
nitpick_ignore_regex = [
    (r"py:class", r"os\.PathLike|decimal\.Decimal|uuid\.UUID|.*\.events\.model\.Model|.*\.relay\.ClientWithEvents"),
    (r"py:.*", r"(algoliasearch|typing_extensions|typing|collections|datetime|re)\b.*"),
    (r"py:.*", r"(.*\.)?(SearchConfig|InsightsConfig|RecommendConfig|SecuredApiKeyRestrictions|RequestOptions)"),
    (r"py:.*", r"Any|Callable|Collection|Iterable|Mapping|MutableMapping|Sequence|Self"),
    (r"py:.*", r"str|int|float|bool|bytes|dict|list|tuple|object|None|True|False|Exception"),
    (r"py:exc", r"ValueError|TypeError|LookupError|OSError|RuntimeError|UserWarning"),
    (r"py:.*", r"(.*\.)?(F|Client|ClientOptions|InsightsClientOptions|AnyTransporter|_Config)"),
    (
        r"py:class",
        r"ASGIApp|WSGI(Application|Environment)|(aiohttp|flask|celery|respx)\..*|Celery|Flask|MockRouter|Mocker",
    ),
]


def prepare_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring shows code by indenting it; reStructuredText wants to be told with `::`."""
    for i in range(len(lines) - 1, 1, -1):
        above = next((line for line in reversed(lines[:i]) if line), " ")
        if lines[i].startswith("    ") and not lines[i - 1] and not above.startswith(" "):
            lines[i:i] = ["::", ""]
    if what == "property":
        lines[:0] = ["..", ""]  # or napoleon takes the words before a colon for a type


def find_at_the_top(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """A public name is documented where users import it from, not in the module that defines it."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    domain = env.get_domain("py")
    for module in ("algolia_usertoken", "algolia_usertoken.testing"):
        if f"{module}.{name}" in domain.objects:
            target = f"{module}.{name}"
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)
    return None


def first_paragraph(doctree: Any) -> str:
    """What a page says first, for llms.txt."""
    from docutils import nodes

    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            return " ".join(paragraph.astext().split())
    return ""


def write_llms_txt(app: Any, exception: Exception | None) -> None:
    """`llms.txt` beside the pages: for each, its title, where its Markdown is, and its first sentence (llmstxt.org)."""
    if exception or app.builder.name != "html":
        return
    from sphinx.environment.adapters.toctree import global_toctree_for_doc

    env, root = app.env, app.config.root_doc
    lines = [f"# {project}", "", f"> {first_paragraph(env.get_doctree(root))}"]
    captions = global_toctree_for_doc(env, root, app.builder, collapse=False, maxdepth=1)
    for part in captions.children if captions else []:
        if part.tagname == "title":
            lines += ["", f"## {part.astext()}", ""]
            continue
        for reference in part.findall(lambda node: node.tagname == "reference"):
            page = reference["refuri"].removesuffix(".html")
            source = f"_sources/{pathlib.PurePosixPath(env.doc2path(page, base=False))}.txt"
            said = first_paragraph(env.get_doctree(page)).partition(". ")[0].rstrip(".:")
            lines.append(f"- [{env.titles[page].astext()}]({source}): {said}.")
    pathlib.Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)  # before napoleon
    app.connect("missing-reference", find_at_the_top)
    app.connect("build-finished", write_llms_txt)
