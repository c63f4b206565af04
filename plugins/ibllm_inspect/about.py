"""What packages and their files say of themselves. Torch-free."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any


def documentation_url(distribution: str) -> str:
    """Where a distribution says that it is documented; empty where it does not say."""
    try:
        about: Any = metadata.metadata(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return ""
    named = {label.strip().lower(): url.strip() for label, _, url in (u.partition(",") for u in about.get_all("Project-URL") or ())}
    return named.get("documentation") or named.get("homepage") or about.get("Home-page") or ""


def summary(path: Path) -> str:
    """What a file says of itself: the comment or the heading that it begins with."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline().strip()
    except OSError:
        return ""
    return first.lstrip("# ") if first.startswith("#") else ""
