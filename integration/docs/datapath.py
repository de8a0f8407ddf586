#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws README's picture: which objects of two nodes a packet from pod to pod passes, and who makes them.

  integration/docs/datapath.py DIR

writes DIR/datapath-light.svg and DIR/datapath-dark.svg. It goes by nothing but this file, so the same script gives
the same bytes; a test compares them with those in docs/.
"""
import hashlib
import sys
from pathlib import Path

WIDTH, HEIGHT = 800, 462
# A node's box, and what is between both.
NODE, MARGIN = 335, 8
PALETTES = {
    "light": {
        "text": "#1f2328", "muted": "#57606a", "line": "#8c959f", "node": "#f6f8fa", "pod": "#ddf4ff",
        "object": "#ffffff", "packet": "#bc4c00", "control": "#1a7f37",
    },
    "dark": {
        "text": "#e6edf3", "muted": "#9198a1", "line": "#6e7681", "node": "#161b22", "pod": "#0c2d6b",
        "object": "#0d1117", "packet": "#f0883e", "control": "#3fb950",
    },
}
TITLE = "The way of a packet from a pod of one node to a pod of another"
WORDS = (
    "The pod's default route leads over its veth to a host link. The node's route to the other node's pods leads to "
    "the device vxlan.calico, and nftables checks the packet's source and the network policies. It travels through "
    "eth0 as VXLAN, as IP in IP, or plain. On the other node it is unpacked, and the route to the pod's address leads "
    "to its host link. Beside that, on each node: the plugin makes these objects when the container runtime calls it, "
    "by a list of nodes that the agent, or a person, writes."
)


def host_link(namespace, pod):
    """The name that manx, as Calico, gives to a pod's host link."""
    return "cali" + hashlib.sha1(f"{namespace}.{pod}".encode()).hexdigest()[:11]


