"""The one table of solvers, from which docs/choosing.md and a page for every solver are made.

python docs/solvers.py    (fills in the two tables of docs/choosing.md)

The pages, docs/solvers/*.md, are written when the site is built, and are not kept. A new solver
adds a row here; `python docs/images/paths.py NAME` draws its picture.
"""

import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import marks  # noqa: E402

import gradbalance as gb  # noqa: E402

GRADIENTS, LOSSES, AROUND = "on gradients", "on losses", "around a method"


@dataclass(frozen=True)
class Row:
    """What is said of a solver, or of several in one breath.

    Attributes:
        names: the classes.
        group: one of the three above.
        when: to take it.
        promise: whether no loss rises along its direction, to first order.
        preferences: what they mean for it.
        remembers: its state.
        when_alone: `when` on a page of its own, where it speaks of the row above.
        promise_alone: the same for `promise`.
    """

    names: tuple[str, ...]
    group: str
    when: str
    promise: str
    preferences: str
    remembers: str
    when_alone: str = ""
    promise_alone: str = ""


NO = "not promised"
INSIDE = "as the method inside"

TABLE = (
    Row(
        ("MGDA",),
        GRADIENTS,
        "you want a direction along which all losses fall, of any length; `normalization=` when "
        "scales differ",
        "always",
        "ratio of the decreases",
        "nothing",
    ),
    Row(
        ("UPGrad",),
        GRADIENTS,
        "you want the mean gradient without its conflicts, and every task should count",
        "always",
        "weights of the mean",
        "nothing",
    ),
    Row(
        ("DualProj",),
        GRADIENTS,
        "as for `UPGrad`, but cheaper",
        "always",
        "weights of the mean",
        "nothing",
        when_alone="you want the mean gradient without its conflicts; cheaper than `UPGrad`",
    ),
    Row(
        ("CAGrad",),
        GRADIENTS,
        "you want to stay near the mean gradient, but help the worst-off task",
        "for c ≥ 1",
        "weights of the mean",
        "nothing",
    ),
    Row(
        ("NashMTL",),
        GRADIENTS,
        "units of the losses and norms of the gradients should not matter, and all tasks count "
        "equally",
        "unless stationary",
        "bargaining powers",
        "nothing",
    ),
    Row(
        ("FairGrad",),
        GRADIENTS,
        "as for `NashMTL`, with a parameter between the sum (small alpha) and the worst-off "
        "task (large alpha)",
        "unless stationary",
        "factors of the utilities",
        "nothing",
    ),
    Row(
        ("ConFIG",),
        GRADIENTS,
        "the step should have the same angle with the gradients of all tasks",
        "unless ill-posed",
        "ratio of the cosines",
        "nothing",
    ),
    Row(
        ("IMTLG",),
        GRADIENTS,
        "you compare with the literature; `ConFIG` has the same direction, but bounded",
        "unless ascent or ill-posed",
        "ratio of the projections",
        "nothing",
    ),
    Row(
        ("AlignedMTL",),
        GRADIENTS,
        "gradients are nearly linearly dependent, and the step should be stable",
        NO,
        "weights of the mean",
        "nothing",
    ),
    Row(
        ("PCGrad",),
        GRADIENTS,
        "you want a cheap and well-known baseline",
        "with two tasks",
        "–",
        "number of steps taken",
    ),
    Row(
        ("GradVac",),
        GRADIENTS,
        "you want a baseline like `PCGrad`, and the tasks usually agree",
        NO,
        "–",
        "usual cosines, number of steps taken",
    ),
    Row(
        ("GradNorm",),
        GRADIENTS,
        "tasks train at different rates; it weights whole losses, heads included",
        NO,
        "–",
        "weights, first losses, moments",
    ),
    Row(
        ("DBMTL",),
        GRADIENTS,
        "the gradients of the log losses should have the same length",
        NO,
        "–",
        "nothing",
    ),
    Row(
        ("InverseNorm",),
        GRADIENTS,
        "all gradients should have the same length, in this batch or on average; mostly used to "
        "scale gradients for another method",
        NO,
        "–",
        "with `decay`, mean norms",
        when_alone="all gradients should have the same length, in this batch or on average; "
        "mostly used to scale gradients for another method, `Scaled(solver, by=InverseNorm())`",
    ),
    Row(
        ("EPO",),
        GRADIENTS,
        "the losses should end in a chosen ratio",
        "not promised while the losses are uneven",
        "ratio of the losses, inverted",
        "nothing",
    ),
    Row(
        ("DBGD",),
        GRADIENTS,
        "some losses have upper bounds, and the others should be low",
        "losses above their bounds fall",
        "weights of the others",
        "nothing",
        promise_alone="losses above their bounds fall; nothing is promised for the others",
    ),
    Row(
        ("MainTask",),
        GRADIENTS,
        "one task matters, and its helpers must not slow it down",
        "the main task falls as fast as alone",
        "weights of the sum",
        "nothing",
        promise_alone="the main task falls as fast as alone; nothing is promised for the helpers",
    ),
    Row(
        ("GradCosine",),
        GRADIENTS,
        "as for `MainTask`, but cheaper: helpers count by their cosine with the main task",
        "the main task falls as fast as alone",
        "–",
        "nothing",
        when_alone="one task matters, and helpers count by their cosine with it; cheaper than "
        "`MainTask`",
        promise_alone="the main task falls as fast as alone; nothing is promised for the helpers",
    ),
    Row(
        ("PCD",),
        GRADIENTS,
        "one task leads, and all others must fall a little",
        "all tasks but the primary one fall; with τ = 0 none rises",
        "–",
        "mean squared norms",
    ),
    Row(
        ("SDMGrad", "MoDo"),
        GRADIENTS,
        "the weights should come from two independent batches, whose noise cancels",
        "not promised for one batch",
        "–",
        "weights",
    ),
    Row(
        ("Krum",),
        GRADIENTS,
        "there are many tasks of one kind, and some of them are broken",
        NO,
        "–",
        "nothing",
    ),
    Row(
        ("Uniform",),
        LOSSES,
        "you begin; it is also the baseline",
        NO,
        "the weights",
        "nothing",
    ),
    Row(
        ("UW", "IMTLL"),
        LOSSES,
        "units of the losses differ, and a cheap learned scale is enough",
        NO,
        "–",
        "logarithms of scales, moments",
    ),
    Row(
        ("GLS", "SI"),
        LOSSES,
        "units of the losses differ, and relative decreases should count, without learning",
        NO,
        "–",
        "nothing",
    ),
    Row(
        ("STCH",),
        LOSSES,
        "the largest loss should count most",
        NO,
        "weights in the maximum",
        "nothing",
    ),
    Row(
        ("DWA",),
        LOSSES,
        "tasks slow down at different epochs; needs `end_epoch()`",
        NO,
        "–",
        "means of two epochs",
    ),
    Row(
        ("SoftAdapt",),
        LOSSES,
        "you want a baseline for losses of one unit that fall at different speeds",
        NO,
        "–",
        "averages of the losses",
    ),
    Row(
        ("ReLoBRaLo",),
        LOSSES,
        "you want a baseline for physics-informed networks",
        NO,
        "–",
        "weights, first and last losses, number of steps taken",
    ),
    Row(
        ("RLW",),
        LOSSES,
        "you want a stochastic baseline",
        NO,
        "–",
        "number of steps taken",
    ),
    Row(
        ("FAMO",),
        LOSSES,
        "relative decreases should be equal, and one more forward pass is affordable; needs "
        "`after_step(losses)`",
        NO,
        "–",
        "logits, moments, the losses before the step",
    ),
    Row(
        ("Scaled",),
        AROUND,
        "a gradient method should work on losses that another method scales",
        "as the method inside",
        INSIDE,
        "what both methods remember",
    ),
    Row(
        ("Shifted",),
        AROUND,
        "losses may be below zero, and the method takes logarithms or ratios",
        INSIDE,
        INSIDE,
        "what the method inside remembers",
    ),
    Row(
        ("AveragedGramian",),
        AROUND,
        "the weights are noisy; it averages the inner products over the steps",
        NO,
        INSIDE,
        "averages, and what the method inside remembers",
    ),
    Row(
        ("CRMOGM",),
        AROUND,
        "the weights are noisy; it averages them over the steps",
        NO,
        INSIDE,
        "averaged weights, and what the method inside remembers",
    ),
    Row(
        ("Bounded",),
        AROUND,
        "one task gets almost all the weight; it bounds the ratio of the weights; for losses of "
        "one unit",
        "as the method inside, unless the bound changes the weights",
        INSIDE,
        "what the method inside remembers",
    ),
)

