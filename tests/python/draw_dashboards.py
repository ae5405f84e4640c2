"""Draws the dashboards as PNG files, from their own queries and a Prometheus' answers, in their own layout.

    python draw_dashboards.py PROMETHEUS_URL SECONDS DASHBOARDS_DIR PICTURES_DIR

Not Grafana: only what these dashboards use of it, drawn alike. `cargo pictures` runs it.
"""

import io
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.dates import DateFormatter
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

PAGE, PANEL, EDGE, TEXT, DIM = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e8e99"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#56a6a6", "#e0b400", "#8ab8ff", "#ffa6b0"]
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
# Pixels of a unit of the grid, between panels, above the first one.
UNIT_W, UNIT_H, GAP, HEAD = 60, 34, 8, 56
DPI = 100
LEGEND_MAX = 8


class Prometheus:
    def __init__(self, url, seconds):
        self.url, self.end = url, time.time()
        self.start, self.seconds = self.end - seconds, seconds

    def ask(self, path, **words):
        query = urllib.parse.urlencode(words)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}") as answer:
            return json.load(answer)["data"]["result"]

    def now(self, expression):
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=expression, time=self.end)]

    def over_time(self, expression):
        step = max(1, self.seconds // 150)
        found = self.ask("query_range", query=expression, start=self.start, end=self.end, step=step)
        times = [self.start + step * at for at in range(int((self.end - self.start) / step) + 1)]
        series = []
        for one in found:
            values = {round((at - self.start) / step): float(value) for at, value in one["values"]}
            series.append((one["metric"], [values.get(at, math.nan) for at in range(len(times))]))
        return times, series


def expression_of(target, dashboard, seconds):
    text = target["expr"].replace("$__rate_interval", "30s").replace("$__range", f"{seconds}s")
    for variable in dashboard["templating"]["list"]:
        text = text.replace("$" + variable["name"], ".*" if variable["multi"] else "web-shop")
    return text


def legend_of(target, metric):
    return re.sub(r"\{\{(\w+)\}\}", lambda found: metric.get(found[1], ""), target["legendFormat"]) or "value"


def shown(value, unit, decimals=None):
    if not math.isfinite(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.{decimals if decimals is not None else 0}f} %"
    if unit == "percent":
        return f"{value:.0f} %"
    if unit == "ms":
        return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"
    suffix = " /s" if unit == "reqps" else ""
    for size, letter in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}{suffix}"
    return (f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}") + suffix


def colour_of(value, defaults, fallback):
    steps = defaults.get("thresholds", {}).get("steps")
    if not steps:
        return fallback
    return NAMED[[step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]]


