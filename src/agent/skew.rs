//! The plugin of this node may be of another version than the agent. Pure.

use crate::node::version::{Plugin, VERSION};

/// Why a peers file of this form is not written: the plugin could not read it, and no pod
/// would start.
pub(super) fn refusal(plugin: &Plugin, form: u32) -> Option<String> {
    let Plugin { version, schemas } = plugin;
    (schemas.peers < form).then(|| {
        format!(
            "the plugin of this node is manx {version}, which reads peers files of form {} and \
             none of form {form}: it stays as it is until manx {VERSION} is installed here, and \
             has noted that in /run/manx/plugin.json (manx apply does)",
            schemas.peers
        )
    })
}

/// That they differ.
pub(super) fn remark(plugin: &Plugin) -> Option<String> {
    let version = &plugin.version;
    (version != VERSION).then(|| {
        format!(
            "version-skew: the plugin of this node is manx {version}, and its agent {VERSION}: \
             the agent's pod installs its own version when it starts"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::version::Schemas;

    #[test]
    fn a_plugin_gets_no_file_that_is_newer_than_it_reads() {
        let plugin = |version: &str, peers| Plugin {
            version: version.to_owned(),
            schemas: Schemas { peers },
        };
        assert_eq!(refusal(&plugin(VERSION, 2), 2), None);
        assert_eq!(refusal(&plugin("9.0.0", 7), 2), None);
        assert_eq!(refusal(&plugin("0.0.1", 1), 1), None);
        let words = refusal(&plugin("0.0.1", 1), 2).unwrap();
        assert!(words.contains("manx 0.0.1") && words.contains("none of form 2"), "{words}");
        assert_eq!(remark(&plugin(VERSION, 2)), None);
        assert!(remark(&plugin("9.0.0", 2)).unwrap().contains("9.0.0"));
    }
}
