# Writes the run as one HTML page with plots and the host's facts, without scripts or network requests.
import html
import itertools
import math
import statistics

import cases
from figures import number

STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #777; --rule: #ccc; --mark: #06c; --back: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --soft: #999; --rule: #444; --mark: #6af; --back: #181818 } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: var(--ink);
  background: var(--back) }
table { border-collapse: collapse; margin: .5em 0 1.5em } td, th { padding: .15em .7em; border-bottom: 1px solid var(--rule) }
td.n { text-align: right; font-variant-numeric: tabular-nums } th { text-align: left } .soft { color: var(--soft) }
svg { display: block; margin: .3em 0 1em } svg text { font-size: 12px; fill: var(--ink) } svg .soft { fill: var(--soft) }
.grid { stroke: var(--rule) } .median { stroke: var(--ink); stroke-width: 2 } .left { text-anchor: end }
.middle { text-anchor: middle } .values { stroke: var(--mark); stroke-width: 6; stroke-linecap: round; stroke-opacity: .45 }
"""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00", "#777777", "#333399")
LEFT, WIDTH, ROW = 150, 720, 20


def dots(rows):
    """Each peer a line: every value a dot, the median a stroke; the scale begins at 0."""
    most = max(max(row["values"]) for row in rows) or 1
    step = 10 ** math.floor(math.log10(most))
    step = next(step * f for f in (0.2, 0.5, 1, 2, 5) if most / (step * f) <= 8)
    height = ROW * len(rows) + 24

    def x(value):
        return LEFT + value / most * (WIDTH - LEFT - 60)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">']
    for tick in range(int(most / step + 1e-9) + 1):
        at = x(tick * step)
        parts.append(f'<path class="grid" d="M{at:.0f} 0v{height - 20}"/>'
                     f'<text class="soft middle" x="{at:.0f}" y="{height - 6}">{number(tick * step)}</text>')
    for index, row in enumerate(rows):
        y = ROW * index + ROW // 2
        values = "".join(f"M{x(value):.1f} {y}h.01" for value in row["values"])
        parts.append(f'<text class="left" x="{LEFT - 8}" y="{y + 4}">{html.escape(row["peer"])}</text>'
                     f'<path class="values" d="{values}"/><path class="median" d="M{x(row["median"]):.1f} {y - 7}v14"/>'
                     f'<text x="{x(max(row["values"])) + 8:.0f}" y="{y + 4}">{number(row["median"])}</text>')
    return "".join(parts) + "</svg>"


def curves(rows):
    """Latency by percentile, both logarithmic: the further right, the rarer."""
    height, bottom = 260, 230
    values = [v for row in rows for _, v in row["distribution"] if v > 0]
    low, high = math.log10(min(values)), math.log10(max(values)) + 1e-9
    rarest = max(-math.log10(1 - part / 100) for row in rows for part, _ in row["distribution"] if part < 100)

    def point(part, value):
        rare = min(-math.log10(max(1 - part / 100, 1e-9)), rarest)
        return (f"{60 + rare / rarest * (WIDTH - 220):.1f},"
                f"{bottom - (math.log10(max(value, 1e-9)) - low) / (high - low) * (bottom - 10):.1f}")
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">']
    for part in (0, 90, 99, 99.9, 99.99):
        if -math.log10(1 - part / 100) <= rarest:
            at = point(part, 10 ** low).split(",")[0]
            parts.append(f'<line x1="{at}" x2="{at}" y1="10" y2="{bottom}" stroke="var(--rule)"/>'
                         f'<text class="soft" x="{at}" y="{bottom + 16}" text-anchor="middle">{part} %</text>')
    for exponent, digit in itertools.product(range(math.floor(low), math.ceil(high) + 1), (1, 2, 5)):
        value = digit * 10 ** exponent
        if low <= math.log10(value) <= high:
            at = point(0, value).split(",")[1]
            parts.append(f'<line x1="60" x2="{WIDTH - 160}" y1="{at}" y2="{at}" stroke="var(--rule)"/>'
                         f'<text class="soft" x="54" y="{float(at) + 4}" text-anchor="end">{number(value)} µs</text>')
    for index, row in enumerate(rows):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(point(*pair) for pair in row["distribution"])
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{WIDTH - 150}" y="{20 + 18 * index}" style="fill:{colour}">{html.escape(row["peer"])}</text>')
    return "".join(parts) + "</svg>"


def table(rows):
    parts = ["<table><tr><th>peer<th>median<th>spread<th>ratio<th>of the pairs<th>to<th>beyond noise</tr>"]
    for row in rows:
        pair, values = row.get("ratios"), row["values"]
        cells = [html.escape(row["peer"]), number(row["median"]), f"{number(min(values))}–{number(max(values))}"]
        cells += [f"{statistics.median(pair):.2f}", f"{min(pair):.2f}–{max(pair):.2f}", row["to"],
                  row["verdict"]] if pair else [""] * 4
        parts.append("<tr><td>" + cells[0] + "".join(f"<td class=n>{cell}" for cell in cells[1:]) + "</tr>")
    return "".join(parts) + "</table>"


def gates(rows):
    parts = ["<h2>What noise cannot move</h2><table><tr><th>path<th>figure<th>now<th>baseline</tr>"]
    for row in rows:
        baseline = "none" if row["baseline"] is None else number(row["baseline"])
        parts.append(f"<tr><td>{html.escape(row['point'])}<td>{row['figure']}<td class=n>{number(row['median'])}"
                     f"<td class=n>{baseline}</tr>")
    return "".join(parts) + "</table>"


def render(head, rows, peers):
    """`head` is what the run was, `peers` each peer's title by its name."""
    facts = {**head["host"], **{f"sender's {key}": value for key, value in head.get("sender", {}).items()}}
    parts = ['<!doctype html><html lang="en"><meta charset="utf-8"><title>shuck: tools/bench</title>',
             f"<style>{STYLE}</style><h1>shuck against its peers</h1><p><code>{html.escape(head['command'])}</code></p><table>"]
    parts += [f"<tr><th>{key.replace('_', ' ')}<td>{html.escape(str(value))}</tr>" for key, value in facts.items()]
    parts.append("</table><p>All peers in turn in each round, and the first one twice: a ratio is that of one round, and a "
                 "difference is called when all pairs point the same way and the median lies beyond what the first peer "
                 "differs from itself. Absolute numbers mean nothing on another host.</p><table>")
    parts += [f"<tr><th>{html.escape(name)}<td>{html.escape(title)}</tr>" for name, title in peers.items()]
    parts.append("</table>" + "".join(f"<p class=soft>{html.escape(note)}</p>" for note in head["notes"]))
    timed = [row for row in rows if row["case"] != "gates"]
    for point, of_point in itertools.groupby(timed, key=lambda row: row["point"]):
        parts.append(f"<h2>{html.escape(point)}</h2>")
        for figure, group in itertools.groupby(list(of_point), key=lambda row: row["figure"]):
            group = list(group)
            unit, more = cases.FIGURES[figure]
            parts.append(f"<h3>{figure.replace('_', ' ')} <span class=soft>{unit}, {'more' if more else 'less'} is better"
                         f"</span></h3>{dots(group)}{table(group)}")
            shaped = [row for row in group if row.get("distribution")]
            if shaped:
                parts.append(curves(shaped))
    if len(timed) < len(rows):
        parts.append(gates([row for row in rows if row["case"] == "gates"]))
    return "".join(parts) + "</html>\n"
