// SPDX-License-Identifier: Apache-2.0
//! What there is to say beside the changes.

use crate::{
    doctor,
    finding::Finding,
    list::Gather,
    node::{self, Misfit, apply::Report, changes::Mtus},
};

/// What apply cannot mend: ranges that are not this node's, and what is `wanting` in
/// spite of all changes.
pub(super) fn errors(misfits: &[Misfit], wanting: Vec<String>) -> Vec<String> {
    let sentence = |misfit: &Misfit| doctor::of_misfit(misfit).sentence();
    misfits.iter().map(sentence).chain(wanting).gather()
}

/// What an operator should know besides. That live pods have an MTU which the node
/// does not carry any more is told only: what is in a pod is the pod's.
pub(super) fn notes([of_fabrics, of_tables]: [Vec<String>; 2], mtus: &[Mtus]) -> Vec<String> {
    let wide = mtus.iter().flat_map(|Mtus { network: name, new, pods }| {
        let mtu = Some(*new);
        let network = node::Network { name: name.clone(), mtu, ..node::Network::default() };
        doctor::of_wide_pods(&network, pods.iter().map(|entry| (entry, entry.mtu)))
    });
    let wide: Vec<String> = wide.map(|finding: Finding| finding.sentence()).gather();
    [of_fabrics, wide, of_tables].concat()
}

/// Ranges that are not this node's.
pub(super) fn misfits(report: &Report) -> Vec<Misfit> {
    report.misfits.iter().map(Misfit::from).gather()
}

/// All there is to say of a pass beside what was changed.
pub(super) fn of_report(report: &Report) -> Vec<String> {
    let wrong = errors(&misfits(report), report.wanting.clone());
    let notes = notes(report.notes.clone(), &report.mtus);
    let wrong = wrong.iter().map(|wrong| format!("error: {wrong}"));
    let notes = notes.iter().map(|note| format!("note: {note}"));
    wrong.chain(notes).chain(report.errors.iter().map(|error| format!("manx: {error}"))).gather()
}
