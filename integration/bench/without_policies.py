#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes network policies out of a copy of the sources, to see what they add to the binary.

  integration/bench/without_policies.py DIR

Each function through which the rest of the plugin comes to policies returns at once, so that the linker drops all
that only they need. What stays is types, texts of help, and what others need as well. A function that is not there
any more is an error: then this list is out of date.
"""
import re
import sys
from pathlib import Path

NONE, NOTHING = "Ok(Vec::new())", "Ok(())"
RETURNS = {
    "src/cli/policy/mod.rs": {"run": "Ok(Status::Fine)"},
    "src/cli/policy/world.rs": {"read_world": "Ok((PathBuf::from(file), Read::default()))"},
    "src/cli/validate/policies.rs": {"run": "Ok(Status::Fine)"},
    "src/doctor/explain/policy.rs": {"policy": "", "policies_say": ""},
    "src/doctor/policy.rs": {"policy_unenforced": NONE},
    "src/node/policy.rs": {
        "plan": NONE, "apply": "Ok(Applied::default())", "held": "Ok(None)", "dropped": NONE,
        "denied": NONE, "denied_packets": "[None, None]", "in_force": "Ok(None)", "remove": "Ok(false)",
    },
    "src/node/policy/held.rs": {"of": "None"},
    "src/node/policy/pods.rs": {
        "otherwise": "None", "expect": "Ok(None)", "admit": NOTHING, "release_noted": NOTHING,
        "may_hold": "false", "behind": NONE, "take_back": NOTHING, "sweep": NONE, "differences": NONE,
        "restore_table": "Ok(false)", "all_differences": NONE, "restore": NOTHING,
    },
    "src/node/policy/state.rs": {"unreadable_files": "Vec::new()"},
    "src/policy/read.rs": {"read": "Err(String::new())"},
    "src/policy/unread.rs": {"unread": "Err(String::new())"},
}


def place_of(text, start, opening):
    """Where a bracket opens that is in no other one, and behind where it closes."""
    depth, begin = 0, None
    for place in range(start, len(text)):
        letter = text[place]
        if letter == opening and depth == 0:
            begin = place
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if begin is not None and depth == 0:
                return begin, place + 1
    sys.exit(f"no {opening} from {text[start:start + 60]!r} on")


def main(root):
    for name, bodies in RETURNS.items():
        path = root / name
        text = path.read_text()
        for function, body in bodies.items():
            found = re.search(rf"fn {function}[(<]", text)
            if found is None:
                sys.exit(f"{path} has no function {function}")
            begin, end = place_of(text, found.start(), "{")
            text = f"{text[:begin]}{{ {body} }}{text[end:]}"
        path.write_text(text)


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(Path(sys.argv[1]))
