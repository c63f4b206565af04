"""A study's table.tex as TeX sets it (Debian's texlive-latex-recommended): it compiles, and nothing hangs over the margin."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ibllm_study.foreign import from_csv
from ibllm_study.outputs import write_findings

from .needs import needs

DOCUMENT = r"""\documentclass[11pt]{article}
\usepackage[a4paper,margin=2.5cm]{geometry}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
\input{table.tex}
\end{document}
"""
NAMES = ("base", "no cycle", "λ = 0", "width_2 & {depth} 50 % #1 ~ ^ \\", "an arm with a long name that says what it leaves out")


def write(folder: Path, figures: int, seeds: int) -> None:
    header = ",".join(["arm", "seed", *(f"test/figure_{number}" for number in range(figures))])
    lines = [
        ",".join([f'"{name}"', str(seed), *(str(0.5 + 0.01 * ((7 * seed + 3 * n + i) % 11)) for i in range(figures))])
        for n, name in enumerate(NAMES)
        for seed in range(seeds)
    ]
    (folder / "runs.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    write_findings(from_csv(folder / "runs.csv", "test/figure_0", "max"), folder)


@pytest.mark.parametrize(("figures", "seeds"), [(1, 2), (8, 8)])
def test_the_table_compiles_and_stays_within_the_page(figures: int, seeds: int, tmp_path: Path) -> None:
    needs("pdflatex (apt install texlive-latex-recommended)", shutil.which("pdflatex") is not None)
    write(tmp_path, figures, seeds)
    (tmp_path / "page.tex").write_text(DOCUMENT, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    over = [float(points) for points in re.findall(r"Overfull \\hbox \((\S+)pt too wide\)", done.stdout)]
    assert max(over, default=0.0) < 2.0, done.stdout[-3000:]
    assert "Overfull \\vbox" not in done.stdout
