// SPDX-License-Identifier: Apache-2.0
//! Connections that policies do not allow any more, cut: so many at once, until none is left.

use std::{cell::Cell, net::IpAddr};

use crate::{
    list::{Gather, PushAll, distinct},
    net::{self, Socket, addr, conntrack},
    policy::{Flow, Policies, allows},
};

/// So many connections are cut at once at most: each is remembered for a while, and nobody who
/// changes the table is to wait for more.
pub(super) const AT_ONCE: usize = 16_384;
/// How often it is tried by whoever does not come back, if nothing comes of it.
const FRUITLESS_MAX: u32 = 3;

/// What was cut at once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cut {
    /// How many connections were.
    pub(crate) count: usize,
    /// How many are not allowed and stay for now.
    pub(crate) left: usize,
    /// What an operator should know besides.
    pub(crate) notes: Vec<String>,
}

/// Cuts connections that the table would not let begin, up to a number of them.
///
/// # Errors
/// Why none could be.
pub(super) fn some(wanted: &Policies, limit: usize) -> Result<Cut, net::Error> {
    let (found, more) = forbidden(wanted, limit)?;
    let mut cut = Cut { left: more, ..Cut::default() };
    if found.is_empty() {
        return Ok(cut);
    }
    let with_ports = found.iter().filter(|connection| connection.has_ports);
    let ends = with_ports.map(|it| (it.source, it.destination, it.protocol));
    if let Err(error) = wanted.cut(&ends.gather()) {
        let note = format!("connections that are cut may be taken up by their servers: {error}");
        cut.notes.push(note);
    }
    let failed = conntrack::forget(&found)?;
    if let Some(first) = failed.first() {
        cut.notes.push(format!("{} connections stay: {}", failed.len(), first.error));
    }
    cut.count = found.len() - failed.len();
    cut.left += failed.len();
    Ok(cut)
}

/// Cuts by turns until nothing is left; where nothing comes of several turns in a row, what is
/// left stays, and a note says so.
pub(super) fn all(turn: &mut dyn FnMut() -> Result<Cut, net::Error>) -> Cut {
    let (mut total, mut fruitless) = (Cut::default(), 0);
    while fruitless < FRUITLESS_MAX {
        let why = match turn() {
            Ok(cut) => {
                total.count += cut.count;
                total.left = cut.left;
                let new = cut.notes.into_iter().filter(|note| !total.notes.contains(note));
                let new: Vec<String> = new.gather();
                total.notes.push_all(new);
                if cut.left == 0 {
                    return total;
                }
                fruitless = if cut.count == 0 { fruitless + 1 } else { 0 };
                format!("{} are left", cut.left)
            }
            Err(error) => {
                fruitless += 1;
                error.to_string()
            }
        };
        if fruitless == FRUITLESS_MAX {
            total.notes.push(format!(
                "connections that are established stay, whatever the policies say: {why}; another \
                 apply tries again"
            ));
        }
    }
    total
}

/// The connections that the table would not let begin, up to a number, and how many more there
/// are. What the node itself takes part in is not forwarded.
fn forbidden(
    wanted: &Policies,
    limit: usize,
) -> Result<(Vec<conntrack::Connection>, usize), net::Error> {
    if wanted.ways.iter().all(|way| way.classes.is_empty()) {
        return Ok((Vec::new(), 0));
    }
    let own = addr::all(&mut Socket::open()?)?;
    let addresses = distinct(own.into_iter().map(|(_, network)| network.ip()).gather());
    let is_own = |address: &IpAddr| addresses.binary_search(address).is_ok();
    let count = Cell::new(0usize);
    let found = conntrack::list(&|connection| {
        let (source, destination) = (connection.source.ip(), connection.destination.ip());
        let port = connection.has_ports.then(|| connection.destination.port());
        let flow = Flow { source, destination, protocol: connection.protocol, port };
        let is_meant = !is_own(&source) && !is_own(&destination) && !allows(wanted, &flow);
        count.set(count.get() + usize::from(is_meant));
        is_meant && count.get() <= limit
    })?;
    let more = count.get().saturating_sub(found.len());
    Ok((found, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the turns come to that are these, and how many of them there were.
    fn after(turns: &[Result<(usize, usize), &str>]) -> (Cut, usize) {
        let mut asked = 0;
        let total = all(&mut || {
            let turn = turns.get(asked).copied().unwrap_or(Ok((0, 0)));
            asked += 1;
            match turn {
                Ok((count, left)) => {
                    Ok(Cut { count, left, notes: vec!["the same note".to_owned()] })
                }
                Err(words) => {
                    let error =
                        std::io::Error::from_raw_os_error(nix::errno::Errno::ENOBUFS as i32);
                    Err(net::Error::from_io(words, &error))
                }
            }
        });
        (total, asked)
    }

    #[test]
    fn whoever_cuts_goes_on_until_nothing_is_left() {
        let (total, asked) = after(&[Ok((10, 25)), Ok((10, 15)), Err("no room"), Ok((15, 0))]);
        assert_eq!((total.count, total.left, asked), (35, 0, 4));
        assert_eq!(total.notes, ["the same note"]);
        assert_eq!(after(&[Ok((0, 0))]).1, 1);
    }

    #[test]
    fn what_cannot_be_cut_is_told_and_ends() {
        let (total, asked) = after(&[Ok((3, 2)), Ok((0, 2)), Ok((0, 2)), Ok((0, 2)), Ok((9, 9))]);
        assert_eq!((total.count, total.left, asked), (3, 2, 4));
        let last = total.notes.last().unwrap();
        assert!(last.contains("2 are left; another apply tries again"), "{last}");
        let (total, asked) = after(&[Err("no room"); 9]);
        assert_eq!((total.count, asked), (0, 3));
        assert!(total.notes[0].contains("no room"), "{:?}", total.notes);
    }
}
