#!/usr/bin/env python3
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

DIRECTORY, OUT = sys.argv[1:3]
COUNTS = [int(count) for count in sys.argv[3].split(",")]
SECONDS = int(sys.argv[4])
PROGRAMS = dict(argument.split("=", 1) for argument in sys.argv[5:])
API, OWN = "172.16.0.1", 1
JOINS = 50
# Of a cluster of 5,000 nodes, each of which tells its status every five minutes.
HEARTBEATS = 17


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
        self.thread = threading.Thread(target=self.go_on)
        self.thread.start()

    def go_on(self):
        while not self.stop.wait(max(0, self.begin + self.beats / HEARTBEATS - time.monotonic())):
            self.server.beat(random.randrange(2, self.count))
            self.beats += 1

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.beats / (time.monotonic() - self.begin)


def measure(server, label, count, program, arguments, joins=True):
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
        heart = Heart(server, count)
        before, begin = agent.seconds(), time.monotonic()
        time.sleep(SECONDS)
        row["idle_cpu_percent"] = 100 * (agent.seconds() - before) / (time.monotonic() - begin)
        row["idle_mib"] = agent.memory("VmRSS")
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
        row["heartbeats_per_s"] = heart.end()
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


def spelled(value, form):
    return "" if value is None else form.format(value)


def table(size, rows):
    lines = [
        "# The agent in a cluster of many nodes", "",
        f"What the last run of hack/bench-agent measured, on {os.cpu_count()} processors, Linux {os.uname().release}, "
        f"with the API server of Kubernetes on the same machine. Nodes are objects of {size} bytes, and "
        f"{HEARTBEATS} of them a second tell their status, as 5,000 kubelets do. Memory is resident, its high-water mark "
        f"that of the whole run; a join is from the API server's answer to whoever made the Node to the route in "
        f"the kernel, one of {JOINS} at a time, the heartbeats going on; idle is {SECONDS} s of heartbeats without "
        f"a join. kube-router learns routes by BGP of others, of whom there are none here: it is alone in its "
        f"memory and processor time.", "",
        "| nodes | agent | first sync | memory, synced | high-water | idle CPU | join, median | slowest |",
        "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        joins = row["join_ms"] or [None]
        lines.append("| " + " | ".join([
            f"{row['nodes']:,}", row["agent"], spelled(row["sync_s"], "{:.1f} s"),
            f"{row['synced_mib']:.1f} MiB", f"{row['high_water_mib']:.1f} MiB", f"{row['idle_cpu_percent']:.2f} %",
            spelled(joins[len(joins) // 2], "{:.0f} ms"), spelled(joins[-1], "{:.0f} ms")]) + " |")
    return "\n".join(lines) + "\n"


def verdict(rows):
    """The targets, each with whether it is met."""
    limits = {(1000, False): 14, (1000, True): 24, (5000, False): 32, (5000, True): 48}
    said = []
    for row in (row for row in rows if row["agent"].startswith("manx")):
        limit = limits.get((row["nodes"], "pages" in row["agent"]))
        of = f"{row['agent']}, {row['nodes']:,} nodes"
        if limit:
            said.append((row["high_water_mib"] <= limit, f"{of}: at most {limit} MiB"))
        said.append((row["idle_cpu_percent"] < 0.5, f"{of}: under 0.5 % of a processor when idle"))
        if row["nodes"] <= 1000:
            said.append((row["join_ms"][-1] < 1000, f"{of}: the slowest join in under a second"))
    return said


def main():
    ground()
    size, rows = measure_all()
    said = verdict(rows)
    text = table(size, rows) + "\nTargets:\n\n" + "".join(
        f"- {'met' if met else 'MISSED'}: {words}\n" for met, words in said)
    os.makedirs(OUT, exist_ok=True)
    with open(f"{OUT}/agent.md", "w", encoding="utf-8") as file:
        file.write(text)
    with open(f"{OUT}/agent.json", "w", encoding="utf-8") as file:
        json.dump({"node_bytes": size, "rows": rows}, file, indent=1)
        file.write("\n")
    print(text)
    sys.exit(0 if all(met for met, _ in said) else 1)


main()
