#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a pod and a node do while parts of the cluster are away, until the file STOP is there.

  integration/cluster/traffic.py STOP serve PORT          in a pod: sends back what comes
  integration/cluster/traffic.py STOP talk ADDRESS PORT   in a pod: a block of bytes by one TCP connection and a
                                                          ping, every 10 ms each
  integration/cluster/traffic.py STOP pods NETWORK ADDRESS...
                                                          on a node: ADD, a ping of each address from the new pod,
                                                          DEL, again and again

Each says at its end what it counted, as a line of words; it fails if anything was lost or refused, or took longer
than MANX_TRAFFIC_LATE seconds (1).

What TCP lost is what one end sent and the other did not get: both count the segments of the connection. A
segment that is sent again although it had arrived, for its acknowledgment was late, is not a lost one. The
port after PORT answers with what the server's end has counted.

`pods` writes into the file STOP.count how many pods there were. Where there is a file STOP.kill with a verb, ADD or
DEL, and the number of a process, that is killed while the plugin executes the verb, and the file is removed.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

INTERVAL = 0.01
BLOCK = 4096
PATIENCE = 60
# How long an answer to a ping is waited for, and how much longer than at once anything may take.
ANSWER = 5
LATE = float(os.environ.get("MANX_TRAFFIC_LATE", "1"))


def fail(words):
    print(words, flush=True)
    sys.exit(1)


def going_on():
    return not os.path.exists(STOP)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def counts(connection):
    """Of a connection's end: the segments that it sent, those that it got, those that it sent again."""
    # struct tcp_info of linux/tcp.h
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return [*struct.unpack_from("=2I", info, 136), *struct.unpack_from("=I", info, 100)]


def echo(connection, ends):
    port = str(connection.getpeername()[1])
    ends[port] = connection
    try:
        while data := connection.recv(1 << 16):
            connection.sendall(data)
    except ConnectionError:
        # The other end says what it misses.
        pass
    del ends[port]
    connection.close()


def listen(port):
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def serve(port):
    talked, asked, ends = listen(int(port)), listen(int(port) + 1), {}

    def answer():
        while True:
            connection, _ = asked.accept()
            told = {name: counts(end) for name, end in list(ends.items())}
            connection.sendall(json.dumps(told).encode())
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    while True:
        connection, _ = talked.accept()
        threading.Thread(target=echo, args=(connection, ends), daemon=True).start()


class Ends:
    """Both ends of a connection, of which nothing is on its way when they are read."""

    def __init__(self, connection, address, port):
        self.connection, self.there = connection, (address, port + 1)
        self.name = str(connection.getsockname()[1])
        self.begin = self.read()

    def far(self):
        with socket.create_connection(self.there, timeout=PATIENCE) as asked:
            text = b"".join(iter(lambda: asked.recv(1 << 16), b""))
        return json.loads(text).get(self.name)

    def read(self):
        """When acknowledgments that are held back have been sent too."""
        deadline, before = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline:
            now = (counts(self.connection), self.far())
            if now[1] and now == before:
                return now
            before = now
            time.sleep(0.5)
        return fail(f"the connection does not come to rest: {before}")

    def since(self):
        """How many segments were sent, how many of these were lost, how many were sent again."""
        (near, far), (near_before, far_before) = self.read(), self.begin
        (out, into, again), (far_out, far_into, far_again) = (
            [now - before for now, before in zip(*end)] for end in ((near, near_before), (far, far_before)))
        return out + far_out, (out - far_into, far_out - into), again + far_again


def hear(connection, heard):
    """Everything comes back, in order: the longest time without a byte, in seconds."""
    last = time.monotonic()
    try:
        while data := connection.recv(1 << 16):
            now = time.monotonic()
            heard["longest"], last = max(heard["longest"], now - last), now
            for at in range(-heard["bytes"] % BLOCK, len(data), BLOCK):
                if data[at] != (heard["bytes"] + at) // BLOCK % 251:
                    heard["wrong"] = f"byte {heard['bytes'] + at} is not what was sent"
            heard["bytes"] += len(data)
    except OSError as error:
        heard["wrong"] = str(error)


