#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own tests of networks, by the list that says of each what becomes of it: see hack/cluster.

  integration/cluster/e2e.py LIST check           nothing is run
  integration/cluster/e2e.py LIST run DIR FAMILY MODE PROXY [FOCUS]

LIST is docs/e2e.md. DIR is that of hack/cluster, which is up, FAMILY, MODE and PROXY are the cluster's, FOCUS is a
regular expression of names. Tests that want the cluster for themselves come last, the others at the same time in
STREAMS processes (3). It fails if a test of the suite is not in the list or in it twice, if the list names one that
the suite has not, and if one that is to be run does not pass: one that skips itself belongs to those left out.
"""
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

PROGRAMS = os.environ["MANX_TEST_KUBERNETES"]
SUITE = "Kubernetes e2e suite"
OURS = r"\[sig-network\]"
NODES = 3
STREAMS = int(os.environ.get("STREAMS", "3"))
# Headings of those that are run, and what a cluster has that runs them.
RUN = {
    "Run": {},
    "Run alone": {},
    "Run where the cluster has both families": {"family": "dual"},
    "Run where packets go directly": {"mode": "direct"},
    "Run where kube-proxy writes rules of iptables": {"proxy": "iptables"},
}


def fail(words):
    print(f"e2e: {words}", file=sys.stderr)
    sys.exit(1)


def results(directory):
    """Of each test that ran, its name and what came of it."""
    of = {}
    for case in xml.etree.ElementTree.parse(f"{directory}/junit_01.xml").iter("testcase"):
        name = case.get("name")
        # Those that the focus leaves out are skipped too, and say no more.
        skipped = case.find("skipped")
        if name.startswith("[It] ") and (skipped is None or skipped.get("message") != "skipped"):
            why = "" if skipped is None else skipped.get("message")
            of[name.removeprefix("[It] ")] = f"{case.get('status')} {why}".strip()
    return of


def suite():
    """The names of all tests of networks that there are."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [f"{PROGRAMS}/e2e.test", "--ginkgo.dry-run", "--provider=local", "--kubeconfig=/dev/null",
             f"--report-dir={directory}", f"--ginkgo.focus={OURS}"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return set(results(directory))


def read(path):
    """The names below each heading."""
    parts, twice = {}, []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("## "):
                names = parts.setdefault(line[3:].strip(), [])
            elif line.startswith("- `"):
                name = line.split("`")[1]
                if any(name in other for other in parts.values()):
                    twice.append(name)
                names.append(name)
    return parts, twice


def check(path):
    parts, twice = read(path)
    listed, have = {name for names in parts.values() for name in names}, suite()
    odd = [heading for heading in parts if heading not in RUN and not heading.startswith("Left out: ")]
    said = [("is in neither of its parts", have - listed), ("is no test of the suite", listed - have),
            ("is in it twice", twice), ("is a heading that nobody knows", odd)]
    lines = [f"{path}: {name} {words}" for words, names in said for name in sorted(names)]
    if lines:
        fail("\n".join(lines))
    return parts


def start(number, names, directory):
    """A process for these."""
    admin, report = f"{directory}/admin.conf", f"{directory}/report-{number}"
    # What a regular expression means something by, and a space is none.
    focus = "|".join(re.escape(name).replace("\\ ", " ") for name in names)
    with open(f"{directory}/e2e-{number}", "w", encoding="utf-8") as log:
        return report, subprocess.Popen(
            ["hack/cluster", "enter", "control", "env", "-C", directory, f"{PROGRAMS}/e2e.test",
             f"--kubeconfig={admin}", "--provider=local", f"--kubectl-path={PROGRAMS}/kubectl",
             f"--num-nodes={NODES}", "--allowed-not-ready-nodes=0", f"--repo-root={directory}", f"--report-dir={report}",
             "--dump-logs-on-failure=false", "--disable-log-dump", f"--ginkgo.focus=^{SUITE} ({focus})$",
             "--ginkgo.no-color", "--ginkgo.timeout=60m"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def run(path, directory, family, mode, proxy, focus=""):
    parts, streams, of = check(path), [], {}
    cluster = {"family": family, "mode": mode, "proxy": proxy}
    chosen = {heading: [name for name in parts.get(heading, []) if re.search(focus, name)]
              for heading, wants in RUN.items() if wants.items() <= cluster.items()}
    alone = chosen.pop("Run alone")
    together = sorted(name for names in chosen.values() for name in names)
    for turn in ([together[number::STREAMS] for number in range(STREAMS)], [alone]):
        started = [start(len(streams) + number, names, directory) for number, names in enumerate(turn) if names]
        for report, process in started:
            process.wait()
            if os.path.exists(f"{report}/junit_01.xml"):
                of.update(results(report))
        streams += started
    names = together + alone
    missed = [(name, of.get(name, "not run")) for name in names if of.get(name) != "passed"]
    for name, became in missed:
        print(f"FAILED {name}: {became}")
    total = sum(map(len, parts.values()))
    left_out = sum(len(names) for heading, names in parts.items() if heading not in RUN)
    conformance = [name for name in names if "[Conformance]" in name]
    passed = sum(of.get(name) == "passed" for name in conformance)
    print(f"{len(names) - len(missed)} of {len(names)} tests passed, of conformance {passed} of "
          f"{len(conformance)}; of {total} that there are {left_out} are left out, each with its reason in {path}")
    if missed or not names:
        fail(f"what they said is in {directory}/e2e-*")


LIST, verb = sys.argv[1:3]
{"check": check, "run": run}[verb](LIST, *sys.argv[3:])
