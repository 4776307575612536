"""Small line charts as SVG, readable on light and on dark."""
import dataclasses
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 380, 230  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 40
TITLE = 34

# Greys and colours that can be read on both, for viewers that do not know the media query.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #767676 }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #8886; stroke-width: 1 }
.a { stroke: #2f7fe0 } .b { stroke: #d9622b }
.line { fill: none; stroke-width: 2 } .dashed { stroke-dasharray: 5 4 }
text.a { fill: #2f7fe0; stroke: none } text.b { fill: #d9622b; stroke: none }
@media (prefers-color-scheme: light) { text { fill: #444 } }
@media (prefers-color-scheme: dark) { text { fill: #bbb } }
"""


@dataclasses.dataclass
class Line:
    name: str
    values: list
    dashed: bool = False


@dataclasses.dataclass
class Panel:
    label: str  # of the y axis, with its unit
    lines: list
    top: float = 0  # what is above is drawn at the top; 0: as the values are


def ceiling(value):
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= value * 0.999)


def draw_panel(panel, x, x_label, left, above):
    right, bottom = left + WIDTH - RIGHT, above + HEIGHT - BOTTOM
    left, above = left + LEFT, above + TOP
    top = panel.top or ceiling(max(max(line.values) for line in panel.lines))
    low, high = math.log(x[0]), math.log(x[-1])

    def at(factor, value):
        return (left + (right - left) * (math.log(factor) - low) / (high - low),
                bottom - (bottom - above) * min(value, top) / top)
    out = [f'<text x="{left - 44}" y="{above - 18}">{escape(panel.label)}</text>']
    for n in range(5):
        value = top * n / 4
        y = at(x[0], value)[1]
        out.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                   f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for factor in x:
        out.append(f'<text x="{at(factor, 0)[0]:.1f}" y="{bottom + 16}" text-anchor="middle">'
                   f'{factor:g}</text>')
    out.append(f'<text x="{(left + right) / 2:.0f}" y="{bottom + 33}" text-anchor="middle">'
               f'{escape(x_label)}</text>')
    for n, (line, color) in enumerate(zip(panel.lines, "ab")):
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(at, x, line.values))
        dashed = " dashed" if line.dashed else ""
        out.append(f'<polyline class="line {color}{dashed}" points="{points}"/>'
                   f'<text class="{color}" x="{right}" y="{above - 18 + 14 * n}" '
                   f'text-anchor="end">{escape(line.name)}{" (dashed)" if line.dashed else ""}'
                   f'</text>')
    return "\n".join(out)


def panels(title, x_label, x, all_panels):
    """Panels two abreast over the same x, which is drawn on a logarithmic scale."""
    width, height = 2 * WIDTH, TITLE + HEIGHT * ((len(all_panels) + 1) // 2)
    body = "\n".join(draw_panel(panel, x, x_label, WIDTH * (n % 2), TITLE + HEIGHT * (n // 2))
                     for n, panel in enumerate(all_panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">\n<title>{escape(title)}</title>\n'
            f'<style>{STYLE}</style>\n<text class="title" x="8" y="20">{escape(title)}</text>\n'
            f'{body}\n</svg>\n')
