"""What a package's readers miss: summaries, meanings, docstrings, and what the package index shows."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from ibllm_core.host.manager import Manager, PluginError
from ibllm_inspect.about import documentation_url
from ibllm_inspect.options import options_of

from .checked_package import Component, Subject


def of_component(manager: Manager, component: Component) -> list[str]:
    """What is missing, in words; imports the component."""
    kind, name = component.kind, component.name
    missing = [] if component.summary.strip() else ["no summary in its ComponentSpec"]
    try:
        config, factory = manager.config_class(kind, name), manager.factory(kind, name)
    except PluginError as error:
        return [*missing, str(error)]
    silent = [row.key for row in options_of(config) if not row.help.strip()]
    if silent:
        missing.append(f"options without help: {', '.join(silent)}")
    for what, found in (("config", config), ("factory", factory)):
        if not (found.__doc__ or "").strip():
            missing.append(f"its {what} {getattr(found, '__qualname__', found)} has no docstring")
    return missing


def of_package(subject: Subject) -> list[str]:
    """What is missing in the distribution's metadata."""
    try:
        about: Any = metadata.metadata(subject.distribution)
    except metadata.PackageNotFoundError:
        return ["its metadata cannot be read"]
    readme = about.get_payload() or about.get("Description") or ""
    missing = [] if (about.get("Summary") or "").strip() else ["no description (project.description)"]
    if not readme.strip():
        missing.append("no README (project.readme)")
    else:
        unnamed = [component.label for component in subject.components if component.name not in readme]
        missing += [f"the README does not name {', '.join(unnamed)}"] if unnamed else []
    if not documentation_url(subject.distribution):
        missing.append("no address (project.urls: Homepage or Documentation)")
    if not (about.get("License-Expression") or about.get("License") or about.get_all("License-File")):
        missing.append("no licence (project.license)")
    return missing
