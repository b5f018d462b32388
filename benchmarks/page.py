"""A page that opens from disk: text, figures and a table that is sorted by a click on its head, in one HTML file."""

from __future__ import annotations

import base64
import html
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "scipy", "numba", "torch", "pyamg")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
img { max-width: 100% } table { border-collapse: collapse } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd }
th { cursor: pointer; text-align: left; background: #f4f4f4; position: sticky; top: 0 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
"""
SORT = """
for (const th of document.querySelectorAll("th")) th.onclick = () => {
  const body = th.closest("table").tBodies[0], column = th.cellIndex, up = th.dataset.up !== "1";
  th.dataset.up = up ? "1" : "0";
  const key = row => { const text = row.cells[column].textContent, number = Number(text);
                       return text !== "" && Number.isFinite(number) ? number : text; };
  [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
    return (typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1) * (up ? 1 : -1);
  }).forEach(row => body.append(row));
};
"""


def write(
    path: Path,
    title: str,
    paragraphs: Sequence[str],
    figures: Sequence[Path],
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Path:
    """Write a page with PNG figures and a table of texts; numbers among them are sorted as numbers."""
    parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(text)}</p>" for text in paragraphs)]
    for figure in figures:
        content = base64.b64encode(figure.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(figure.stem)}" src="data:image/png;base64,{content}">')
    parts.append("<table><thead><tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in head))
    parts.append("</tr></thead><tbody>")
    parts += ["<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in rows]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    parts.append(f"</tbody></table><p>{platform.machine()}, Python {platform.python_version()}, {versions}</p>")
    head_part = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    path.write_text(
        f'<!doctype html><html lang="en"><head>{head_part}</head><body>{body}<script>{SORT}</script></body></html>\n'
    )
    return path


def _cell(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return f"<td>{html.escape(text)}</td>"
    return f'<td class="number">{text}</td>'