SOLVERS = {name: row for row in TABLE for name in row.names}


@dataclass(frozen=True)
class Drawn:
    """What a picture shows, as code: a solver, and one beside it in grey.

    Its tasks are "0", "1" and "2", the losses of the steep, the medium and the flat bowl.
    """

    solver: str
    beside: str = ""
    note: str = ""


_CALM = "Nothing is random here, so there is little to average."
_DRAWN = {
    "DBGD": Drawn('DBGD({"0": 3.0})', note="The bound is met where the steep loss is 3 or less."),
    "Scaled": Drawn("Scaled(UPGrad(), by=InverseNorm())", "UPGrad()"),
    "Shifted": Drawn("Shifted(UW(), min_losses=-1.0)", "UW()"),
    "AveragedGramian": Drawn("AveragedGramian(MGDA())", "MGDA()", _CALM),
    "CRMOGM": Drawn("CRMOGM(MGDA())", "MGDA()", _CALM),
    "Bounded": Drawn("Bounded(MGDA())", "MGDA()"),
}


def drawn(name: str) -> Drawn:
    """What the picture of a solver shows: mostly the solver as it comes."""
    return _DRAWN.get(name, Drawn(f"{name}()"))


def make(call: str) -> gb.Solver:
    """The solver that a picture shows."""
    solver: gb.Solver = eval(call, {name: getattr(gb, name) for name in SOLVERS})
    return solver


