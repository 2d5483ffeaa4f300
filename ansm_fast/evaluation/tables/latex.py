"""F1 of an evaluation as LaTeX tables in the style of booktabs, one for each image set."""

from __future__ import annotations

from collections.abc import Sequence

from ansm_fast.evaluation.defences import is_ansm, title
from ansm_fast.evaluation.rows import Row
from ansm_fast.evaluation.tables.layout import (
    LEAK_FREE,
    LEGEND,
    UNSEEN,
    Line,
    defences,
    lines,
    mark,
    number,
    sets,
)

# The beginning of every file.
MADE_BY = "% Made by: "
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    UNSEEN: r"$^\dagger$", LEAK_FREE: r"$^\ddagger$", "×": r"$\times$", "–": "--",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _cell(line: Line, defence: str) -> str:
    row = line.cells.get(defence)
    if row is None or row["f1"] is None:
        return "--"
    value = number(row["f1"])
    if row["f1"] == line.best("f1"):
        value = rf"\textbf{{{value}}}"
    value += escape(mark(row))
    low, high = row.get("f1_low"), row.get("f1_high")
    if is_ansm(defence) and low is not None and high is not None:
        value += rf" {{\scriptsize [{low:.2f}, {high:.2f}]}}"
    return value


def _table(name: str, rows: Sequence[Row]) -> list[str]:
    columns = defences(rows)
    of_set = f" of {escape(name)}" if name else ""
    head = " & ".join(["attack", r"$\varepsilon$", *(escape(title(one)) for one in columns)])
    body: list[str] = []
    found = lines(rows)
    for before, line in zip([None, *found[:-1]], found, strict=True):
        if before is not None and before.eps != line.eps:
            body.append(r"\addlinespace")
        cells = [escape(line.title), escape(line.budget), *(_cell(line, one) for one in columns)]
        body.append(" & ".join(cells) + r" \\")
    marks = " ".join(f"{escape(sign)} {escape(meaning)}." for sign, meaning in LEGEND.items())
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{F1 at threshold 0.5, mean over {rows[0]['n']} forged images{of_set}; "
        rf"in brackets the 95\,\% bootstrap interval. {marks}}}",
        rf"\begin{{tabular}}{{ll{'r' * len(columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def latex(rows: Sequence[Row], command: str) -> str:
    """Tables that need ``\\usepackage{booktabs}``: F1, attack by defence; intervals for ANSMs."""
    parts = [f"{MADE_BY}{' '.join(command.split())}", "% Needs \\usepackage{booktabs}."]
    for name, found in sets(rows).items():
        parts += ["", *_table(name, found)]
    return "\n".join(parts) + "\n"
