#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seeds of the fuzz targets anew, in fuzz/corpus: of the examples of this repository, and of
what a kernel answers and manx writes in a namespace of its own.

    unshare -rn python3 fuzz/seeds.py PATH/TO/manx
"""

import gzip
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CORPUS = REPOSITORY / "fuzz/corpus"
MANX = os.path.abspath(sys.argv[1])
# A seed that is longer makes all that is made of it slow.
BYTES_MAX = 6000


def seed(target, name, content):
    content = content.encode() if isinstance(content, str) else content
    if not 0 < len(content) <= BYTES_MAX:
        print(f"left out: {target}/{name} has {len(content)} bytes")
        return
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run(command, **options):
    done = subprocess.run(command.split(), capture_output=True, check=False, **options)
    if done.returncode not in (0, 3):
        print(f"{command}: {done.stderr.decode().strip()}")
    return done.stdout


def compact(document):
    return json.dumps(document, separators=(",", ":"))


def dump(protocol, kind, body):
    """The messages that answer a dump."""
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as kernel:
        kernel.bind((0, 0))
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, 0x301, 1, 0) + body)
        while True:
            datagram = kernel.recv(1 << 17)
            while datagram:
                length, answer = struct.unpack("=IH", datagram[:6])
                if answer in (2, 3):
                    return found
                found.append(datagram[:length])
                datagram = datagram[(length + 3) & ~3:]


def attribute(kind, value):
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def text(kind, value):
    return attribute(kind, value.encode() + b"\0")


ROUTE, NETFILTER = 0, 12


def configurations():
    for path in sorted([*REPOSITORY.glob("conf/**/*.conflist")]):
        document = json.loads(path.read_text())
        name = f"{path.parent.name}-{path.stem}"
        seed("configuration", f"list-{name}", compact(document))
        for plugin in document["plugins"]:
            if plugin["type"] in ("manx", "calico"):
                single = {"cniVersion": "1.0.0", "name": document["name"], **plugin}
                seed("configuration", f"single-{name}", compact(single))
    single = {"cniVersion": "1.1.0", "name": "pods", "type": "manx", "mode": "vxlan", "mtu": 1450,
              "ipMasq": True, "nonMasqueradeCIDRs": ["10.0.0.0/8"], "sourceSpoofing": "Any",
              "dns": {"nameservers": ["10.96.0.10"]}, "networkPolicy": "enforce",
              "ipam": {"type": "manx-ipam", "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[
                  {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "gateway": "10.1.0.1"}]]},
              "runtimeConfig": {"mac": "02:00:00:00:00:07", "ips": ["10.1.0.7/24"], "ipRanges": [[
                  {"subnet": "10.2.0.0/24"}]]},
              "args": {"cni": {"ips": ["10.1.0.8"]}}, "prevResult": {"cniVersion": "1.1.0"},
              "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    seed("configuration", "all", compact(single))
    seed("configuration", "annotations", b"\xff".join([
        b"02:00:5e:10:00:01", b'["10.1.0.7","fd00:1::7"]', b'["IPv4","IPv6"]',
        b'["10.9.0.0/16","10.9.1.0/24","fd00:9::1"]']))
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;IP=10.1.0.7"
    seed("environment", "arguments", arguments)
    for command in ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"):
        seed("environment", command, "\0".join(
            [command, "c1", "/run/netns/x", "eth0", arguments, "/opt/cni/bin:/usr/lib/cni", "1"]))


def results():
    result = {"cniVersion": "1.1.0", "interfaces": [
        {"name": "cali1", "mac": "02:00:00:00:00:01", "mtu": 1450},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x", "socketPath": "/s",
         "pciID": "0000:00:1f.6"}],
        "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1", "interface": 1},
                {"address": "fd00:1::5/64", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360,
                    "priority": 7, "table": 300, "scope": 0}],
        "dns": {"nameservers": ["10.96.0.10"], "domain": "x", "search": ["y"], "options": ["z"]}}
    seed("result", "1.1.0", compact(result))
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1", "routes": [
        {"dst": "0.0.0.0/0"}]}, "ip6": {"ip": "fd00:1::5/64"}, "dns": {}}
    seed("result", "0.2.0", compact(old))
    seed("result", "0.3.1", compact({"cniVersion": "0.3.1", "interfaces": [{"name": "eth0"}],
                                     "ips": [{"version": "4", "address": "10.1.0.5/32",
                                              "interface": 0}]}))
    seed("result", "error", compact({"cniVersion": "1.0.0", "code": 11, "msg": "later",
                                     "details": "busy"}))
    seed("result", "versions", compact({"cniVersion": "1.1.0",
                                        "supportedVersions": ["0.4.0", "1.0.0"]}))
    cached = {"kind": "cniCacheV1", "containerId": "c1", "ifName": "eth0", "networkName": "pods",
              "netns": "/run/netns/x", "cniArgs": [["K8S_POD_NAMESPACE", "default"],
                                                   ["K8S_POD_NAME", "web"]], "result": result}
    seed("documents", "cached", "c" + compact(cached))


def documents():
    node = {"spec": {"unschedulable": True}, "status": {"conditions": [
        {"type": "NetworkUnavailable", "status": "True", "reason": "CalicoIsDown"}]}}
    seed("documents", "node", "n" + compact(node))
    nodes = [{"metadata": {"name": name, "uid": f"u-{name}", "resourceVersion": "7",
                           "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {
                               "projectcalico.org/IPv4IPIPTunnelAddr": f"10.244.{place}.0"}},
              "spec": {"podCIDRs": [f"10.244.{place}.0/24"], "podCIDR": f"10.244.{place}.0/24"},
              "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{place}"}]}}
             for place, name in [(1, "node-a"), (2, "node-b")]]
    seed("documents", "nodes", "l" + compact({"kind": "List", "items": nodes}))
    crd = "crd.projectcalico.org/v1"
    items = [{"apiVersion": crd, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
             for kind, spec in [("NetworkPolicy", {"order": 1}), ("GlobalNetworkPolicy", {
                 "preDNAT": True}), ("Tier", {}), ("NetworkSet", {}), ("FelixConfiguration", {
                     "defaultEndpointToHostAction": "Drop"})]]
    seed("documents", "unread", "u" + compact({"kind": "List", "items": items}))
    probe = {"node": "node-a", "checks": [{"id": "path-mtu", "severity": "warning",
             "status": "found", "object": "node-b", "evidence": "e", "why": "w", "fix": "f",
             "undo": ""}],
             "peers": [{"name": "node-b", "paths": [{
                 "source": "192.0.2.11", "address": "192.0.2.12", "inner": False, "sent": 5,
                 "received": 4, "udp": True, "passed": 1400, "needed": 1500, "lost": 1450}]}]}
    seed("documents", "probe", "p" + compact(probe))
    seed("documents", "answer", "aHTTP/1.0 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n")
    claims = {"aud": ["x"], "exp": 1800000000, "iat": 1700000000, "kubernetes.io": {
        "namespace": "manx-system", "node": {"name": "node-1", "uid": "u-1"}}}
    seed("documents", "claims", "k" + compact(claims))
    seed("documents", "token", "je30.eyJpYXQiOjEsImV4cCI6Miwia3ViZXJuZXRlcy5pbyI6eyJub2RlIjp7InVpZCI6InUifX19.c2ln")


def worlds():
    labels = {"kubernetes.io/metadata.name": "x", "ns": "x"}
    pod = lambda name, ip, node: {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "x", "name": name, "labels": {"pod": name}, "uid": f"u-{name}"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [
            {"containerPort": 80, "protocol": "TCP", "name": "web"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}, {"ip": f"fd00::{name}"}]}}
    policy = lambda spec: {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                           "metadata": {"namespace": "x", "name": "p"}, "spec": spec}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": labels}}
    pods = [pod("a", "10.1.0.1", "node-a"), pod("b", "10.1.0.2", "node-b")]
    specs = {
        "deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        "ports": {"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"pod": "b"}}}],
            "ports": [{"port": 80}, {"port": "web"}, {"port": 400, "endPort": 500}]}]},
        "block": {"podSelector": {}, "egress": [{"to": [{"ipBlock": {
            "cidr": "10.0.0.0/8", "except": ["10.1.0.2/32"]}}], "ports": [
                {"protocol": "UDP", "port": 53}]}]},
        "expressions": {"podSelector": {"matchExpressions": [
            {"key": "pod", "operator": "In", "values": ["a", "c"]},
            {"key": "x", "operator": "DoesNotExist"}]}, "ingress": [{"from": [
                {"namespaceSelector": {"matchLabels": {"ns": "x"}}, "podSelector": {}}]}]},
    }
    yaml = """\
