#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an agent costs in a cluster of many nodes, and how soon it serves a new one: see hack/bench-agent.

  integration/bench/agent.py DIR OUT COUNT,... SECONDS [NAME=PROGRAM ...]

It is process 1 of network, mount and PID namespaces of its own. DIR is for the API server's files, OUT is
where the results go. NAME is manx, flannel or kube-router. Only the API server and one node with one agent
at a time are real; all other nodes are objects, as large as a kubelet's, whose status changes as often as
kubelets would change it.
"""
import http.client
import json
import os
import queue
import random
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time

from agent_report import HEARTBEATS, JOINS, LARGE, QUIET_PERCENT, check, impossible, render

DIRECTORY, OUT = sys.argv[1:3]
COUNTS = [int(count) for count in sys.argv[3].split(",")]
SECONDS = int(sys.argv[4])
PROGRAMS = dict(argument.split("=", 1) for argument in sys.argv[5:])
API, OWN = "172.16.0.1", 1
# How long to wait for others to end, in all.
PATIENCE = 120


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def name(number):
    return f"node-{number:04}"


def address(number):
    return f"172.16.{1 + number // 250}.{1 + number % 250}"


def pods(number):
    return f"10.{128 + number // 256}.{number % 256}.0/24"


def conditions():
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    kinds = [("MemoryPressure", "False", "KubeletHasSufficientMemory"), ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
             ("PIDPressure", "False", "KubeletHasSufficientPID"), ("Ready", "True", "KubeletReady")]
    return [{"type": kind, "status": status, "reason": reason, "message": "kubelet tells of it in a sentence",
             "lastHeartbeatTime": now, "lastTransitionTime": "2026-11-27T00:00:00Z"}
            for kind, status, reason in kinds]


def node(number):
    """As a kubelet registers it: some nine thousand bytes, with what flannel has to find there."""
    ip = address(number)
    mac = f"66:00:00:00:{number // 256:02x}:{number % 256:02x}"
    labels = {f"topology.example.org/label-{key}": f"value-{key}" for key in range(12)}
    annotations = {f"example.org/annotation-{key}": "some words of no weight at all here" for key in range(4)}
    annotations.update({
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": json.dumps({"VNI": 1, "VtepMAC": mac}),
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/public-ip": ip})
    images = [{"names": [f"registry.example.org/group/image-{key}@sha256:{key:064x}",
                         f"registry.example.org/group/image-{key}:v1.{key}.0"], "sizeBytes": 10 ** 7 + key}
              for key in range(36)]
    resources = {"cpu": "16", "memory": "65536000Ki", "pods": "110", "ephemeral-storage": "100Gi"}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name(number), "labels": labels, "annotations": annotations},
        "spec": {"podCIDR": pods(number), "podCIDRs": [pods(number)]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name(number)}],
            "capacity": resources, "allocatable": resources, "conditions": conditions(), "images": images,
            "nodeInfo": {key: f"{key} of this node" for key in (
                "architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion",
                "kubeletVersion", "machineID", "operatingSystem", "osImage", "systemUUID")}}}


class Server:
    """The API server, in which nodes come, change and go."""

    def __init__(self, streams):
        options = "" if streams else "--feature-gates=WatchList=false"
        self.process = subprocess.Popen(
            ["hack/cluster-control", DIRECTORY, API], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "API_OPTIONS": options})
        if self.process.stdout.readline() != "ready\n":
            sys.exit("bench-agent: no API server; see above")
        self.context = ssl.create_default_context(cafile=f"{DIRECTORY}/pki/ca.crt")
        self.context.load_cert_chain(f"{DIRECTORY}/pki/admin.crt", f"{DIRECTORY}/pki/admin.key")
        self.local = threading.local()

    def ask(self, method, path, body=None, kind="application/json"):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPSConnection(API, 6443, context=self.context, timeout=60)
        self.local.connection.request(method, path, body and json.dumps(body), {"Content-Type": kind})
        answer = self.local.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"bench-agent: {method} {path}: {answer.status} {text[:500]}")
        return text

    def hang_up(self):
        """The next question has a connection of its own: the server ends one that asks nothing for long."""
        vars(self.local).pop("connection", None)

    def create(self, numbers):
        work = queue.SimpleQueue()
        for number in numbers:
            work.put(number)

        def make():
            while True:
                try:
                    self.ask("POST", "/api/v1/nodes", node(work.get_nowait()))
                except queue.Empty:
                    return

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def count(self):
        listed = json.loads(self.ask("GET", "/api/v1/nodes?limit=1"))
        return len(listed["items"]) + listed["metadata"].get("remainingItemCount", 0)

    def delete(self, number):
        self.ask("DELETE", f"/api/v1/nodes/{name(number)}")

    def beat(self, number):
        self.ask("PATCH", f"/api/v1/nodes/{name(number)}/status", {"status": {"conditions": conditions()}},
                 "application/strategic-merge-patch+json")

    def end(self):
        self.process.terminate()
        self.process.wait()


class Node:
    """The node with an agent, in a network namespace of its own."""

    def __init__(self):
        run("ip", "netns", "add", "agent")
        run("ip", "link", "add", "agent", "type", "veth", "peer", "name", "eth0", "netns", "agent")
        run("ip", "link", "set", "agent", "master", "wire", "up")
        for command in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
                        ["address", "add", f"{address(OWN)}/12", "dev", "eth0"]):
            run("ip", "-n", "agent", *command)
        self.seen, self.parts = {}, threading.Condition()
        self.monitor = subprocess.Popen(["ip", "-4", "-n", "agent", "-o", "monitor", "route"],
                                        stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        for line in self.monitor.stdout:
            now = time.monotonic()
            found = re.match(r"(Deleted )?(?:blackhole )?(10\.\d+\.\d+\.0/24)", line)
            if found:
                with self.parts:
                    if found[1]:
                        self.seen.pop(found[2], None)
                    else:
                        self.seen.setdefault(found[2], now)
                    self.parts.notify_all()

    def routes(self):
        """How many nodes it has routes to."""
        return len(re.findall(r"(?m)^10\.\S+/24 via", run("ip", "-4", "-n", "agent", "route")))

    def wait(self, prefix, seconds):
        with self.parts:
            return self.parts.wait_for(lambda: prefix in self.seen, seconds) and self.seen[prefix]

    def end(self):
        self.monitor.kill()
        self.monitor.wait()
        run("ip", "netns", "del", "agent")
        subprocess.run(["ip", "link", "del", "agent"], check=False, capture_output=True)


def manx(mode):
    # It knows of no node from before.
    shutil.rmtree("/run/node", ignore_errors=True)
    os.makedirs("/run/node/run/manx")
    # As who installs the plugin notes it: what the peers file may have.
    with open("/run/node/run/manx/plugin.json", "w", encoding="ascii") as file:
        json.dump({"version": "0.1.1", "schemas": {"peers": 2}}, file)
    with open("/run/node/agent.json", "w", encoding="ascii") as file:
        json.dump({"fabric": {"mode": mode}}, file)
    return ["--config=/run/node/agent.json", "--root=/run/node", f"--node={name(OWN)}",
            f"--kubeconfig={DIRECTORY}/admin.conf"]


def flannel():
    os.makedirs("/run/flannel", exist_ok=True)
    with open("/run/flannel/net-conf.json", "w", encoding="ascii") as file:
        json.dump({"Network": "10.128.0.0/9", "Backend": {"Type": "vxlan"}}, file)
    return ["--kube-subnet-mgr", f"--kubeconfig-file={DIRECTORY}/admin.conf", "--iface=eth0",
            "--net-config-path=/run/flannel/net-conf.json"]


def router():
    return ["--run-router=true", "--run-firewall=false", "--run-service-proxy=false", "--enable-cni=false",
            f"--kubeconfig={DIRECTORY}/admin.conf", f"--hostname-override={name(OWN)}", "--cache-sync-timeout=2m"]


class Agent:
    """A running agent, and what the kernel says of it."""

    def __init__(self, program, arguments):
        self.log = open(f"{DIRECTORY}/agent.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", "agent", program, *arguments], stdout=self.log, stderr=self.log,
            env={**os.environ, "NODE_NAME": name(OWN)})

    def memory(self, key):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(rf"{key}:\s+(\d+) kB", file.read())[1]) / 1024

    def seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def said(self):
        with open(f"{DIRECTORY}/agent.log", encoding="utf-8") as file:
            return file.read()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Heart:
    """Heartbeats of the nodes, evenly."""

    def __init__(self, server, count):
        self.server, self.count, self.stop = server, count, threading.Event()
        self.beats, self.begin = 0, time.monotonic()
        self.thread = threading.Thread(target=self.go_on, daemon=True)
        self.thread.start()

    def go_on(self):
        while not self.stop.wait(max(0, self.begin + self.beats / HEARTBEATS - time.monotonic())):
            self.server.beat(random.randrange(2, self.count))
            self.beats += 1

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.beats / (time.monotonic() - self.begin)


class Others:
    """Whoever else is at work on this machine: all processes of ours are in this PID namespace."""

    def __init__(self):
        self.begin = self.spent()

    @staticmethod
    def spent():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, wait, *more = map(int, file.readline().split()[1:9])
        ours = 0
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                    # Its own, and of its children those that it has waited for.
                    ours += sum(map(int, file.read().rsplit(")", 1)[1].split()[11:15]))
            except OSError:
                # It has ended.
                pass
        busy = user + nice + system + sum(more)
        return busy - ours, busy + idle + wait

    def percent(self):
        others, all_time = (now - before for now, before in zip(self.spent(), self.begin))
        return 100 * others / max(1, all_time)


def settle(waited=[0]):
    """Waits for a quiet machine, and goes on in the end."""
    while waited[0] < PATIENCE:
        others = Others()
        time.sleep(2)
        if others.percent() <= QUIET_PERCENT:
            return
        waited[0] += 2
    print("bench-agent: the machine is not quiet", file=sys.stderr, flush=True)


def measure(server, label, count, program, arguments, joins=True):
    settle()
    ground = Node()
    agent = Agent(program, arguments)
    begin = time.monotonic()
    row = {"agent": label, "nodes": count}
    try:
        while joins and ground.routes() < count - 1:
            if agent.process.poll() is not None or time.monotonic() - begin > 180:
                sys.exit(f"bench-agent: {label} has {ground.routes()} routes of {count - 1}: {agent.said()[-2000:]}")
            time.sleep(0.05)
        row["sync_s"] = time.monotonic() - begin if joins else None
        # What follows the first list is part of starting.
        time.sleep(5 if joins else 20)
        if agent.process.poll() is not None:
            sys.exit(f"bench-agent: {label} ended: {agent.said()[-2000:]}")
        row["synced_mib"], row["start_cpu_s"] = agent.memory("VmRSS"), agent.seconds()
        heart, others = Heart(server, count), Others()
        before, begin = agent.seconds(), time.monotonic()
        time.sleep(SECONDS * (LARGE if count > 1000 else 1))
        row["idle_cpu_percent"] = 100 * (agent.seconds() - before) / (time.monotonic() - begin)
        row["idle_mib"] = agent.memory("VmRSS")
        server.hang_up()
        delays = []
        for number in range(count, count + JOINS) if joins else ():
            server.ask("POST", "/api/v1/nodes", node(number))
            done = time.monotonic()
            seen = ground.wait(pods(number), 30)
            if not seen:
                sys.exit(f"bench-agent: {label} made no route to {name(number)}: {agent.said()[-2000:]}")
            # The route may be there before the answer.
            delays.append(max(0.0, seen - done))
            time.sleep(0.1)
        row["heartbeats_per_s"], row["others_percent"] = heart.end(), others.percent()
        have, want = ground.routes(), count - 1 + JOINS
        if joins and have != want:
            sys.exit(f"bench-agent: {label} has {have} routes at its end, and not {want}: {agent.said()[-2000:]}")
        row["join_ms"] = [1000 * delay for delay in sorted(delays)]
        row["high_water_mib"] = agent.memory("VmHWM")
        for number in range(count, count + JOINS) if joins else ():
            server.delete(number)
        if label.startswith("manx") and ("pages" in label) != ("in pages" in agent.said()):
            sys.exit(f"bench-agent: that was not {label}: {agent.said()[-2000:]}")
    finally:
        agent.end()
        ground.end()
    print(json.dumps({key: value for key, value in row.items() if key != "join_ms"}), file=sys.stderr, flush=True)
    return row


def ground():
    run("mount", "--make-rprivate", "/")
    for path in ("/run", "/var/lib"):
        run("mount", "-t", "tmpfs", "tmpfs", path)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "wire", "type", "bridge")
    run("ip", "link", "set", "wire", "up")
    run("ip", "address", "add", f"{API}/12", "dev", "wire")


def measure_all():
    rows = []
    for count in COUNTS:
        server = Server(streams=True)
        have = server.count()
        server.create(range(have, count))
        size = len(server.ask("GET", f"/api/v1/nodes/{name(2)}"))
        rows.append(measure(server, "manx, vxlan", count, PROGRAMS["manx"], manx("vxlan")))
        rows.append(measure(server, "manx, direct", count, PROGRAMS["manx"], manx("direct")))
        if "flannel" in PROGRAMS:
            rows.append(measure(server, "flannel, vxlan", count, PROGRAMS["flannel"], flannel()))
        if "kube-router" in PROGRAMS:
            rows.append(measure(server, "kube-router", count, PROGRAMS["kube-router"], router(), joins=False))
        server.end()
        server = Server(streams=False)
        rows.append(measure(server, "manx, vxlan, list in pages", count, PROGRAMS["manx"], manx("vxlan")))
        server.end()
    return size, rows


def main():
    ground()
    size, rows = measure_all()
    report = {"node_bytes": size, "processors": os.cpu_count(), "kernel": os.uname().release, "seconds": SECONDS,
              "rows": rows}
    if refused := impossible(report):
        sys.exit("bench-agent: this cannot be, and is not kept:\n" + "\n".join(refused))
    text, well = render(report)
    os.makedirs(OUT, exist_ok=True)
    with open(f"{OUT}/agent.md", "w", encoding="utf-8") as file:
        file.write(text)
    with open(f"{OUT}/agent.json", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    check(f"{OUT}/agent")
    print(text)
    sys.exit(0 if well else 1)


main()
