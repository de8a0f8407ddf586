// SPDX-License-Identifier: Apache-2.0
//! Words of a command that is printed to be run by a shell as it stands.

use std::borrow::Cow;

/// The text as one word of sh(1): a name from outside is no command.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_takes_each_text_for_one_word() {
        for text in [
            "/etc/cni/net.d/10-manx.conflist",
            "05 bridge.conf",
            "05;touch PWNED;.conf",
            "it's",
            "$(id)`id`\\\"*?~",
            "-n",
            "",
            "a\nb",
            "#",
        ] {
            let script = format!("printf %s {}", quoted(text));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{script}");
        }
        assert_eq!(quoted("eth0.5"), "eth0.5");
    }
}
