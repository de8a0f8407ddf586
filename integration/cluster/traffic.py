#!/usr/bin/env python3
"""What a pod and a node do while parts of the cluster are away, until the file STOP is there.

  integration/cluster/traffic.py STOP serve PORT          in a pod: sends back what comes
  integration/cluster/traffic.py STOP talk ADDRESS PORT   in a pod: a block of bytes by one TCP connection and a
                                                          ping, every 10 ms each
  integration/cluster/traffic.py STOP pods NETWORK ADDRESS
                                                          on a node: ADD, a ping from the new pod, DEL, again
                                                          and again

Each says at its end what it counted, as a line of words; it fails if anything was lost or refused.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

INTERVAL = 0.01
BLOCK = 4096


def fail(words):
    print(words, flush=True)
    sys.exit(1)


def going_on():
    return not os.path.exists(STOP)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def retransmitted():
    with open("/proc/self/net/snmp", encoding="ascii") as file:
        names, values = [line.split() for line in file if line.startswith("Tcp:")]
    return int(values[names.index("RetransSegs")])


def serve(port):
    listener = socket.create_server(("", int(port)))
    connection, _ = listener.accept()
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def hear(connection, heard):
    """Everything comes back, in order: the longest time without a byte, in milliseconds."""
    expected, last, longest = 0, time.monotonic(), 0.0
    while data := connection.recv(1 << 16):
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        for at in range(-expected % BLOCK, len(data), BLOCK):
            if data[at] != (expected + at) // BLOCK % 251:
                heard["wrong"] = f"byte {expected + at} is not what was sent"
                return
        expected += len(data)
    heard.update(bytes=expected, longest=longest)


def talk(address, port):
    before = retransmitted()
    ping = subprocess.Popen(
        ["ping", "-n", "-i", str(INTERVAL), address], stdout=subprocess.PIPE, text=True)
    sequence = []
    reader = threading.Thread(target=lambda: sequence.extend(
        (int(found[1]), float(found[2])) for line in ping.stdout
        if (found := re.search(r"icmp_seq=(\d+) .*time=([0-9.]+)", line))))
    reader.start()
    connection = socket.create_connection((address, int(port)))
    heard = {}
    listener = threading.Thread(target=hear, args=(connection, heard))
    listener.start()
    sent = 0
    while going_on():
        connection.sendall(bytes([sent % 251]) * BLOCK)
        sent += 1
        time.sleep(INTERVAL)
    connection.shutdown(socket.SHUT_WR)
    listener.join(30)
    # What is still on its way at the end is not lost.
    ping.send_signal(signal.SIGINT)
    reader.join()
    numbers = [number for number, _ in sequence]
    # The number has 16 bits.
    lost = sum((b - a) % 65536 - 1 for a, b in zip([0] + numbers, numbers))
    if not numbers:
        fail(f"no answer to any ping of {address}")
    words = (f"ping: {len(numbers)} answers, {lost} lost, the slowest after "
             f"{max(time for _, time in sequence):.0f} ms; TCP: {heard.get('bytes')} of {sent * BLOCK} bytes came "
             f"back, {retransmitted() - before} segments sent again, the longest silence "
             f"{heard.get('longest', 0) * 1000:.0f} ms")
    if lost or heard.get("wrong") or heard.get("bytes") != sent * BLOCK:
        fail(f"{words} {heard.get('wrong', '')}")
    print(words)


def pods(network, address):
    count, slowest = 0, {"add": 0.0, "del": 0.0}
    while going_on():
        name = f"outage-{count}"
        space = f"/run/netns/{name}"

        def verb(which):
            begin = time.monotonic()
            done = run("cnitool", which, network, space)
            slowest[which] = max(slowest[which], time.monotonic() - begin)
            if done.returncode:
                fail(f"after {count} pods {which} failed: {done.stdout}{done.stderr}")

        run("ip", "netns", "add", name)
        verb("add")
        ping = run("ip", "netns", "exec", name, "ping", "-n", "-c", "1", "-w", "5", address)
        if ping.returncode:
            fail(f"after {count} pods the new one gets no answer of {address}: {ping.stdout}")
        verb("del")
        run("ip", "netns", "del", name)
        count += 1
    print(f"pods: {count} were added, reached the other node and were deleted; the slowest ADD took "
          f"{slowest['add'] * 1000:.0f} ms, DEL {slowest['del'] * 1000:.0f} ms, cnitool and portmap included")


STOP = sys.argv[1]
{"serve": serve, "talk": talk, "pods": pods}[sys.argv[2]](*sys.argv[3:])
