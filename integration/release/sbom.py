#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A software bill of materials of a program of a release, as CycloneDX 1.5 in JSON.

  integration/release/sbom.py NAME VERSION COMMIT PROGRAMS [--libc FILE] ARCH...

NAME is manx or manx-agent, PROGRAMS/ARCH/NAME is what is released; FILE is the C library that it is linked with. It
has what the program's own build asks cargo for: normal dependencies, by the features and the targets of that
program, which is why each program has a bill of its own. Those that run in the compiler alone (procedural macros and what only they need) have the scope
"excluded", for nothing of them is in a program. The same commit and programs give the same bytes; the time is
SOURCE_DATE_EPOCH.
"""
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LICENSE = "Apache-2.0"
FEATURES = {"manx": [], "manx-agent": ["--features", "agent"]}
# Where cargo says what a package's checksum is.
LOCKED = re.compile(r'^name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"$', re.MULTILINE)
# A line of cargo's tree: how deep, name, version, whether it runs in the compiler, a path, and its licence.
NODE = re.compile(r"(\d+)(\S+) v(\S+?)( \(proc-macro\))?(?: \([^)]*\))?\|(.*?)(?: \(\*\))?")
RUSTC = re.compile(rb"rustc version (\d+\.\d+\.\d+)")
# What musl's archive has of its own version, and a text that is in every program which is linked with it.
MUSL_VERSION = re.compile(rb"\0(1\.\d+\.\d+)\0")
MUSL = b"No error information"


def fail(words):
    sys.exit(f"sbom: {words}")


class Crate:
    """A package of the registry, as a program's build has it."""

    def __init__(self, name, version, licence):
        self.name, self.version, self.licence = name, version, licence
        self.is_linked, self.needs = False, set()

    def purl(self):
        return f"pkg:cargo/{self.name}@{self.version}"

    def component(self, checksums):
        checksum = checksums.get((self.name, self.version))
        if not checksum or not self.licence:
            fail(f"{self.name} {self.version} has no checksum or no licence")
        return {
            "type": "library",
            "bom-ref": self.purl(),
            "name": self.name,
            "version": self.version,
            "scope": "required" if self.is_linked else "excluded",
            "hashes": [{"alg": "SHA-256", "content": checksum}],
            # What crates said before there were expressions.
            "licenses": [{"expression": self.licence.replace("/", " OR ")}],
            "purl": self.purl(),
        }


def crates(program, arch):
    """By its purl each crate that the program's build asks for, and what the program asks for itself. It is the
    tree that counts, not `cargo metadata`, which has the features that tests ask for as well."""
    command = ["cargo", "tree", "--quiet", "--locked", "--target", f"{arch}-unknown-linux-musl", "--edges", "normal",
               "--prefix", "depth", "--format", "{p}|{l}", *FEATURES[program]]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found, above = {}, []
    for line in done.stdout.splitlines():
        node = NODE.fullmatch(line)
        if not node:
            fail(f"cargo tree has a line of another form: {line!r}")
        depth, name, version, macro, licence = node.groups()
        del above[int(depth):]
        crate = Crate(name, version, licence)
        crate = found.setdefault(crate.purl(), crate)
        is_linked = not macro and all(linked for _, linked in above)
        crate.is_linked |= is_linked
        if above:
            above[-1][0].needs.add(crate.purl())
        above.append((crate, is_linked))
    # The first is the program's own package.
    own = found.pop(next(iter(found)))
    return found, own.needs


def toolchain(content, libc):
    """The libraries that come with the compiler and are in the program, too."""
    rust = RUSTC.search(content)
    if not rust:
        fail("a program does not say by which compiler it was made")
    version = rust[1].decode()
    made = [{"type": "library", "bom-ref": f"rust-std@{version}", "name": "rust-std", "version": version,
             "scope": "required", "licenses": [{"expression": "MIT OR Apache-2.0"}],
             "purl": f"pkg:generic/rust-std@{version}"}]
    if MUSL in content:
        musl = {"type": "library", "bom-ref": "musl", "name": "musl", "scope": "required",
                "licenses": [{"license": {"id": "MIT"}}], "purl": "pkg:generic/musl"}
        known = libc and MUSL_VERSION.search(Path(libc).read_bytes())
        if known:
            musl["version"] = known[1].decode()
            musl["purl"] += f"@{musl['version']}"
        made.append(musl)
    return made


def program_components(version, name, arch, file, components, checksums, libc):
    """Adds what that program is made of, and gives its reference and all edges."""
    content = file.read_bytes()
    found, direct = crates(name, arch)
    edges = {}
    for purl, crate in found.items():
        component = crate.component(checksums)
        known = components.setdefault(purl, component)
        if crate.is_linked:
            known["scope"] = "required"
        edges[purl] = crate.needs
    libraries = toolchain(content, libc)
    for library in libraries:
        components[library["bom-ref"]] = library
    own = {
        "type": "application",
        "bom-ref": f"{name}-{arch}",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
        "licenses": [{"license": {"id": LICENSE}}],
        "properties": [{"name": "manx:architecture", "value": arch}],
    }
    components[own["bom-ref"]] = own
    edges[own["bom-ref"]] = direct | {library["bom-ref"] for library in libraries}
    return own["bom-ref"], edges


def document(name, version, commit, programs, libc, architectures):
    checksums = {(name, of): checksum for name, of, checksum in LOCKED.findall((ROOT / "Cargo.lock").read_text())}
    components, dependencies, tops = {}, {}, []
    for arch in architectures:
        file = Path(programs, arch, name)
        top, edges = program_components(version, name, arch, file, components, checksums, libc)
        tops.append(top)
        for ref, others in edges.items():
            dependencies.setdefault(ref, set()).update(others)
    dependencies[name] = set(tops)
    seconds = int(os.environ["SOURCE_DATE_EPOCH"])
    listed = [components[ref] for ref in sorted(components)]
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{name} {version} {commit} {digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            "component": {
                "type": "application",
                "bom-ref": name,
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": LICENSE}}],
                "properties": [{"name": "manx:commit", "value": commit}],
            },
        },
        "components": listed,
        "dependencies": [{"ref": ref, "dependsOn": sorted(dependencies[ref])} for ref in sorted(dependencies)],
    }


def main(arguments):
    libc = None
    if "--libc" in arguments:
        at = arguments.index("--libc")
        libc = arguments[at + 1]
        del arguments[at:at + 2]
    if len(arguments) < 5 or arguments[0] not in FEATURES:
        sys.exit(__doc__)
    name, version, commit, programs, *architectures = arguments
    json.dump(document(name, version, commit, programs, libc, architectures), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(sys.argv[1:])