# The tables of choosing.md.


def table(group: str) -> str:
    """The rows of a group, in Markdown."""
    lines = [
        f"| {group} | when | no loss rises | preferences | remembers |",
        "|---|---|---|---|---|",
    ]
    for row in TABLE:
        if row.group == group:
            names = ", ".join(f"`{name}`" for name in row.names)
            cells = (names, row.when, row.promise, row.preferences, row.remembers)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fill(page: str) -> str:
    """The page with the tables between their marks."""
    for group in (GRADIENTS, LOSSES):
        page = marks.fill(page, group, table(group))
    return page


# The pages.

WEIGHS = {
    "gradients": "the gradients of the shared part; each head keeps its raw gradient",
    "losses": "whole losses, heads included",
}
NEEDS = {
    "gramian": "the inner products of the gradients: one backward pass per task, or less with "
    "[a cheaper source](../costs.md)",
    "losses": "the losses only: one backward pass",
}
PAGE = """# {name}

{first}

```{{list-table}}
:stub-columns: 1
:widths: 20 80
:width: 100%
:class: facts

{facts}
```

```python
balancer = gb.Balancer({call})
```

{scale}```{{figure}} ../images/paths/{name}.png
:alt: Five paths of {name} over the contours of three losses
:width: 420px

{caption}
```

## Reference

```{{eval-rst}}
.. autoclass:: gradbalance.{name}
{members}
```
"""
SCALE = """With `scale="norm"` each step has the length of the plain sum's step, so you can keep
your learning rate: see [sign and scale](../notation.md#sign-and-scale).

"""
CAPTION = """Five runs of `{call}` on three bowls in two variables, from the black dots to the
yellow diamonds. The red bowl is the steepest, the green one the flattest.{beside} Anywhere in the
grey triangle no loss can fall without another one rising.
[Methods side by side](../gallery.md#three-bowls)."""
INDEX = """# Solvers

Each solver has a page: when to use it, what it promises, a picture of what it does, its equation
and its options. [Which one to try first](../choosing.md#which-solver-first) depends on what you
see.

"No loss rises" is about one step, to first order and on the current batch. Preferences are passed
as `preferences=`.

{groups}
"""
GROUP = """## {title}

{text}

{table}

```{{toctree}}
:hidden:

{pages}
```
"""
TITLES = {
    GRADIENTS: (
        "On gradients",
        "These methods use the inner products of the gradients, which takes one backward pass per "
        "task, or less with [a cheaper source](../costs.md).",
    ),
    LOSSES: ("On losses", "These methods use the losses only, so a step takes one backward pass."),
    AROUND: (
        "Around a method",
        "These methods hold another method, and change what it sees or what it returns. They can "
        "be [nested](../choosing.md#methods-inside-methods).",
    ),
}


