"""What mkdocs.yml leaves to code: pages that lie elsewhere in the checkout, and patterns in its `nav`."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "reference"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, then write the patterns of `nav` out."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    for path in sorted(path for suffix in ("csv", "png", "webp") for path in RESULTS.rglob(f"*.{suffix}")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    known = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = written_out(config.nav, known, named(config.nav))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Without the comment at the head, which would hide the title from the navigation; results lie beside the pages."""
    text = re.sub(r"\A<!--.*?-->\s*", "", markdown, flags=re.DOTALL)
    return re.sub(r"\]\(\.\./((?:\.\./)*results/)", r"](\1", text)  # one folder less above them than in docs/


def pages() -> dict[str, str]:
    """The README as the front page, the changelog, the notebook, and the tables that are kept of runs."""
    found = {
        "index.md": moved((ROOT / "README.md").read_text("utf-8")),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
        "notebook.md": notebook(ROOT / "docs" / "notebook.ipynb"),
    }
    for path in sorted(RESULTS.rglob("*.md")):
        text = path.read_text("utf-8")
        title = "" if re.search(r"^# ", text, re.MULTILINE) else f"# {path.stem}\n\n"
        found[path.relative_to(ROOT).as_posix()] = title + text
    for folder in sorted(path for path in RESULTS.rglob("*") if any(path.glob("*.md"))):
        links = "".join(f"- [{path.stem}]({path.name})\n" for path in sorted(folder.glob("*.md")))
        found[f"{folder.relative_to(ROOT).as_posix()}/index.md"] = f"# {folder.name}\n\n{links}"
    return found


def moved(text: str) -> str:
    """The README with its links as they are from the site: pages of docs/ beside it, folders by their list."""

    def link(match: re.Match[str]) -> str:
        target = match[2].removeprefix("docs/").replace(".ipynb", ".md")
        return f"{match[1]}({target}/index.md)" if (ROOT / match[2]).is_dir() else f"{match[1]}({target})"

    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)")
    return re.sub(r"(\])\(((?:docs|results)/[^)]*)\)", link, text)


# ---------------------------------------------------------------------------------------------- nav


def written_out(entries: Any, known: list[str], taken: set[str]) -> Any:
    """The entries with every pattern as the pages that it means and that no entry names; empty sections go."""
    if isinstance(entries, str):
        return entries
    found = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, inner),) = entry.items()
            if inner := written_out(inner, known, taken):
                found.append({title: inner})
        elif "*" in entry:
            own = [name for name in known if matches(name, entry) and name not in taken]
            taken |= {*own}
            found += own
        else:
            found.append(entry)
    return found


def matches(name: str, pattern: str) -> bool:
    """Whether it means this page; * stays in its folder."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatch(name, pattern)


def named(entries: Any) -> set[str]:
    """The pages that are named one by one."""
    if isinstance(entries, str):
        return {entries} - {name for name in [entries] if "*" in name}
    if isinstance(entries, dict):
        return named(list(entries.values()))
    return set().union(*map(named, entries))


# ---------------------------------------------------------------------------------------------- notebook


def notebook(path: Path) -> str:
    """A notebook as Markdown, with the outputs that it was saved with."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    blocks = []
    for cell in cells:
        source = "".join(cell["source"])
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        blocks += map(output, cell.get("outputs", ()))
    return "\n\n".join(blocks) + "\n"


def output(found: dict[str, Any]) -> str:
    """One output of a cell: a table, a picture or text."""
    data = found.get("data", {"text/plain": found.get("text", "")})
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return table.replace('<table border="1" class="dataframe">', "<table>")
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