class Page:
    def __init__(self, dashboard, prometheus):
        self.dashboard, self.prometheus = dashboard, prometheus
        bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
        self.width, self.height = 24 * UNIT_W + GAP, bottom * UNIT_H + HEAD + GAP
        self.figure = plt.figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor=PAGE)
        self.text(GAP * 2, 34, dashboard["title"], size=14, weight="bold")

    def text(self, x, y, words, **style):
        style = {"color": TEXT, "size": 9, "va": "center", **style}
        self.figure.text(x / self.width, 1 - y / self.height, words, **style)

    def axes(self, x, y, width, height):
        place = [x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height]
        return self.figure.add_axes(place, facecolor=PANEL)

    def draw(self):
        for panel in self.dashboard["panels"]:
            at = panel["gridPos"]
            x, y = at["x"] * UNIT_W + GAP, at["y"] * UNIT_H + HEAD
            width, height = at["w"] * UNIT_W - GAP, at["h"] * UNIT_H - GAP
            if panel["type"] == "row":
                self.text(x + 4, y + UNIT_H / 2, "⌄ " + panel["title"], size=11, weight="bold")
                continue
            self.box(x, y, width, height)
            self.text(x + 10, y + 15, panel["title"], size=9, weight="bold")
            getattr(self, panel["type"])(panel, x, y + 28, width, height - 28)

    def box(self, x, y, width, height):
        place = (x / self.width, 1 - (y + height) / self.height)
        box = FancyBboxPatch(place, width / self.width, height / self.height, boxstyle="square,pad=0",
                             transform=self.figure.transFigure, facecolor=PANEL, edgecolor=EDGE, linewidth=0.8, zorder=-1)
        self.figure.patches.append(box)

    def answers(self, panel):
        """What there is now: a legend and a number for each series."""
        found = []
        for target in panel["targets"]:
            expression = expression_of(target, self.dashboard, self.prometheus.seconds)
            found += [(legend_of(target, metric), value) for metric, value in self.prometheus.now(expression)]
        return found

    def stat(self, panel, x, y, width, height):
        defaults = panel["fieldConfig"]["defaults"]
        value = next((value for _, value in self.answers(panel)), math.nan)
        words = shown(value, defaults["unit"], defaults.get("decimals"))
        colour = colour_of(value, defaults, COLOURS[0])
        self.text(x + width / 2, y + height / 2 - 4, words, size=22, ha="center", color=colour)

    def bargauge(self, panel, x, y, width, height):
        defaults = panel["fieldConfig"]["defaults"]
        found = sorted(self.answers(panel), key=lambda one: -one[1])
        greatest = defaults.get("max") or max([value for _, value in found], default=1) or 1
        each = min(46, (height - 8) / max(1, len(found)))
        for at, (legend, value) in enumerate(found):
            top = y + at * each
            self.text(x + 10, top + 8, legend, size=8)
            bar = self.axes(x + 10, top + 17, width - 100, each - 26)
            bar.set(xlim=(0, greatest), ylim=(0, 1), xticks=[], yticks=[], facecolor=EDGE)
            colour = colour_of(value, defaults, COLOURS[at % len(COLOURS)])
            bar.barh(0.5, min(value, greatest), height=1, color=colour)
            for spine in bar.spines.values():
                spine.set_visible(False)
            words = shown(value, defaults["unit"], defaults.get("decimals"))
            self.text(x + width - 12, top + 17 + (each - 26) / 2, words, size=10, ha="right", color=colour)

    def table(self, panel, x, y, width, height):
        defaults, rows, columns = panel["fieldConfig"]["defaults"], {}, []
        for target in panel["targets"]:
            columns.append(target["legendFormat"])
            expression = expression_of(target, self.dashboard, self.prometheus.seconds)
            for metric, value in self.prometheus.now(expression):
                rows.setdefault(tuple(sorted(metric.items())), {})[target["legendFormat"]] = value
        labels = sorted({name for row in rows for name, _ in row})
        decimals = {one["matcher"]["options"]: one["properties"][0]["value"] for one in panel["fieldConfig"]["overrides"]}
        heads = labels + columns
        each = width / len(heads)
        for at, head in enumerate(heads):
            self.text(x + 10 + at * each, y + 8, head, size=8, color=COLOURS[2])
        lines = sorted(rows.items(), key=lambda row: -row[1].get(columns[-1], 0))
        for line, (row, values) in enumerate(lines[: int((height - 24) / 19)]):
            cells = [dict(row).get(label, "") for label in labels]
            cells += [shown(values[column], defaults["unit"], decimals.get(column, defaults.get("decimals")))
                      if column in values else "" for column in columns]
            for at, cell in enumerate(cells):
                self.text(x + 10 + at * each, y + 30 + line * 19, cell, size=8)

    def timeseries(self, panel, x, y, width, height):
        defaults, series, times = panel["fieldConfig"]["defaults"], [], []
        for target in panel["targets"]:
            expression = expression_of(target, self.dashboard, self.prometheus.seconds)
            times, found = self.prometheus.over_time(expression)
            series += [(legend_of(target, metric), values) for metric, values in found]
        known = [(legend, [value for value in values if math.isfinite(value)]) for legend, values in series]
        means = {legend: sum(values) / len(values) for legend, values in known if values}
        series = sorted((one for one in series if one[0] in means), key=lambda one: -means[one[0]])
        columns = 2 if width > 300 else 1
        lines = math.ceil(min(len(series), LEGEND_MAX) / columns)
        plot = self.axes(x + 52, y + 4, width - 64, height - 34 - lines * 14)
        moments = [moment / 86400 for moment in times]
        stacks = defaults["custom"]["stacking"]["mode"] == "normal"
        if stacks and series:
            layers = [[0 if math.isnan(value) else value for value in values] for _, values in series]
            plot.stackplot(moments, layers, colors=COLOURS, alpha=0.35)
            under = [0] * len(moments)
            for at, layer in enumerate(layers):
                under = [one + other for one, other in zip(under, layer)]
                plot.plot(moments, under, color=COLOURS[at % len(COLOURS)], linewidth=1)
        else:
            for at, (_, values) in enumerate(series):
                plot.plot(moments, values, color=COLOURS[at % len(COLOURS)], linewidth=1.1)
        plot.set_xlim(moments[0], moments[-1])
        plot.set_ylim(bottom=0)
        if plot.get_ylim()[1] < 1e-9 or all(max(values, default=0) == 0 for _, values in known):
            plot.set_ylim(0, 1)
        plot.grid(color=EDGE, linewidth=0.6)
        plot.tick_params(colors=DIM, labelsize=7, length=0)
        plot.yaxis.set_major_locator(MaxNLocator(5))
        plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
        plot.xaxis.set_major_locator(MaxNLocator(5))
        plot.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
        for spine in plot.spines.values():
            spine.set_visible(False)
        letters = int(width / columns / 6.2) - 12
        for at, (legend, _) in enumerate(series[:LEGEND_MAX]):
            left = x + 10 + (at % columns) * (width - 12) / columns
            top = y + height - lines * 14 - 6 + (at // columns) * 14
            self.text(left, top, "▬", size=7, color=COLOURS[at % len(COLOURS)])
            words = legend if len(legend) <= letters else legend[: letters - 1] + "…"
            if at == LEGEND_MAX - 1 and len(series) > LEGEND_MAX:
                words = f"and {len(series) - at} more"
            else:
                words += f"   {shown(means[legend], defaults['unit'])}"
            self.text(left + 14, top, words, size=7, color=DIM)


def main(url, seconds, dashboards, pictures):
    plt.rcParams["font.family"] = "DejaVu Sans"
    plt.rcParams["timezone"] = "UTC"
    prometheus = Prometheus(url, int(seconds))
    for file in sorted(pathlib.Path(dashboards).glob("*.json")):
        page = Page(json.loads(file.read_text()), prometheus)
        page.draw()
        drawn = io.BytesIO()
        page.figure.savefig(drawn, facecolor=PAGE)
        plt.close(page.figure)
        # A palette is a third of the bytes, and nobody sees it.
        picture = Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        picture.save(pathlib.Path(pictures) / f"{file.stem}.png", optimize=True)


main(*sys.argv[1:])