def _said(cls: type, attribute: str, words: dict[str, str]) -> str:
    """What a class attribute means; that of a method around another one is the other's."""
    found = getattr(cls, attribute)
    return words[found] if isinstance(found, str) else INSIDE


def _facts(name: str) -> list[tuple[str, str]]:
    cls, row = getattr(gb, name), SOLVERS[name]
    facts = [
        ("When", row.when_alone or row.when),
        ("No loss rises", row.promise_alone or row.promise),
        ("Needs", NEEDS["gramian"] if name == "Scaled" else _said(cls, "needs", NEEDS)),
        ("Weighs", _said(cls, "weighs", WEIGHS)),
        ("Preferences", row.preferences if row.preferences != "–" else "none"),
        ("Remembers", row.remembers),
    ]
    if cls.takes_zero_losses is False:
        facts.append(("A loss of 0", "its task is left out of the step"))
    if re.search(rf"^\| [^|]*`{name}`", (HERE / "defaults.md").read_text(encoding="utf-8"), re.M):
        facts.append(("Other codes", "[have other defaults](../defaults.md)"))
    return facts


def page(name: str) -> str:
    """The page of a solver."""
    cls, shown = getattr(gb, name), drawn(name)
    hooks = [hook for hook in ("after_step", "end_epoch") if hook in vars(cls)]
    beside = f" Grey: `{shown.beside}` alone." if shown.beside else ""
    note = f" {shown.note}" if shown.note else ""
    return PAGE.format(
        name=name,
        first=(inspect.getdoc(cls) or "").splitlines()[0],
        facts="\n".join(f"* - {head}\n  - {text}" for head, text in _facts(name)),
        call=re.sub(r"\b([A-Z]\w+\()", r"gb.\1", shown.solver).replace('"0"', '"depth"'),
        scale=SCALE if make(shown.solver).needs == "gramian" else "",
        caption=CAPTION.format(call=shown.solver, beside=beside + note),
        members=f"   :members: {', '.join(hooks)}" if hooks else "",
    )


def _index() -> str:
    groups = []
    for group, (title, text) in TITLES.items():
        rows = [row for row in TABLE if row.group == group]
        last = "remembers" if group == LOSSES else "no loss rises"
        lines = [f"| | when | {last} |", "|---|---|---|"]
        for row in rows:
            told = row.remembers if group == LOSSES else row.promise_alone or row.promise
            lines += [
                f"| [`{n}`]({n}.md) | {row.when_alone or row.when} | {told} |" for n in row.names
            ]
        pages = "\n".join(name for row in rows for name in row.names)
        groups.append(GROUP.format(title=title, text=text, table="\n".join(lines), pages=pages))
    return INDEX.format(groups="\n".join(groups))


def write_pages(folder: Path = HERE / "solvers") -> None:
    """A page for every solver, and one that leads to them; only what changed is written."""
    folder.mkdir(exist_ok=True)
    pages = {"index": _index(), **{name: page(name) for name in SOLVERS}}
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in folder.glob("*.md"):
        if file.stem not in pages:
            file.unlink()


if __name__ == "__main__":
    choosing = HERE / "choosing.md"
    choosing.write_text(fill(choosing.read_text(encoding="utf-8")), encoding="utf-8")
