"""Draws how many requests a second each strategy answers, as SVG for light pages and dark ones."""

from html import escape

from bench.strategies.contenders import Contender
from bench.strategies.rows import OURS, USUAL

WIDTH, LEFT, RIGHT, TOP, ROW = 800, 130, 230, 56, 28
FIGURE = "requests_a_second"
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #424a53 }
.title { font-size: 16px; font-weight: 600 }
.bar { fill: #9aa4af }
.ours { fill: #2f81f7 }
.range { stroke: #424a53; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #d1d7e0 }
  .bar { fill: #656c76 }
  .range { stroke: #d1d7e0 }
}
"""


def chart(contenders: list[Contender], about: str) -> str:
    """Return a chart of the medians, with a line from the slowest round to the quickest.

    `about` says in one line what was measured where; it stands below the title.
    """
    height = TOP + ROW * len(contenders) + 12
    most = max(one.range(FIGURE)[1] for one in contenders)
    scale = (WIDTH - LEFT - RIGHT) / most
    usual = next((one for one in contenders if one.row.name == USUAL), None)
    told = ", ".join(f"{one.row.name} {one.median(FIGURE):,.0f}" for one in contenders)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="title desc">',
        '<title id="title">Requests a second, by way of caching</title>',
        f'<desc id="desc">{escape(told)}. {escape(about)}</desc>',
        f"<style>{STYLE}</style>",
        '<text class="title" x="12" y="22">Requests a second, by way of caching</text>',
        f'<text x="12" y="43">{escape(about)}</text>',
    ]
    for position, one in enumerate(contenders):
        lines += _bar(one, usual, TOP + ROW * position, scale)
    return "\n".join([*lines, "</svg>", ""])


def _bar(one: Contender, usual: Contender | None, y: int, scale: float) -> list[str]:
    middle, median = y + ROW // 2, one.median(FIGURE) or 0.0
    low, high = one.range(FIGURE)
    kind = "ours" if one.row.name == OURS else "bar"
    label = f"{median:,.0f}"
    if usual and usual is not one:
        label += f" ({one.times(usual):.1f} times {USUAL})"
    return [
        f'<text x="{LEFT - 10}" y="{middle + 5}" text-anchor="end">{escape(one.row.name)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{y + 5}" width="{median * scale:.1f}" height="{ROW - 10}"/>',
        f'<line class="range" x1="{LEFT + low * scale:.1f}" x2="{LEFT + high * scale:.1f}" '
        f'y1="{middle}" y2="{middle}"/>',
        f'<text x="{LEFT + high * scale + 8:.1f}" y="{middle + 5}">{escape(label)}</text>',
    ]
