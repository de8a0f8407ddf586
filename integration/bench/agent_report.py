#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is said of the agent's measurements, and which are refused: see hack/bench-agent.

  integration/bench/agent_report.py REPORT    asserts that REPORT.md is what REPORT.json gives, and that what cannot
                                              be is refused

Knows nothing of how it is measured.
"""
import copy
import json
import sys

JOINS = 50
# Of a cluster of 5,000 nodes, each of which tells its status every five minutes.
HEARTBEATS = 17
# A shorter time would have such a look in it or not, as it happens.
LARGE = 4
# Of the processors' time, what others may use while it is measured.
QUIET_PERCENT = 10
MANX = ("manx, vxlan", "manx, direct", "manx, vxlan, list in pages")


def impossible(report):
    """What cannot be, or was not measured, in words. Such a run says nothing of the agent."""
    said = []
    for count in sorted({row["nodes"] for row in report["rows"]}):
        have = [row["agent"] for row in report["rows"] if row["nodes"] == count]
        said += [f"{name}, {count} nodes: measured {have.count(name)} times" for name in MANX if have.count(name) != 1]
    if not report["rows"] or report["node_bytes"] < 8000:
        said.append(f"nodes of {report['node_bytes']} bytes are none of a kubelet")
    for row in report["rows"]:
        said += [f"{row['agent']}, {row['nodes']} nodes: {words}" for words in impossible_of(row, report["processors"])]
    return said


def impossible_of(row, processors):
    said = []

    def between(key, least, most):
        if not least <= row[key] <= most:
            said.append(f"{key} is {row[key]:.3f}, and can only be from {least:.3f} to {most:.3f}")

    # Memory is counted in pages of 4 KiB, and a program has some.
    between("high_water_mib", 1, 1 << 16)
    # The kernel counts it for each processor, and adds that up now and then.
    most = 1.02 * row["high_water_mib"] + 0.5
    between("synced_mib", 1, most)
    between("idle_mib", 1, most)
    # One tick is the least that is counted; none at all is an agent that hears no heartbeat.
    between("idle_cpu_percent", 0.001, 100 * processors)
    between("heartbeats_per_s", 0.9 * HEARTBEATS, 1.1 * HEARTBEATS)
    between("others_percent", -5, 100)
    if row["join_ms"] or row["agent"].startswith("manx"):
        between("sync_s", 0.01, 180)
        between("start_cpu_s", 0.01, (row["sync_s"] + 6) * processors)
        if len(row["join_ms"]) != JOINS:
            said.append(f"{len(row['join_ms'])} nodes joined, and not {JOINS}")
        elif min(row["join_ms"]) < 0 or max(row["join_ms"]) > 30000 or not any(row["join_ms"]):
            said.append(f"joins took from {min(row['join_ms'])} to {max(row['join_ms'])} ms")
    return said


def spelled(value, form):
    return "" if value is None else form.format(value)


def table(report):
    lines = [
        "# The agent in a cluster of many nodes", "",
        f"What the last run of hack/bench-agent measured, on {report['processors']} processors, Linux "
        f"{report['kernel']}, with the API server of Kubernetes on the same machine. Nodes are objects of "
        f"{report['node_bytes']} bytes, and {HEARTBEATS} of them a second tell their status, as 5,000 kubelets do. "
        f"Memory is resident, its high-water mark that of the whole run; a join is from the API server's answer to "
        f"whoever made the Node to the route in the kernel, one of {JOINS} at a time, the heartbeats going on; idle "
        f"is {report['seconds']} s of heartbeats without a join, and with more than 1,000 nodes {LARGE} times as long: "
        f"so seldom manx looks at everything there. What others did meanwhile is of all processors' time. "
        f"kube-router learns routes by BGP of others, of whom there are none here: it is alone in its memory and "
        f"processor time.", "",
        "| nodes | agent | first sync | memory, synced | high-water | idle CPU | join, median | slowest | others |",
        "|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        joins = row["join_ms"] or [None]
        lines.append("| " + " | ".join([
            f"{row['nodes']:,}", row["agent"], spelled(row["sync_s"], "{:.1f} s"),
            f"{row['synced_mib']:.1f} MiB", f"{row['high_water_mib']:.1f} MiB", f"{row['idle_cpu_percent']:.2f} %",
            spelled(joins[len(joins) // 2], "{:.0f} ms"), spelled(joins[-1], "{:.0f} ms"),
            f"{max(0, row['others_percent']):.0f} %"]) + " |")
    return "\n".join(lines) + "\n"


def verdict(rows):
    """The targets, each with whether it is met, and whether the machine was others' meanwhile."""
    limits = {(1000, False): 14, (1000, True): 24, (5000, False): 32, (5000, True): 48}
    said = []
    for row in (row for row in rows if row["agent"].startswith("manx")):
        limit = limits.get((row["nodes"], "pages" in row["agent"]))
        of, loaded = f"{row['agent']}, {row['nodes']:,} nodes", row["others_percent"] > QUIET_PERCENT
        if limit:
            said.append((row["high_water_mib"] <= limit, loaded, f"{of}: at most {limit} MiB"))
        said.append((row["idle_cpu_percent"] < 0.5, loaded, f"{of}: under 0.5 % of a processor when idle"))
        if row["nodes"] <= 1000:
            said.append((row["join_ms"][-1] < 1000, loaded, f"{of}: the slowest join in under a second"))
    return said


def render(report):
    """The report as a page, and whether all targets are met."""
    said = verdict(report["rows"])
    text = table(report) + "\nTargets:\n\n" + "".join(
        f"- {'met' if met else 'MISSED'}{' on a loaded machine' if loaded else ''}: {words}\n"
        for met, loaded, words in said)
    if any(row["others_percent"] > QUIET_PERCENT for row in report["rows"]):
        text += (f"\nThe machine was not quiet: in some rows others used more than {QUIET_PERCENT} % of the processors. "
                 f"Their times say little, and another run is due.\n")
    return text, all(met for met, _, _ in said)


def check(path):
    """Of a report that is committed, that it is whole, and of spoiled ones, that they are refused."""
    with open(f"{path}.json", encoding="utf-8") as file:
        report = json.load(file)
    with open(f"{path}.md", encoding="utf-8") as file:
        assert file.read() == render(report)[0], f"{path}.md is not what {path}.json gives"
    assert not impossible(report), impossible(report)
    manx = next(number for number, row in enumerate(report["rows"]) if row["agent"] == MANX[0])
    for key, value in {"high_water_mib": 0, "synced_mib": 1e9, "idle_mib": 0.5, "idle_cpu_percent": 0, "sync_s": 0,
                       "heartbeats_per_s": 9, "start_cpu_s": 1e4, "join_ms": [1.0], "others_percent": 101}.items():
        spoiled = copy.deepcopy(report)
        spoiled["rows"][manx][key] = value
        assert impossible(spoiled), f"{key} of {value} is taken"
    spoiled = copy.deepcopy(report)
    spoiled["rows"][manx]["join_ms"][0] = -1.0
    assert impossible(spoiled), "a join that was over before it began is taken"
    del spoiled["rows"][manx]
    assert impossible(spoiled), "a row may be missing"


if __name__ == "__main__":
    check(sys.argv[1])
