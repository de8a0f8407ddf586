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

/// Which policies there are only the API server knows. That some were in force shows in
/// what another plugin was configured to, or made.
pub(super) fn policy_unenforced(snapshot: &Snapshot) -> Answer {
    let asks = snapshot.files.iter().filter(|file| file.ours && file.policy);
    let asks: Vec<String> = asks.map(|file| file.path.display().to_string()).collect();
    let chains = snapshot.surroundings.policy_chains;
    let fix = "kubectl get networkpolicy -A lists what there is; manx policy apply enforces what a \
               file says for the pods of this node, or a controller beside manx does";
    let mut seen = Vec::new();
    if !asks.is_empty() {
        let evidence = format!(
            "{} asks for NetworkPolicy by Calico's object policy, which has no effect",
            some_of(&asks)
        );
        seen.push(Seen::warning("network policy", evidence).fix(fix));
    } else if chains > 0 && !snapshot.networks.is_empty() {
        let evidence = format!(
            "{chains} chains of calico-node say that policies were in force, and pods of ours pass none"
        );
        seen.push(Seen::warning("network policy", evidence).fix(fix));
    } else {
        return Err(
            "no configuration asks for NetworkPolicy, and no chains of calico-node say that \
                    there was any; the objects are the API server's"
                .to_owned(),
        );
    }
    Ok(seen)
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

    #[test]
    fn policies_that_were_in_force_are_told() {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Network::default());
        assert!(policy_unenforced(&snapshot).is_err(), "nothing tells");
        snapshot.surroundings.policy_chains = 3;
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("3 chains"), "{}", one.evidence);
        let path = "/etc/cni/net.d/10-calico.conflist".into();
        let ours = crate::node::File { path, ours: true, policy: true, ..Default::default() };
        snapshot.files = vec![crate::node::File { ours: false, ..ours.clone() }, ours];
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("/etc/cni/net.d/10-calico.conflist asks"));
        snapshot.files.pop();
        snapshot.surroundings.policy_chains = 0;
        assert!(policy_unenforced(&snapshot).is_err(), "another's file");
    }
}
