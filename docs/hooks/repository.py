"""A hook of MkDocs: the site has pages from all over the repository, and their links lead on.

Every document is written for the repository: a link is relative to its file, and works where the
code is read. Here those to what is a page of the site lead to that page, those to any other file
to the repository. A link to a file that does not exist is a warning, and so the build's end.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/container-provisioner/container-provisioner"

# Documents elsewhere that are pages, by the pages' names. Those of examples/ come to them.
PAGES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "examples/index.md": "examples/README.md",
    "security-policy.md": "SECURITY.md",
    "reference/images.md": "images/README.md",
    **{
        f"examples/{path.parent.name}.md": str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("examples/*/README.md"))
    },
}
# What the README says is said on other pages here.
INSTEAD = {
    "README.md": "index.md",
    "README.md#configuration": "reference/settings.md",
    "README.md#what-it-protects-from-and-what-not": "explanation/security.md",
}

_LINK = re.compile(r"(?<=\]\()(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_log = logging.getLogger("mkdocs.hooks.repository")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = [
        {"Examples": [page for page in PAGES if page.startswith("examples/")]}
        if "Examples" in entry
        else entry
        for entry in config.nav or []
    ]
    config.watch += [str(ROOT / source) for source in PAGES.values()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    name = page.file.src_uri
    source = PAGES.get(name, f"docs/{name}")
    pages = {f"docs/{uri}": uri for uri in files.src_uris} | {
        path: uri for uri, path in PAGES.items()
    }

    def lead_on(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = INSTEAD.get(path + anchor) or INSTEAD.get(path) or pages.get(path)
        if there:
            kept = "" if path + anchor in INSTEAD else anchor
            return posixpath.relpath(there, posixpath.dirname(name) or ".") + kept
        if not (ROOT / path).exists():
            _log.warning("%s: there is no %s", source, path)
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{path}{anchor}"

    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lead_on, text) for text in parts[::2]]
    return "".join(parts)