# Two documents.
apiVersion: v1
kind: Namespace
metadata: {name: x, labels: {ns: "x"}}
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata:
    namespace: x
    name: 'p'
  spec:
    podSelector: {}
    policyTypes: [Ingress]
    ingress:
    - ports:
      - port: 80
        protocol: TCP
- kind: Pod
  metadata:
    name: a
    namespace: x
  spec: {nodeName: node-a}
  status:
    podIP: 10.1.0.1
"""
    seed("policies", "yaml", yaml)
    for name, spec in specs.items():
        items = [namespace, *pods, policy(spec)]
        seed("policies", name, compact({"apiVersion": "v1", "kind": "List", "items": items}))
        seed("documents", f"policy-{name}", "i" + compact(policy(spec)))
    seed("documents", "pod", "i" + compact(pods[0]))
    return {"apiVersion": "v1", "kind": "List",
            "items": [namespace, *pods, policy(specs["ports"]),
                      {**policy(specs["block"]), "metadata": {"namespace": "x", "name": "q"}}]}


def firewall():
    saved = """\
*filter
:FORWARD DROP [0:0]
:KUBE-FORWARD - [0:0]
:cali-FORWARD - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -i cali+ ! -o eth0 -p tcp -s 10.1.0.0/24 -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A cali-FORWARD -g KUBE-FORWARD
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -j RETURN
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:cali-rpf-skip - [0:0]
-A cali-rpf-skip -s 10.9.0.0/16 -i cali1 -j ACCEPT
COMMIT
"""
    seed("iptables", "saved", saved)
    seed("iptables", "nft", 'table ip calico {\n\tchain raw-cali-rpf-skip {\n\t\tiifname "cali1" '
         "ip saddr 10.9.0.0/16 counter packets 0 bytes 0 accept\n\t}\n}\n")


def packets():
    udp = bytes([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17]) + bytes(2) + bytes([192, 0, 2, 11, 192, 0, 2, 12])
    inner = bytes(12) + b"\x08\x00" + bytes([0x45]) + bytes(19)
    frames = [bytes(12) + b"\x08\x00" + udp + bytes(16) + inner,
              bytes(12) + b"\x81\x00\x00\x07\x08\x00" + udp + bytes(16) + inner]
    capture = struct.pack("=IIIIII", 0xA1B2C3D4, 0x00040002, 0, 0, 1 << 18, 1)
    for frame in frames:
        capture += struct.pack("=IIII", 1, 500, len(frame), len(frame)) + frame
    seed("packets", "vxlan", capture)
    ipip = udp[:9] + b"\x04" + udp[10:] + udp
    seed("packets", "ipip", struct.pack("=IIIIII", 0xA1B23C4D, 0x00040002, 0, 0, 1 << 18, 101)
         + struct.pack("=IIII", 1, 500, len(ipip), len(ipip)) + ipip)
    icmp = udp[:9] + b"\x01" + udp[10:]
    seed("packets", "too-big", icmp + b"\x03\x04\0\0\0\0\x05\x78" + udp + bytes(8))
    seed("packets", "reply", icmp + bytes(8))
    seed("packets", "reply6", b"\x81\0\0\0\0\x07\0\x01")
    seed("packets", "too-big6", b"\x02\0\0\0\0\0\x05\0" + b"\x60" + bytes(39) + bytes(8))


def texts():
    for name, content in {
        "mac": "02-00-5E-10-00-01", "network": "10.1.0.5/24", "network6": "fd00:1::5/64",
        "mapped": "::ffff:10.0.0.1", "url": "https://user:secret@example.org/x?token=abc",
        "words": "--password hunter2 PASSWORD=x token: y\nclient-key-data: AAAA\n",
        "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n",
        "json": compact({"name": "token", "value": "x", "key": "y", "args": ["--token", "z"]}),
        "control": "a\x1b[31m\u202eb\n",
    }.items():
        seed("text", name, content)


def packed():
    for name, content in {"empty": b"", "short": b"manx", "runs": b"ab" * 400,
                          "text": (REPOSITORY / "LICENSE").read_bytes()[:1500]}.items():
        for level in (0, 1, 9):
            seed("gzip", f"{name}-{level}", gzip.compress(content, level, mtime=0))
    seed("gzip", "two", gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0))


def kernel():
    for command in (
        "ip link set lo up", "ip link add v0 type veth peer name v1", "ip link set v0 up",
        "ip link set v1 up", "ip link set v0 alias manx1:pods:c1:eth0", "ip link set v0 group 10",
        "ip addr add 192.0.2.11/24 dev v0", "ip addr add 2001:db8:1::11/64 dev v0 nodad",
        "ip link add vx type vxlan id 7 dstport 4789 local 192.0.2.11 dev v0 nolearning",
        "ip link set vx up", "ip route add default via 192.0.2.254",
        "ip route add 198.51.100.0/24 via 192.0.2.2 metric 7 table 300 mtu lock 1400 advmss 1360",
        "ip route add blackhole 198.51.101.0/24",
        "ip route add 198.51.102.0/24 nexthop via 192.0.2.3 nexthop via 192.0.2.4 weight 3",
        "ip route add 198.51.103.0/24 via inet6 2001:db8:1::2 dev v0",
        "ip nexthop add id 7 via 192.0.2.5 dev v0", "ip route add 198.51.104.0/24 nhid 7",
        "ip -6 route add 2001:db8:2::/64 via 2001:db8:1::2 expires 300",
        "ip rule add from 10.1.0.5 table 300 pref 900 protocol 109",
        "ip rule add iif lo to 10.8.0.0/16 fwmark 7/15 table 300 pref 400",
        "ip rule add not from 10.9.0.0/16 lookup main suppress_prefixlength 0 pref 401",
        "ip rule add blackhole pref 402", "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev v0",
        "bridge fdb add 02:00:00:00:00:09 dev vx dst 192.0.2.12",
    ):
        run(command)
    questions = {"link": (18, bytes(16)), "addr": (22, bytes(8)), "route4": (26, b"\x02" + bytes(11)),
                 "route6": (26, b"\x0a" + bytes(11)), "rule": (34, b"\x02" + bytes(11)),
                 "neigh": (30, bytes(12)), "fdb": (30, b"\x07" + bytes(11)),
                 "nexthop": (106, bytes(8)), "netconf": (82, b"\x02" + bytes(3))}
    for name, (kind, body) in questions.items():
        told = dump(ROUTE, kind, body)
        local = [one for one in told if name.startswith("route") and one[23] in (2, 3)]
        told = [one for one in told if one not in local][:12]
        for place, message in enumerate(told):
            seed("route", f"{name}-{place}", message)
        if name in ("rule", "addr", "neigh"):
            seed("netlink", name, b"".join(told[:3]))
    refusal = struct.pack("=i", -2) + struct.pack("=IHHII", 20, 0x0A0A, 0, 5, 0)
    refusal += attribute(1, b"gone it\0")
    seed("netlink", "refusal", struct.pack("=IHHII", 16 + len(refusal), 2, 0x300, 5, 0) + refusal)
    family = lambda v6: attribute(1 | 0x8000, attribute(3 if v6 else 1, bytes(16 if v6 else 4))
                                  + attribute(4 if v6 else 2, bytes(16 if v6 else 4)))
    ports = attribute(2 | 0x8000, attribute(1, b"\x06") + attribute(2, b"\x9c\x40")
                      + attribute(3, b"\0\x50"))
    for v6 in (False, True):
        tuples = family(v6) + ports
        seed("netlink", f"connection-{v6}", attribute(1 | 0x8000, tuples)
             + attribute(2 | 0x8000, tuples) + attribute(12, b"\1\2\3\4") + attribute(18, b"\0\7"))


RULES = """\
table inet filter {
  set names { type ifname; elements = { "eth0", "cali1" }; }
  set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.0/24 }; }
  map jumps { type ifname : verdict; elements = { "eth0" : jump other, "v0" : drop }; }
  chain other { ip saddr 10.1.0.0/24 counter accept; meta mark and 0xff == 1 return; reject; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "cali*" oifname != "eth0" tcp dport 80 accept
    iifname @names ip daddr @nets accept
    iifname vmap @jumps
    iifgroup 10 ct status dnat accept
    meta l4proto { tcp, udp } log jump other
    meta nfproto ipv6 ip6 saddr fd00::/8 goto other
  }
}
table ip nat {
  chain pre {
    type nat hook prerouting priority -100;
    dnat to 10.1.0.5
  }
}
"""


def tables():
    run("nft -f -", input=RULES.encode())
    of = lambda family, *attributes: bytes([family, 0, 0, 0]) + b"".join(attributes)
    objects = []
    for kind, family in ((4, 1), (4, 2), (7, 1), (7, 2), (10, 1)):
        objects += dump(NETFILTER, 0xA00 | kind, of(family))
    for name in ("names", "nets", "jumps"):
        objects += dump(NETFILTER, 0xA00 | 13, of(1, text(1, "filter"), text(2, name)))
    for place, message in enumerate(objects):
        body = message[20:]
        seed("nft_rules", f"object-{place}", struct.pack("<H", len(body)) + body)
        if place % 5 == 0:
            seed("nft_rules", f"message-{place}", message)
    joined = b"".join(struct.pack("<H", len(one) - 20) + one[20:] for one in objects[-8:])
    seed("nft_rules", "several", joined)


def sets():
    names = []
    for message in dump(NETFILTER, 0xA00 | 10, bytes([1, 0, 0, 0]) + text(1, "manx.policy")):
        at = 20
        while at + 4 <= len(message):
            length, kind = struct.unpack("=HH", message[at:at + 4])
            if kind == 2:
                names.append(message[at + 4:at + length - 1].decode())
            at += max(4, (length + 3) & ~3)
    for name in names:
        body = bytes([1, 0, 0, 0]) + text(1, "manx.policy") + text(2, name)
        for message in dump(NETFILTER, 0xA00 | 13, body):
            if len(message) < 60:
                continue
            for number in range(len(names)):
                if number % 4 == len(name) % 4:
                    seed("nft_sets", f"{name}-{number}", bytes([number]) + message[20:])
    return names


def node(world):
    peers = json.loads((REPOSITORY / "conf/two-nodes/peers.json").read_text())
    seed("peers", "two", compact(peers))
    full = {"self": "node-a", "serviceCIDRs": ["10.96.0.0/16"], "fabric": {
        "mode": "vxlan", "crossSubnet": True, "vxlan": {"id": 4096, "port": 4789}, "mtu": 1450},
        "nodes": [{**peers["nodes"][0], "tunnelAddresses": ["10.244.1.0"],
                   "tunnelMAC": "02:00:00:00:00:01", "formerPodCIDRs": ["10.244.9.0/24"]},
                  peers["nodes"][1]], "unknown": 1}
    seed("peers", "full", compact(full))
    del full["unknown"]
    seed("peers", "known", compact(full))
    text_of = compact(peers).encode()
    seed("peers", "changed", bytes([30, 2]) + b'"7' + b"\xff" + text_of)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "etc/cni/net.d").mkdir(parents=True)
        (root / "etc/manx").mkdir(parents=True)
        shutil.copy(REPOSITORY / "conf/two-nodes/10-manx-vxlan.conflist", root / "etc/cni/net.d")
        (root / "etc/manx/peers.json").write_text(json.dumps(peers))
        (root / "world.json").write_text(json.dumps(world))
        run(f"{MANX} apply --root {root}")
        run(f"{MANX} policy apply {root}/world.json --node node-a --root {root}")
        for path in root.glob("run/manx/**/*"):
            if path.is_symlink():
                seed("files", "document", "f" + os.readlink(path))
            elif path.name.endswith(".json") and path.parent.name == ".fabric":
                seed("files", "applied", b"a" + path.read_bytes())
            elif path.name.endswith(".cidrs"):
                seed("files", "cidrs", b"c" + path.read_bytes())
            elif path.name == "plugin.json":
                seed("files", "plugin", b"v" + path.read_bytes())
        names = sets()
        run(f"{MANX} bundle {root}/bundle.json --root {root}")
        whole = (root / "bundle.json").read_bytes()
        whole = gzip.decompress(whole) if whole[:2] == b"\x1f\x8b" else whole
        slim(json.loads(whole))
    held = {**{name: {} for name in names}, "self4": {"0af40102": None}, "ident4": {"0af40102": 77},
            "class-in4": {"0af40102": 4294967298}, "cidr-in4": {"000000020a000000-000000020affffff": 5},
            "range-in": {"00000002060000000000000500500000-00000002060000000000000500600000": None}}
    seed("files", "table", "t" + compact({"version": 1, "node": "node-a", "sets": held}))
    pods = {"x/a": {"uid": "u-a", "egress": 7, "ingress": 8, "identity": 9, "egressPolicies": ["p"],
                    "ingressPolicies": ["q"]}, "x/b": {}}
    seed("files", "policy", "p" + compact({"version": 1, "node": "node-a", "pods": pods}))
    seed("files", "denial", 'd{"version":1,"counts":true,"rejects":true,"log":7}')
    seed("files", "list", b"c" + text_of)
    entry = {"version": 1, "network": "pods", "containerId": "c1", "ifname": "eth0",
             "podNamespace": "default", "podName": "web", "netns": "/run/netns/x",
             "netnsIdentity": [4, 4026532300], "hostLink": "cali1", "addresses": ["10.244.1.2"],
             "lease": [["10.244.1.2/24", None]], "sources": ["10.9.0.0/16"], "enforced": "closed",
             "mtu": 1450, "table": 254, "ipam": {"type": "manx-ipam"}, "cniVersion": "1.1.0",
             "args": "K8S_POD_NAME=web"}
    seed("files", "journal", "j" + compact(entry))
    for name, content in {"lease": "c1\r\neth0", "old": "c1", "name": "10.244.1.2",
                          "note": "taking 77 10.244.1.2 fd00::2"}.items():
        seed("files", f"lease-{name}", "l" + content)
    seed("files", "operation", b"oADD\0\0\0\0\0" + struct.pack("<II", 0, 1700))


def slim(bundle):
    """One bundle with less of what there is much of, and one with almost nothing."""
    kernel = bundle["kernel"]
    kernel["routes"] = kernel["routes"][:6]
    kernel["rules"] = kernel["rules"][:3]
    kernel["links"] = kernel["links"][:4]
    kernel["sysctls"] = dict(list(kernel["sysctls"].items())[:6])
    parts = {key: value for key, value in bundle.items() if value not in ([], {}, None, "")}
    for key in ("files", "networks", "compared", "surroundings", "kernel"):
        few = {name: parts[name] for name in ("kind", "version", "takenBy") if name in parts}
        few[key] = parts.get(key)
        seed("bundle", key, compact(few))
    seed("bundle", "packed", gzip.compress(compact(parts).encode(), mtime=0))
    seed("bundle", "least", compact({name: parts[name] for name in ("kind", "version")}))


def words(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, str):
        yield value


def dictionary():
    """The words of all documents among the seeds, and some of other texts."""
    found = {"-A ", "-j ", "-i ", "--comment", "--ctstate", "ACCEPT", "COMMIT", "\\x0a---\\x0a", "\\x0a- "}
    for path in CORPUS.glob("*/*"):
        content = path.read_bytes()
        for begin in (0, 1):
            try:
                found.update(words(json.loads(content[begin:])))
            except ValueError:
                pass
    plain = (word for word in sorted(found) if 2 < len(word) < 32 and word.isascii())
    lines = [word if word.startswith("\\") else word.replace('"', "") for word in plain]
    (REPOSITORY / "fuzz/dictionary").write_text("".join(f'"{line}"\n' for line in lines))


def main():
    shutil.rmtree(CORPUS, ignore_errors=True)
    configurations()
    results()
    documents()
    world = worlds()
    firewall()
    packets()
    texts()
    packed()
    kernel()
    tables()
    node(world)
    dictionary()
    files = [path for path in CORPUS.glob("*/*")]
    print(len(files), "seeds of", sum(path.stat().st_size for path in files), "bytes")


main()
