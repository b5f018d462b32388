"""A page that opens from disk: text, figures, and a table that is sorted by a click on its head, in one HTML file."""

from __future__ import annotations

import base64
import html
import itertools
import os
import platform
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

PACKAGES = ("numpy", "scipy", "numba", "torch", "pyamg")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
img { max-width: 100% } table { border-collapse: collapse } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd }
th { cursor: pointer; text-align: left; background: #f4f4f4; position: sticky; top: 0 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
td.number, td:nth-child(-n+3) { white-space: nowrap }
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
    links: Sequence[str] = (),
) -> None:
    """Write a page with PNG figures and a table of texts; numbers among them are sorted as numbers.

    Parameters
    ----------
    path : Path
        The HTML file to write.
    title : str
        Title and heading.
    paragraphs : sequence of str
        Texts above the figures.
    figures : sequence of Path
        PNG files.
    head : sequence of str
        Heads of the table's columns.
    rows : sequence of sequences of str
        Cells of the table.
    links : sequence of str, optional
        For each row, the stem of the figure that its first cell links to.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(text)}</p>" for text in paragraphs)]
    linked = set(links)
    parts += [_image(figure) for figure in figures if figure.stem not in linked]
    parts.append("<table><thead><tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in head))
    parts.append("</tr></thead><tbody>")
    for row, link in itertools.zip_longest(rows, links):
        cells = [_cell(text) for text in row]
        if link:
            cells[0] = f'<td><a href="#{html.escape(link)}">{html.escape(row[0])}</a></td>'
        parts.append("<tr>" + "".join(cells) + "</tr>")
    parts.append("</tbody></table>")
    parts += [_image(figure) for figure in figures if figure.stem in linked]
    found = [f"{name} {package.version}" for name in PACKAGES for package in distributions(name=name)]
    versions = ", ".join([f"Python {platform.python_version()}", *dict.fromkeys(found)])
    parts.append(f"<p>{html.escape(processor())}, {os.cpu_count()} cores, {versions}</p>")
    head_part = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    path.write_text(
        f'<!doctype html><html lang="en"><head>{head_part}</head><body>{body}<script>{SORT}</script></body></html>\n',
        encoding="utf-8",
    )


def processor() -> str:
    """Return the name of the processor, from Linux if possible and else from Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _image(figure: Path) -> str:
    content = base64.b64encode(figure.read_bytes()).decode()
    name = html.escape(figure.stem)
    return f'<img id="{name}" alt="{name}" src="data:image/png;base64,{content}">'


def _cell(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return f"<td>{html.escape(text)}</td>"
    return f'<td class="number">{text}</td>'
