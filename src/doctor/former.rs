// SPDX-License-Identifier: Apache-2.0
//! Checks of what another plugin's agent left on the node.

use super::{Answer, Seen};
use crate::{node::Snapshot, text::few::some_of};

/// What Felix takes for links of its own, if it is not told otherwise.
const PREFIX: &str = "cali";

/// Links of another name do not meet these chains.
pub(super) fn calico_chains(snapshot: &Snapshot) -> Answer {
    let tables = &snapshot.surroundings.calico_chains;
    let network = snapshot.networks.iter().find(|it| it.host_prefix.starts_with(PREFIX));
    let Some(network) = network.filter(|_| !tables.is_empty()) else {
        return Ok(Vec::new());
    };
    let evidence = format!(
        "{} have chains of calico-node, which drop what comes from links named {PREFIX} that it \
         has not seen, as those of network {} are. What the command tells is done with --apply, and \
         calico-node alone would make these chains again",
        some_of(tables),
        network.name
    );
    // It changes nothing, and says what has to be done first.
    Ok(vec![Seen::error("firewall", evidence).fix("manx adopt calico")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Network;

    #[test]
    fn chains_of_felix_matter_to_links_of_its_name() {
        let mut snapshot = Snapshot::default();
        let host_prefix = "cali".to_owned();
        snapshot.networks.push(Network { host_prefix, ..Network::default() });
        assert!(calico_chains(&snapshot).unwrap().is_empty());
        snapshot.surroundings.calico_chains = vec!["table ip filter".to_owned()];
        let [one] = &calico_chains(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("table ip filter") && one.fix == "manx adopt calico");
        snapshot.networks[0].host_prefix = "pod".to_owned();
        assert!(calico_chains(&snapshot).unwrap().is_empty());
    }
}
