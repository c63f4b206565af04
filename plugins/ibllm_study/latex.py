"""Text and tables for LaTeX: whatever an arm is called, it compiles. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "*": "{*}",
    "[": "{[}", "]": "{]}", "—": "---", "–": "--", "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''", "\u00a0": "~", "°": r"$^\circ$",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "→": r"$\to$", "←": r"$\leftarrow$", "↔": r"$\leftrightarrow$",
    "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "∞": r"$\infty$", "√": r"$\surd$",
    "†": r"$^\dagger$", "²": "$^2$", "³": "$^3$", "∇": r"$\nabla$",
}  # fmt: skip
_LETTERS = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
            Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"""
_GREEK = dict(zip(_LETTERS, _NAMES.split(), strict=True))


def text(plain: str) -> str:
    """Plain text as LaTeX: special characters escaped, ``λ`` as ``$\\lambda$``. Other scripts are left to the document's fonts."""
    return "".join(_SPECIAL.get(c) or (f"$\\{_GREEK[c]}$" if c in _GREEK else " " if c.isspace() else c) for c in plain)


#: Characters of a first column that is set in one line; beyond, it is a paragraph.
_LINE = 28
#: Columns up to which an interval stands beside its mean; in wider tables it stands below, so that they stay within a page.
_BESIDE = 4


def table(header: Sequence[str], rows: Iterable[Sequence[str]], columns: str, caption: str, label: str) -> str:
    """A booktabs table; `caption` is LaTeX already, cells are plain text."""
    rows = list(rows)
    if max((len(row[0]) for row in rows), default=0) > _LINE:
        columns = ("p{4.4cm}" if len(header) <= _BESIDE else "p{3.6cm}") + columns[1:]
    head = " & ".join(_head(cell, side) for cell, side in zip(header, ["l", *columns[-len(header) + 1 :]], strict=True))
    cell = text if len(header) <= _BESIDE else _stacked
    body = ["    " + " & ".join([text(row[0]), *map(cell, row[1:])]) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering\small" + (r"\setlength{\tabcolsep}{4pt}" if len(header) > _BESIDE else ""),
            f"  \\caption{{{caption}}}",
            f"  \\label{{{label}}}",
            f"  \\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"    \toprule",
            f"    {head} \\\\",
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _stacked(cell: str) -> str:
    """A number, and its interval below it."""
    number, bracket, interval = cell.partition(" [")
    if not bracket:
        return text(cell)
    return f"\\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text(number)} \\\\ {text('[' + interval)}\\end{{tabular}}"


def _head(cell: str, side: str) -> str:
    """A long heading in lines of two or so words, so that columns are as narrow as their numbers."""
    lines: list[str] = []
    for word in cell.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= 14:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) < 2:
        return text(cell)
    broken = r" \\ ".join(map(text, lines))
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{broken}\\end{{tabular}}"