class Ping:
    """One that goes on."""

    def __init__(self, address):
        # With the time of each answer.
        self.process = subprocess.Popen(["ping", "-n", "-D", "-i", str(INTERVAL), address],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.begin, self.number, self.sent, self.said = time.time(), 0, None, ""
        self.answered, self.moments, self.slowest = set(), [], 0.0
        self.readers = [threading.Thread(target=read) for read in (self.read, self.read_errors)]
        for reader in self.readers:
            reader.start()

    def read(self):
        for line in self.process.stdout:
            if found := re.search(r"^\[([0-9.]+)\] .*icmp_seq=(\d+) .*time=([0-9.]+)", line):
                # The number has 16 bits.
                self.number += (int(found[2]) - self.number + 32768) % 65536 - 32768
                self.answered.add(self.number)
                self.moments.append(float(found[1]))
                self.slowest = max(self.slowest, float(found[3]))

    def read_errors(self):
        for line in self.process.stderr:
            if found := re.search(r"\d+/(\d+) packets", line):
                self.sent = int(found[1])
            else:
                self.said = line.strip()

    def end(self):
        """How many answers came, how many did not, the longest time of one and the longest without one."""
        end = time.time()
        # It says how many it has sent, and goes on.
        self.process.send_signal(signal.SIGQUIT)
        # What is still on its way is not lost.
        while self.process.poll() is None and self.missing() != 0 and time.time() < end + ANSWER:
            time.sleep(INTERVAL)
        self.process.send_signal(signal.SIGINT)
        for reader in self.readers:
            reader.join()
        if self.sent is None:
            fail(f"ping has ended before: {self.said}")
        moments = sorted([self.begin, *(moment for moment in self.moments if moment < end), end])
        longest = max(after - before for before, after in zip(moments, moments[1:]))
        return self.sent - self.missing(), self.missing(), self.slowest / 1000, longest

    def missing(self):
        """How many of those that it says it has sent are not answered; None if it has not said anything."""
        if self.sent is None:
            return None
        return self.sent - sum(number <= self.sent for number in self.answered.copy())


def talk(address, port):
    connection = socket.create_connection((address, int(port)), timeout=PATIENCE)
    ends, sent = Ends(connection, address, int(port)), 0
    ping, heard = Ping(address), {"bytes": 0, "longest": 0.0, "wrong": ""}
    listener = threading.Thread(target=hear, args=(connection, heard), daemon=True)
    listener.start()
    try:
        while going_on() and not heard["wrong"]:
            connection.sendall(bytes([sent % 251]) * BLOCK)
            sent += 1
            time.sleep(INTERVAL)
    except OSError as error:
        heard["wrong"] = str(error)
    answers, unanswered, slowest, pause = ping.end()
    deadline = time.monotonic() + PATIENCE
    while heard["bytes"] < sent * BLOCK and not heard["wrong"] and time.monotonic() < deadline:
        time.sleep(INTERVAL)
    if heard["bytes"] != sent * BLOCK or heard["wrong"]:
        fail(f"TCP of {address}: {heard['bytes']} of {sent * BLOCK} bytes came back. {heard['wrong']}")
    segments, lost, again = ends.since()
    words = (f"{address}: {answers} answers to pings, {unanswered} lost, the slowest after {slowest * 1000:.0f} ms, "
             f"{pause * 1000:.0f} ms at most without one; TCP: {heard['bytes']} bytes came back, of {segments} "
             f"segments {lost[0]} were lost on the way there and {lost[1]} on the way back, {again} sent again, the longest silence {heard['longest'] * 1000:.0f} ms")
    if unanswered or any(lost):
        fail(words)
    if max(slowest, pause, heard["longest"]) > LATE:
        fail(f"{words}: more than {LATE:g} s")
    print(words, flush=True)
    connection.close()


def is_plugin_running(runtime):
    """As a child of this process. Somebody else may execute it meanwhile."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                # PID (NAME) STATE PARENT
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            # It has just ended.
            continue
        if name == "manx" and int(rest.split()[1]) == runtime:
            return True
    return False


def execute(which, network, space):
    """A verb, during which a process is killed where that is asked for."""
    process = subprocess.Popen(["cnitool", which, network, space], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        with open(f"{STOP}.kill", encoding="ascii") as file:
            when, victim = file.read().split()
    except FileNotFoundError:
        when = None
    while when == which and process.poll() is None:
        if is_plugin_running(process.pid):
            os.kill(int(victim), signal.SIGKILL)
            os.remove(f"{STOP}.kill")
            break
    text, _ = process.communicate()
    if process.returncode:
        fail(f"{which} of {space} failed: {text}")


def pods(network, *addresses):
    count, slowest = 0, {"add": 0.0, "del": 0.0, "ping": 0.0}
    while going_on():
        name = f"outage-{count}"
        space = f"/run/netns/{name}"

        def verb(which):
            begin = time.monotonic()
            execute(which, network, space)
            slowest[which] = max(slowest[which], time.monotonic() - begin)

        run("ip", "netns", "add", name)
        verb("add")
        for address in addresses:
            # The first packet has to be answered; with -w another one would do.
            ping = run("ip", "netns", "exec", name, "ping", "-n", "-c", "1", "-W", str(ANSWER), address)
            found = re.search(r"time=([0-9.]+)", ping.stdout)
            if ping.returncode or not found:
                fail(f"after {count} pods the new one gets no answer of {address}: {ping.stdout}")
            slowest["ping"] = max(slowest["ping"], float(found[1]) / 1000)
            if slowest["ping"] > LATE:
                fail(f"after {count} pods {address} answers the new one after {slowest['ping']:.1f} s")
        verb("del")
        run("ip", "netns", "del", name)
        count += 1
        with open(f"{STOP}.count", "w", encoding="ascii") as file:
            file.write(f"{count}\n")
    print(f"pods: {count} were added, reached {' and '.join(addresses)} by their first packet, the slowest in "
          f"{slowest['ping'] * 1000:.0f} ms, and were deleted; the slowest ADD took "
          f"{slowest['add'] * 1000:.0f} ms, DEL {slowest['del'] * 1000:.0f} ms, cnitool and portmap included")


STOP = sys.argv[1]
{"serve": serve, "talk": talk, "pods": pods}[sys.argv[2]](*sys.argv[3:])
