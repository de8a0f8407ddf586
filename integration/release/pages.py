#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Man pages and shell completions, made of what the programs' --help says: a command is described in one place.

  integration/release/pages.py DIR MANX [AGENT]

writes DIR/man/man8/*.8 and DIR/completions/manx.bash, manx.fish and _manx (zsh). The same programs give the same
files; their date is SOURCE_DATE_EPOCH, and none where that is not set. A help text that has another form than all
others is an error.
"""
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# Values and operands that are files or directories.
PATHS = {"BUNDLE", "DIR", "FILE", "FILE|-", "WORLD"}
OPTION = re.compile(r"  --([a-z-]+)(?: ([A-Z][A-Z:|-]*))?(?:\s+(.*))?")
# As much of an option's text as a completion shows.
LETTERS_MAX = 70


class Option:
    """One option: its name without dashes, its value's name or None, and its text."""

    def __init__(self, name, value, text):
        self.name, self.value, self.text = name, value, text

    def takes_path(self):
        return self.value in PATHS

    def short(self):
        """The beginning of its text, for a list of completions."""
        text = " ".join(self.text)
        return text if len(text) <= LETTERS_MAX else text[:LETTERS_MAX].rsplit(" ", 1)[0] + " …"


class Command:
    """What a help text says: of one command, or of a program that has none."""

    def __init__(self, name, summary, rest):
        self.name, self.summary = name, summary
        usage, rest = until_blank(rest)
        if not usage or not usage[0].startswith("Usage: "):
            fail(f"the help of {name} has no usage")
        self.usage = [line.removeprefix("Usage: ").removeprefix("       ") for line in usage]
        self.paragraphs, self.options, self.examples = [], [], []
        for block in blocks(rest):
            if block[0].startswith("  --"):
                self.options += options(name, block)
            elif block[0].startswith("Example: "):
                self.examples += [line.removeprefix("Example: ").strip() for line in block]
            else:
                self.paragraphs.append(block)

    def words(self):
        """What may be its first operand, where that is one of a few words: `manx ipam show`."""
        firsts = (re.match(r"manx [a-z]+ ([a-z]+(?:\|[a-z]+)*)", line) for line in self.usage)
        return [word for first in firsts if first for word in first[1].split("|")]

    def takes_path(self):
        """Whether an operand is a file or a directory."""
        operands = re.sub(r"--[a-z-]+ [A-Z][A-Z:|-]*", "", " ".join(self.usage))
        return bool(PATHS & set(re.findall(r"[A-Z]+", operands)))


def fail(words):
    sys.exit(f"pages: {words}")


def ask(program, *arguments):
    """The lines that it prints."""
    done = subprocess.run([program, *arguments], check=True, capture_output=True, text=True, env={})
    return done.stdout.splitlines()


def until_blank(lines):
    """The lines up to the first blank one, and all others."""
    count = next((number for number, line in enumerate(lines) if not line), len(lines))
    return lines[:count], lines[count:]


def blocks(lines):
    """What blank lines are between."""
    found = [[]]
    for line in lines:
        if line:
            found[-1].append(line)
        else:
            found.append([])
    return [block for block in found if block]


def options(name, block):
    found = []
    for line in block:
        option = OPTION.fullmatch(line)
        if option:
            found.append(Option(option[1], option[2], [option[3]] if option[3] else []))
        elif found and line.startswith("    "):
            found[-1].text.append(line.strip())
        else:
            fail(f"the help of {name} has a line that begins no option and goes on with none: {line!r}")
    return found


class Program:
    """manx: its version, what the list of commands ends with, and the commands."""

    def __init__(self, path):
        lines = ask(path, "--help")
        title = re.fullmatch(r"manx (\S+): (.*)", lines[0])
        if not title or "Commands:" not in lines:
            fail(f"{path} --help is not that of manx")
        self.version, self.summary = title.groups()
        listed, self.ending = until_blank(lines[lines.index("Commands:") + 1:])
        named = [line.split(maxsplit=1) for line in listed if not line.startswith("  help ")]
        self.commands = [self.command(path, name, summary) for name, summary in named]

    @staticmethod
    def command(path, name, summary):
        title, blank, *rest = ask(path, name, "--help")
        if title != f"manx {name}: {summary}" or blank:
            fail(f"manx {name} --help begins with {title!r}")
        return Command(f"manx {name}", summary, rest)


def agent(path):
    return Command("manx-agent", "make a cluster's Nodes this node's peers, and its policies rules", ask(path, "--help"))


# Man pages, by man-pages(7) and groff_man(7).


def roff(text):
    """A line of text; a dash is one that can be copied into a shell."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in text)
    return "\\&" + text if text.startswith(".") else text


def verbatim(lines):
    return [".nf", *map(roff, lines), ".fi"] if lines else []


def description(paragraphs):
    lines = []
    for paragraph in paragraphs:
        # What is indented is a table.
        is_text = not any(line.startswith("  ") for line in paragraph)
        lines += [".PP", *(map(roff, paragraph) if is_text else verbatim(paragraph))]
    return lines


def option_list(command):
    lines = []
    for option in command.options:
        value = f" \\fI{roff(option.value)}\\fR" if option.value else ""
        lines += [".TP", f"\\fB\\-\\-{roff(option.name)}\\fR{value}", *map(roff, option.text)]
    return lines


def page(version, title, summary, sections):
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) if seconds else ""
    lines = [f'.TH {roff(title.upper())} 8 "{date}" "manx {version}" "manx"',
             ".SH NAME", f"{roff(title)} \\- {roff(summary)}"]
    for heading, body in sections:
        if body:
            lines += [f".SH {heading}", *body]
    return "\n".join(lines) + "\n"


def page_of(version, command, others):
    return page(version, command.name.replace(" ", "-"), command.summary, [
        ("SYNOPSIS", verbatim(command.usage)),
        ("DESCRIPTION", description(command.paragraphs)),
        ("OPTIONS", option_list(command)),
        ("EXAMPLES", verbatim(command.examples)),
        ("SEE ALSO", [f"\\fB{roff(other)}\\fR(8)" for other in others]),
    ])


def pages(program, the_agent):
    made = {}
    for command in program.commands:
        made[command.name.replace(" ", "-")] = page_of(program.version, command, ["manx"])
    if the_agent:
        made["manx-agent"] = page_of(program.version, the_agent, ["manx"])
    made["manx"] = page(program.version, "manx", program.summary, [
        ("SYNOPSIS", verbatim(["manx COMMAND [OPTION…]"])),
        ("DESCRIPTION", ["With CNI_COMMAND set and no arguments it is the plugin, which a container runtime starts."]),
        ("COMMANDS", [line for command in program.commands for line in
                      (".TP", f"\\fB{roff(command.name.replace(' ', '-'))}\\fR(8)", roff(command.summary))]),
        ("EXIT STATUS", [roff(line) for line in program.ending if line]),
        ("SEE ALSO", ["\\fBmanx\\-agent\\fR(8)"] if the_agent else []),
    ])
    return {f"man/man8/{title}.8": text for title, text in made.items()}


# Completions. Each subcommand by its own name.


def own_name(command):
    return command.name.removeprefix("manx ")


def bash(program):
    names = " ".join(map(own_name, program.commands))
    cases = []
    for command in program.commands:
        flags = " ".join(f"--{option.name}" for option in command.options)
        files = "true" if command.takes_path() else "false"
        words = f" words='{' '.join(command.words())}'" if command.words() else ""
        cases.append(f"    {own_name(command)}) options='{flags} --help' files={files}{words} ;;")
    every = [option for command in program.commands for option in command.options]
    paths = sorted({f"--{option.name}" for option in every if option.takes_path()})
    values = sorted({f"--{option.name}" for option in every if option.value and not option.takes_path()})
    return f"""# SPDX-License-Identifier: Apache-2.0
# Completions of manx for bash.
_manx() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}"
  local options='' files=false words=''
  if [ "$COMP_CWORD" -eq 1 ] || [ "${{COMP_WORDS[1]}}" = help ]; then
    mapfile -t COMPREPLY < <(compgen -W '{names} help' -- "$current")
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{chr(10).join(cases)}
    *) return ;;
  esac
  case "$previous" in
    {' | '.join(paths)}) files=true words='' ;;
    {' | '.join(values)}) return ;;
    *)
      if [[ "$current" = -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
        return
      fi
      ;;
  esac
  if [ -n "$words" ] && [ "$COMP_CWORD" -eq 2 ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  elif $files; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}}
complete -F _manx manx
"""


def quoted(text):
    """For zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish(program):
    names = " ".join(map(own_name, program.commands))
    none_yet = 'not __fish_seen_subcommand_from $commands'
    lines = ["# SPDX-License-Identifier: Apache-2.0", "# Completions of manx for fish.", f"set -l commands {names} help",
             "complete -c manx -f",
             f'complete -c manx -n "{none_yet}" -a help -d {fish_quoted("what a command does and takes")}',
             f'complete -c manx -n "__fish_seen_subcommand_from help" -a "{names}"']
    for command in program.commands:
        name = own_name(command)
        seen = f'complete -c manx -n "__fish_seen_subcommand_from {name}"'
        lines.append(f'complete -c manx -n "{none_yet}" -a {name} -d {fish_quoted(command.summary)}')
        if command.words():
            lines.append(f'{seen} -a "{" ".join(command.words())}"')
        if command.takes_path():
            lines.append(f"{seen} -F")
        for option in command.options:
            value = "" if not option.value else " -r -F" if option.takes_path() else " -x"
            lines.append(f"{seen} -l {option.name}{value} -d {fish_quoted(option.short())}")
    return "\n".join(lines) + "\n"


def zsh(program):
    def described(text):
        return re.sub(r"([\[\]:\\])", r"\\\1", text)

    def arguments(command):
        lines = [f"      {own_name(command)})", "        _arguments \\"]
        for option in command.options:
            value = "" if not option.value else f":{described(option.value)}:"
            if option.takes_path():
                value += "_files"
            lines.append(f"          {quoted(f'*--{option.name}[{described(option.short())}]{value}')} \\")
        lines.append("          '--help[what it does and takes]' \\")
        if command.words():
            lines.append(f"          '1:what:({' '.join(command.words())})' \\")
        lines.append("          '*:file:_files'" if command.takes_path() else "          '*: :'")
        return lines + ["        ;;"]

    listed = [quoted(f"{own_name(command)}:{described(command.summary)}") for command in program.commands]
    bodies = [line for command in program.commands for line in arguments(command)]
    return f"""#compdef manx
# SPDX-License-Identifier: Apache-2.0
# Completions of manx for zsh.
_manx() {{
  local state line
  local -a commands=(
{chr(10).join('    ' + command for command in listed)}
    'help:what a command does and takes'
  )
  _arguments -C '1:command:->command' '*::argument:->arguments'
  case "$state" in
    command) _describe command commands ;;
    arguments)
      case "$words[1]" in
{chr(10).join(bodies)}
      help) _describe command commands ;;
      esac
      ;;
  esac
}}
_manx "$@"
"""


def main(directory, manx, agent_program=None):
    program = Program(manx)
    files = pages(program, agent(agent_program) if agent_program else None)
    files |= {"completions/manx.bash": bash(program), "completions/manx.fish": fish(program),
              "completions/_manx": zsh(program)}
    for name, text in files.items():
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
