#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws README's two charts from what hack/bench measured.

  integration/docs/charts.py REPORT DIR

REPORT is results/report.json. It writes DIR/attach-light.svg, DIR/attach-dark.svg (how long an ADD takes beside other
plugins) and DIR/tunnel-light.svg, DIR/tunnel-dark.svg (what a tunnel costs, and what one with a wrong MTU does). The
same report gives the same bytes; a test compares them with those in docs/.
"""
import json
import math
import sys
from pathlib import Path

WIDTH, LEFT, RIGHT = 800, 190, 716
BAR, STEP = 16, 20
PALETTES = {
    "light": {"back": "#ffffff", "text": "#1f2328", "muted": "#57606a", "line": "#d0d7de",
              "bars": ["#0969da", "#8c959f", "#bf8700", "#bc4c00"]},
    "dark": {"back": "#0d1117", "text": "#e6edf3", "muted": "#9198a1", "line": "#30363d",
             "bars": ["#58a6ff", "#8b949e", "#d29922", "#f0883e"]},
}
# Names in the chart and in the report, in the order in which README has them.
PLUGINS = [
    ("manx", "manx + manx-ipam"),
    ("ptp + host-local", "ptp + host-local"),
    ("bridge + host-local", "bridge + host-local"),
    ("flannel", "flannel (bridge, host-local)"),
]
# What is asked of an ADD: dual stack, masquerade.
SETTINGS = [("IPv4", False, False), ("IPv4, masquerade", False, True), ("IPv4 and IPv6", True, False)]
# How the packets go, in the report's words.
WAYS = [("no tunnel", "direct", "Right"), ("VXLAN, MTU 1450", "vxlan", "Right"),
        ("VXLAN, MTU left at 1500", "vxlan", "TunnelTooLarge")]


def figure(value):
    """Two digits that count, but all of those before the point, as README has them."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def p50(report, subject, dual_stack, masquerade):
    """The median of an ADD in milliseconds, one pod after another; None if it was not measured."""
    for row in report["attach"]:
        setting = row["setting"]
        if (row["subject"] == subject and row["at_once"] == 1 and not row["crowded"]
                and setting["dual_stack"] == dual_stack and setting["masquerade"] == masquerade):
            return row["add"]["p50_ms"]
    return None


class Chart:
    """Rows of bars on one axis."""

    def __init__(self, colours, title, note):
        self.colours, self.title, self.parts, self.y = colours, title, [], 58
        self.text(12, 24, title, "b")
        self.text(12, 43, note, "s", "muted")

    def text(self, x, y, words, kind="t", colour="text", anchor="start"):
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" fill="{self.colours[colour]}" text-anchor="{anchor}">{words}</text>'
        )

    def bar(self, name, length, words, colour):
        """One bar of so many pixels, and what stands behind it."""
        self.text(LEFT - 8, self.y + 13, name, anchor="end")
        fill = self.colours["bars"][colour]
        self.parts.append(f'<rect x="{LEFT}" y="{self.y}" width="{length:.1f}" height="{BAR}" fill="{fill}"/>')
        self.text(LEFT + length + 6, self.y + 13, words)
        self.y += STEP

    def heading(self, words):
        self.text(12, self.y + 13, words, "b")
        self.y += STEP

    def axis(self, ticks):
        """Lines behind the bars: where, and what they are called."""
        lines = []
        for x, words in ticks:
            lines.append(f'<path d="M{x:.1f} 54V{self.y}" stroke="{self.colours["line"]}"/>')
            self.text(round(x, 1), self.y + 14, words, "s", "muted", "middle")
        self.parts = lines + self.parts
        self.y += 22

    def document(self):
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y}" width="{WIDTH}" height="{self.y}" '
            f'role="img" aria-label="{self.title}">\n'
            "<style>text{font:13px system-ui,sans-serif}.b{font-weight:600}.s{font-size:12px}</style>\n"
            f'<rect width="{WIDTH}" height="{self.y}" fill="{self.colours["back"]}"/>'
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"


def attach(report, colours):
    chart = Chart(colours, "How long an ADD takes",
                  "Multiples of a program that makes the kernel's requests and does nothing else; each line is ten times as much")
    ends = 3.5
    place = lambda multiple: max(math.log10(multiple), 0.02) / ends * (RIGHT - LEFT)
    for setting, dual_stack, masquerade in SETTINGS:
        chart.heading(setting)
        # The floor does not masquerade, and not every report has it beside those that do.
        floor = p50(report, "floor", dual_stack, masquerade) or p50(report, "floor", dual_stack, False)
        for colour, (name, subject) in enumerate(PLUGINS):
            multiple = p50(report, subject, dual_stack, masquerade) / floor
            chart.bar(name, place(multiple), figure(multiple), colour)
        chart.y += 6
    chart.axis([(LEFT + place(10**power) if power else LEFT, f"{10**power:,}") for power in range(4)])
    return chart.document()


def tunnel(report, colours):
    chart = Chart(colours, "What a tunnel costs, and what a wrong MTU does",
                  "One TCP stream between pods of two nodes, as a share of what passes without a tunnel")
    rows = []
    for name, mode, mtu in WAYS:
        found = [row for row in report["overlay"] if (row["mode"], row["mtu"], row["underlay_mtu"], row["offload"])
                 == (mode, mtu, 1500, True)]
        rows.append((name, found[0]["one_stream"]["gbit_per_second"]))
    for name, speed in rows:
        share = speed / rows[0][1]
        chart.bar(name, share * (RIGHT - LEFT), f"{share * 100:.0f} %", 0)
    chart.axis([(LEFT + part * (RIGHT - LEFT) / 4, f"{part * 25} %") for part in range(5)])
    return chart.document()


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: integration/docs/charts.py REPORT DIR")
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for chart in (attach, tunnel):
        for name, colours in PALETTES.items():
            path = Path(sys.argv[2]) / f"{chart.__name__}-{name}.svg"
            path.write_text(chart(report, colours), encoding="utf-8")


if __name__ == "__main__":
    main()
