#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The names of Services, for the tests that hack/cluster runs: A, AAAA, CNAME, PTR and SRV, over UDP and TCP.

  integration/cluster/dns.py DIR SERVER ADDRESS

DIR is that of hack/cluster-control, SERVER the URL of the API server, ADDRESS where it listens. What it
knows is at most a second old. Nothing but what Kubernetes' tests ask for is answered.
"""
import ipaddress
import json
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.request

A, CNAME, PTR, AAAA, SRV = 1, 5, 12, 28, 33
ZONE = "svc.cluster.local"

directory, server, address = sys.argv[1:]
context = ssl.create_default_context(cafile=f"{directory}/pki/ca.crt")
context.load_cert_chain(f"{directory}/pki/admin.crt", f"{directory}/pki/admin.key")


def objects(path):
    with urllib.request.urlopen(server + path, context=context, timeout=5) as answer:
        return json.load(answer)["items"]


class Names:
    """What the API server says, by name."""

    def __init__(self):
        self.addresses, self.ports, self.aliases, self.owners, self.when = {}, {}, {}, {}, 0

    def refresh(self):
        if time.monotonic() - self.when < 1:
            return
        self.__init__()
        slices = objects("/apis/discovery.k8s.io/v1/endpointslices")
        for service in objects("/api/v1/services"):
            self.add(service, slices)
        self.when = time.monotonic()

    def add(self, service, slices):
        meta, spec = service["metadata"], service["spec"]
        name = f"{meta['name']}.{meta['namespace']}.{ZONE}"
        if spec.get("type") == "ExternalName":
            self.aliases[name] = spec["externalName"].rstrip(".")
            return
        own = self.addresses.setdefault(name, [])
        own += [ip for ip in spec.get("clusterIPs", []) if ip != "None"]
        self.owners.update({ipaddress.ip_address(ip).reverse_pointer: name for ip in own})
        for port in spec.get("ports", []):
            if "name" in port:
                key = f"_{port['name']}._{port['protocol'].lower()}.{name}"
                self.ports[key] = (port["port"], name)
        if own:
            return
        for part in slices:
            labels = part["metadata"].get("labels", {})
            if part["metadata"]["namespace"] != meta["namespace"]:
                continue
            if labels.get("kubernetes.io/service-name") != meta["name"]:
                continue
            for port in part.get("ports") or []:
                self.ports[f"_{port.get('name')}._{port['protocol'].lower()}.{name}"] = (port["port"], name)
            for endpoint in part.get("endpoints") or []:
                own += endpoint["addresses"]
                if "hostname" in endpoint:
                    of_pod = self.addresses.setdefault(f"{endpoint['hostname']}.{name}", [])
                    of_pod += endpoint["addresses"]

    def records(self, name, kind):
        """Pairs of type and data, or None for a name that nobody has."""
        if name in self.aliases:
            target = self.aliases[name]
            return [(CNAME, encoded(target))] + (self.records(target, kind) or [])
        if name in self.owners:
            return [(PTR, encoded(self.owners[name]))] if kind == PTR else []
        if name in self.ports and kind == SRV:
            port, target = self.ports[name]
            return [(SRV, struct.pack(">HHH", 0, 100, port) + encoded(target))]
        if name not in self.addresses:
            return [] if name in self.ports else None
        packed = [ipaddress.ip_address(ip).packed for ip in self.addresses[name]]
        length = {A: 4, AAAA: 16}.get(kind)
        return [(kind, data) for data in packed if len(data) == length]


def encoded(name):
    labels = name.split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def question(packet):
    """The name, the type, and where the question ends."""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode().lower())
        at += packet[at] + 1
    (kind,) = struct.unpack(">H", packet[at + 1 : at + 3])
    return ".".join(labels), kind, at + 5


def answer(packet, names):
    name, kind, end = question(packet)
    records = names.records(name, kind)
    # Authoritative, recursion available, and no such name where there is none.
    flags = 0x8580 | (3 if records is None else 0)
    body, owner = b"", b"\xc0\x0c"
    for of_kind, data in records or []:
        body += owner + struct.pack(">HHIH", of_kind, 1, 5, len(data)) + data
        if of_kind == CNAME:
            owner = data
    counts = struct.pack(">HHHHH", flags, 1, len(records or []), 0, 0)
    return packet[:2] + counts + packet[12:end] + body


def reply(packet, names, lock):
    """The answer, or nothing: one question is lost then, and asked again."""
    try:
        with lock:
            names.refresh()
            return answer(packet, names)
    except (OSError, IndexError, ValueError, struct.error) as error:
        print(f"dns: {error!r}", file=sys.stderr, flush=True)
        return None


def converse(connection, names, lock):
    """Questions and answers by TCP, each with its length before it."""
    with connection, connection.makefile("rb") as stream:
        connection.settimeout(10)
        try:
            while (head := stream.read(2)) and (text := reply(stream.read(int.from_bytes(head, "big")), names, lock)):
                connection.sendall(struct.pack(">H", len(text)) + text)
        except OSError:
            # Who asked is gone.
            pass


def main():
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    names, lock = Names(), threading.Lock()
    listener = socket.create_server((address, 53), family=family)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=converse, args=(connection, names, lock), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((address, 53))
    while True:
        packet, who = datagrams.recvfrom(4096)
        if text := reply(packet, names, lock):
            datagrams.sendto(text, who)


main()