class Picture:
    """The elements of one picture, in their order."""

    def __init__(self, colours):
        self.colours, self.parts = colours, []

    def add(self, text):
        self.parts.append(text)

    def box(self, x, y, width, height, fill, dashed=False):
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.add(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{self.colours[fill]}" '
            f'stroke="{self.colours["line"]}"{dash}/>'
        )

    def text(self, x, y, words, kind="t", colour="text", anchor="start"):
        self.add(
            f'<text class="{kind}" x="{x}" y="{y}" fill="{self.colours[colour]}" text-anchor="{anchor}">{words}</text>'
        )

    def way(self, points, colour, arrow=True, dashed=False):
        """A line through these points, of which the last one may be an arrow's."""
        path = " ".join(f"{x},{y}" for x, y in points)
        head = f' marker-end="url(#{colour})"' if arrow else ""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.add(
            f'<polyline points="{path}" fill="none" stroke="{self.colours[colour]}" stroke-width="2"{dash}{head}/>'
        )

    def node(self, left, name, address, number, pods, mirrored):
        """One node; mirrored, its uplink is on the left."""
        other = 3 - number
        self.box(left, 8, NODE, 344, "node")
        self.text(left + 12, 28, f"{name}", "b")
        self.text(left + NODE - 12, 28, address, "m", "muted", "end")
        for place, pod in enumerate(pods):
            x = left + 12 + place * 159
            self.box(x, 40, 152, 62, "pod")
            self.text(x + 76, 57, f"pod default/{pod}", "b", anchor="middle")
            self.text(x + 76, 75, f"eth0 10.244.{number}.{place + 2}/32", "m", anchor="middle")
            self.text(x + 76, 92, "via 169.254.1.1", "m", "muted", "middle")
            self.box(x, 128, 152, 26, "object")
            self.text(x + 76, 145, host_link("default", pod), "m", anchor="middle")
            if place:
                self.way([(x + 76, 102), (x + 76, 128)], "line", arrow=False)
        self.text(left + NODE / 2, 119, "veth", "s", "muted", "middle")
        self.box(left + 12, 184, NODE - 24, 100, "object")
        self.text(left + 24, 205, "routes", "b")
        self.text(left + 100, 205, f"10.244.{number}.2 dev {host_link('default', pods[0])}", "m")
        self.text(left + 100, 224, f"10.244.{other}.0/24 dev vxlan.calico", "m")
        self.text(left + 24, 252, "nftables", "b")
        self.text(left + 100, 252, "source check, network policies,")
        self.text(left + 100, 270, "masquerade")
        tunnel, uplink = (left + NODE - 132, left + 12) if mirrored else (left + 12, left + NODE - 102)
        self.box(tunnel, 314, 120, 26, "object")
        self.text(tunnel + 60, 331, "vxlan.calico", "m", anchor="middle")
        self.box(uplink, 314, 90, 26, "object")
        self.text(uplink + 45, 331, "eth0", "m", anchor="middle")

    def packets(self):
        """The way of a packet from the first pod of the left node to the first one of the right node."""
        left, right = MARGIN, WIDTH - MARGIN - NODE
        down = left + 88
        for begin, end in [(102, 128), (154, 184), (284, 314)]:
            self.way([(down, begin), (down, end - 2)], "packet")
        self.way([(left + 132, 327), (left + NODE - 104, 327)], "packet")
        self.way([(left + NODE - 12, 327), (right + 10, 327)], "packet")
        self.way([(right + 102, 327), (right + NODE - 134, 327)], "packet")
        up = right + NODE - 72
        self.way([(up, 314), (up, 286)], "packet")
        up = right + 88
        for begin, end in [(184, 154), (128, 102)]:
            self.way([(up, begin), (up, end + 2)], "packet")
        middle = WIDTH / 2
        self.text(middle, 268, "VXLAN", "b", "packet", "middle")
        self.text(middle, 285, "UDP 4789,", "s", "packet", "middle")
        self.text(middle, 300, "IP in IP", "s", "packet", "middle")
        self.text(middle, 315, "or plain", "s", "packet", "middle")

    def control(self):
        """Who makes all that, on each node."""
        y, height = 396, 34
        self.text(MARGIN, 378, "on each node, beside the way of packets:", "s", "muted")
        boxes = [
            (8, 104, "API server", "t", True),
            (172, 104, "manx-agent", "m", True),
            (336, 104, "peers file", "t", False),
            (500, 64, "manx", "m", False),
            (644, 148, "container runtime", "t", False),
        ]
        for x, width, words, kind, dashed in boxes:
            self.box(x, y, width, height, "object", dashed)
            self.text(x + width / 2, y + 22, words, kind, anchor="middle")
        arrows = [(112, 170, "nodes"), (276, 334, "writes"), (440, 498, "is read"), (644, 566, "ADD, DEL")]
        for begin, end, words in arrows:
            self.way([(begin, y + 17), (end, y + 17)], "control")
            self.text((begin + end) / 2, y + 8, words, "s", "control", "middle")
        self.text(142, 450, "Kubernetes only", "s", "muted", "middle")
        self.text(388, 450, "or you write it", "s", "muted", "middle")
        self.way([(532, y), (532, 356)], "control")
        self.text(540, 378, "makes links, routes, tables", "s", "control")

    def document(self):
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'role="img" aria-labelledby="title words">',
            f'<title id="title">{TITLE}</title>',
            f'<desc id="words">{WORDS}</desc>',
            "<style>text{font:13px system-ui,sans-serif}.b{font-weight:600}.s{font-size:12px}"
            ".m{font:12px ui-monospace,monospace}</style>",
        ]
        for name in ["packet", "control"]:
            head.append(
                f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" '
                f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{self.colours[name]}"/></marker>'
            )
        return "\n".join([*head, *self.parts, "</svg>"]) + "\n"


def draw(colours):
    picture = Picture(colours)
    picture.node(MARGIN, "node-a", "192.0.2.11", 1, ["web", "api"], False)
    picture.node(WIDTH - MARGIN - NODE, "node-b", "192.0.2.12", 2, ["db", "log"], True)
    picture.packets()
    picture.control()
    return picture.document()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: integration/docs/datapath.py DIR")
    for name, colours in PALETTES.items():
        (Path(sys.argv[1]) / f"datapath-{name}.svg").write_text(draw(colours), encoding="utf-8")


if __name__ == "__main__":
    main()
