//! Whether network policies are enforced where they are expected to be.

use super::{Answer, Seen};
use crate::{node::Snapshot, policy::TABLE, text::few::some_of};

/// Which policies there are only the API server knows. That some are expected to be in force
/// shows in a configuration, ours or another plugin's, or in what that made.
pub(super) fn policy_unenforced(snapshot: &Snapshot) -> Answer {
    let enforcing = snapshot.networks.iter().filter(|network| network.enforces_policy);
    let enforcing: Vec<&str> = enforcing.map(|network| network.name.as_str()).collect();
    if !enforcing.is_empty() {
        return Ok(lost(snapshot).into_iter().collect());
    }
    let asks = snapshot.files.iter().filter(|file| file.ours && file.policy);
    let asks: Vec<String> = asks.map(|file| file.path.display().to_string()).collect();
    let chains = snapshot.surroundings.policy_chains;
    let evidence = if !asks.is_empty() {
        format!(
            "{} asks for NetworkPolicy by Calico's object policy, which has no effect",
            some_of(&asks)
        )
    } else if chains > 0 && !snapshot.networks.is_empty() {
        format!(
            "{chains} chains of calico-node say that policies were in force, and pods of ours pass none"
        )
    } else {
        return Err(
            "no configuration asks for NetworkPolicy, and no chains of calico-node say that \
                    there was any; the objects are the API server's"
                .to_owned(),
        );
    };
    let fix = "kubectl get networkpolicy -A lists what there is; manx policy apply enforces what a \
               file says for the pods of this node, and \"networkPolicy\": \"enforce\" in the \
               configuration lets no later pod be without";
    Ok(vec![Seen::warning("network policy", evidence).fix(fix)])
}

/// What the table lacks of pods on which policies are enforced.
fn lost(snapshot: &Snapshot) -> Option<Seen> {
    let mut tables = snapshot.compared.tables.iter();
    let table = tables.find(|table| table.wanted.name == TABLE)?;
    let differences = &table.held.differences;
    let evidence = format!("pods that policies isolate may be open: {}", some_of(differences));
    let object = format!("nftables table {TABLE}");
    (!differences.is_empty()).then(|| Seen::error(object, evidence).fix("manx apply"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{File, Network, OfTable};
    use crate::object::{HeldTable, Table};

    #[test]
    fn policies_that_were_in_force_are_told() {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Network::default());
        assert!(policy_unenforced(&snapshot).is_err(), "nothing tells");
        snapshot.surroundings.policy_chains = 3;
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("3 chains"), "{}", one.evidence);
        let path = "/etc/cni/net.d/10-calico.conflist".into();
        let ours = File { path, ours: true, policy: true, ..Default::default() };
        snapshot.files = vec![File { ours: false, ..ours.clone() }, ours];
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.starts_with("/etc/cni/net.d/10-calico.conflist asks"));
        let all = snapshot.clone();
        snapshot.files.pop();
        snapshot.surroundings.policy_chains = 0;
        assert!(policy_unenforced(&snapshot).is_err(), "another's file");
        // Where it is enforced it does not matter who else asks for it.
        let mut snapshot = all;
        snapshot.networks[0].enforces_policy = true;
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
    }

    #[test]
    fn what_the_table_lacks_of_pods_is_an_error() {
        let mut snapshot = Snapshot::default();
        snapshot.networks.push(Network { enforces_policy: true, ..Network::default() });
        let table = |name: &str, differences: &[&str]| OfTable {
            network: String::new(),
            wanted: Table { name: name.to_owned(), purpose: String::new(), description: None },
            held: HeldTable {
                name: name.to_owned(),
                differences: differences.iter().map(|&text| text.to_owned()).collect(),
            },
            note: None,
        };
        snapshot.compared.tables = vec![table("manx-x", &["other"]), table(TABLE, &[])];
        assert!(policy_unenforced(&snapshot).unwrap().is_empty());
        snapshot.compared.tables = vec![table(TABLE, &["set class-in4 lacks 10.1.0.5 : 7"])];
        let [one] = &policy_unenforced(&snapshot).unwrap()[..] else { panic!() };
        assert!(one.evidence.ends_with("open: set class-in4 lacks 10.1.0.5 : 7"));
        assert_eq!(
            (one.object.as_str(), one.fix.as_str()),
            ("nftables table manx.policy", "manx apply")
        );
    }
}
