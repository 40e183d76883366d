"""The site: sphinx-build -W --keep-going -n -b html docs build/site.

Everything is looked up offline, and a link that leads nowhere is an error. Mathematics is set in
the reader's browser by MathJax, which comes from the address that Sphinx knows; a copy of one's own
is `-D mathjax_path=...`. Pages on GitHub stay readable without all this: what is done to them for
the site is done here.
"""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import solvers  # noqa: E402

import gradbalance  # noqa: E402
from gradbalance import numerics, testing  # noqa: E402

REPOSITORY = "https://github.com/gradbalance/gradbalance"

project = "gradbalance"
author = "The gradbalance developers"
project_copyright = author
release = version = gradbalance.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
exclude_patterns = ["images", "_static"]

# Docstrings are in Google's style, with single backticks around code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

# Names of other packages are not looked up, for that takes a network; nor are ours that types
# mention and users do not need.
nitpicky = True
_INTERNAL = ("Batch", "Graph", "Hook", "Net", "Policy", "Ranks", "Request")
nitpick_ignore_regex = [
    ("py:.*", r"(?!gradbalance\.).*"),
    ("py:class", rf"gradbalance\.[\w.]+\.({'|'.join(_INTERNAL)})"),
]

html_theme = "furo"
html_title = "gradbalance"
html_baseurl = "https://gradbalance.github.io/gradbalance/"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "footer_icons": [{"name": "GitHub", "url": REPOSITORY, "html": "GitHub", "class": ""}],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

_LOG = logging.getLogger(__name__)
_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)|(?<=<)(\.\./[^>#\s]+)(?=>)")
_IMAGE = re.compile(r"!\[[^\]]*\]\($")


def lead_out(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links from a page to files outside docs/ become links to the repository."""
    page = DOCS / f"{docname}.md"

    def lead(match: re.Match[str]) -> str:
        target = (page.parent / match[0]).resolve()
        is_image = _IMAGE.search(source[0], 0, match.start())
        if is_image or target.is_relative_to(DOCS):
            return match[0]
        if not target.exists():
            _LOG.warning("link to %s, which is not there", match[0], location=docname)
        kind = "tree" if target.is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()}"

    source[0] = _LINK.sub(lead, source[0])


def escape_bars(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """In docstrings |x| is a size, and no substitution; examples and mathematics stay."""
    verbatim = False
    for index, line in enumerate(lines):
        verbatim = bool(line.strip()) and (verbatim or line.lstrip().startswith((">>>", ".. ")))
        if not verbatim:
            parts = line.split("`")
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[index] = "`".join(parts)


# By the name that is shown, how Python tells the types of arrays.
_ARRAYS = {
    "ndarray": r"[~.\w]*ndarray\[tuple\[int, \.\.\.\], [~.\w]*dtype\[[~.\w]*float64\]\]",
    "ArrayLike": r"[~.\w]*_Buffer \|.*\bcomplex \| str \| bytes\]",
}


def name_arrays(text: str) -> str:
    """A type with short names for arrays."""
    for name, pattern in _ARRAYS.items():
        text = re.sub(pattern, name, text)
    return text


def shorten_types(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """The types of arguments and attributes, before they are shown."""
    for text in list(content.findall(nodes.Text)):
        if "ndarray[" in text or "_Buffer" in text:
            text.parent.replace(text, nodes.Text(name_arrays(text)))


class NamesLead(SphinxTransform):
    """Code that is a public name, `MGDA` or `gb.MGDA(tol=0)`, leads to where it is documented.

    Once a section, or once in every row of a table. A name that is documented nowhere is an error.
    """

    default_priority = 500
    pattern = re.compile(r"(?:gb\.|gradbalance\.)?([\w.]+)(?:\(.*\))?", re.DOTALL)
    public = frozenset(
        [
            *gradbalance.__all__,
            *(f"numerics.{name}" for name in numerics.__all__),
            *(f"testing.{name}" for name in testing.__all__),
        ]
    )
    closed = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc_signature)

    def apply(self, **_: object) -> None:
        """Wrap them into references, which are resolved when all pages are read."""
        seen = set()
        for literal in list(self.document.findall(nodes.literal)):
            found = self.pattern.fullmatch(literal.astext())
            name = found[1] if found else ""
            place = _above(literal, nodes.row) or _above(literal, nodes.section)
            known = name in self.public and not _is_own(literal, name, self.env.docname)
            if not known or (id(place), name) in seen or _above(literal, *self.closed):
                continue
            seen.add((id(place), name))
            reference = addnodes.pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=f"gradbalance.{name}",
                refdoc=self.env.docname,
                refexplicit=True,
                refwarn=True,
            )
            literal.replace_self(reference)
            reference += literal


def fit(app: Sphinx, doctree: nodes.document) -> None:
    """What suits every width of a window.

    A picture that fills the page leads to itself, in its own size; and the message of an error,
    which has line breaks in the page's source only, is one line. Types of arrays are short.
    """
    for image in doctree.findall(nodes.image):
        if not image.hasattr("width"):
            image["width"] = "100%"
    for annotation in list(doctree.findall(addnodes.desc_annotation)):  # those of properties
        # A name is there twice, short and in full.
        shown = [t for t in annotation.findall(nodes.Text) if t.parent.get("condition") != "*"]
        text = "".join(shown)
        if "ndarray[" in text:
            annotation.children = [nodes.Text(name_arrays(text))]
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") == "text":
            block.rawsource = " ".join(block.astext().split())
            block.children = [nodes.Text(block.rawsource)]


def _above(node: nodes.Node, *kinds: type[nodes.Element]) -> nodes.Element | None:
    """The nearest node of these kinds that the node lies in."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return node
    return None


def _is_own(literal: nodes.literal, name: str, docname: str) -> bool:
    """Whether the name is that of what is documented there."""
    description = _above(literal, addnodes.desc)
    ids = [] if description is None else description[0]["ids"]
    return docname == f"solvers/{name}" or f"gradbalance.{name}" in ids


def public_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Where types are told by the module that they are written in, the public name."""
    name = node.get("reftarget", "").rpartition(".")[2]
    domain = env.get_domain("py")
    for target in (f"gradbalance.{name}", f"gradbalance.numerics.{name}"):
        if node.get("refdomain") == "py" and target in domain.objects:
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", target, node, content
            )
    return None


def setup(app: Sphinx) -> None:
    """Hook all of it in."""
    app.connect("builder-inited", lambda _: solvers.write_pages())
    app.connect("source-read", lead_out)
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
    app.connect("object-description-transform", shorten_types, priority=900)
    app.connect("doctree-read", fit)
    app.connect("missing-reference", public_name)
    app.add_transform(NamesLead)
