//! Checks of packets that the kernel drops for the device that they came by.

use super::{Answer, Seen, links};
use crate::{node::Snapshot, object::reverse_path as key, text::few::some_of};

/// `rp_filter`: only the device by which the way back leads.
const STRICT: u64 = 1;
/// Any device, if there is a way back at all.
const LOOSE: u64 = 2;

/// Strict devices harm nobody whose packets come and go by the same one, unless packets are
/// dropped now. The greater of the device's value and that of all holds.
pub(super) fn rp_filter(snapshot: &Snapshot) -> Answer {
    let (before, after) = snapshot.surroundings.reverse_path.unwrap_or_default();
    let dropped = after.saturating_sub(before);
    if dropped == 0 {
        return links::rp_filter(snapshot);
    }
    let kernel = &snapshot.kernel;
    let all = kernel.number(&key("all")).unwrap_or_default();
    let devices = kernel.links.iter().filter(|link| link.name != "lo");
    let strict: Vec<(&str, u64)> = devices
        .filter_map(|link| Some((link.name.as_str(), kernel.number(&key(&link.name))?)))
        .filter(|(_, own)| all.max(*own) == STRICT)
        .collect();
    if strict.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = strict.iter().map(|(name, _)| *name).collect();
    let evidence = format!(
        "{dropped} packets in a moment, and {after} since boot, came by another device than the way \
         back to their source, and were dropped: rp_filter is strict at {}",
        some_of(&names)
    );
    let set = |value: &dyn Fn(u64) -> u64| {
        let pairs: Vec<String> =
            strict.iter().map(|(name, own)| format!("{}={}", key(name), value(*own))).collect();
        format!("sysctl -w {}", pairs.join(" "))
    };
    Ok(vec![Seen::warning("rp_filter", evidence).fix(set(&|_| LOOSE)).undo(set(&|own| own))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::Link;

    fn node(all: &str, own: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let link = |name: &str| Link { name: name.to_owned(), ..Link::default() };
        snapshot.kernel.links = vec![link("lo"), link("eth0"), link("eth1.5")];
        let values = [("all", all), ("eth0", own), ("eth1.5", "2"), ("lo", "1")];
        snapshot.kernel.sysctls = values.map(|(name, value)| (key(name), value.to_owned())).into();
        snapshot.surroundings.reverse_path = Some((7, 9));
        snapshot
    }

    #[test]
    fn strict_devices_are_named_while_packets_are_dropped() {
        for (all, own) in [("0", "1"), ("1", "0"), ("1", "1")] {
            let mut snapshot = node(all, own);
            let [one] = &rp_filter(&snapshot).unwrap()[..] else { panic!("{all} {own}") };
            assert!(one.evidence.contains("2 packets") && one.evidence.ends_with("at eth0"));
            assert_eq!(one.fix, "sysctl -w net/ipv4/conf/eth0/rp_filter=2");
            assert_eq!(one.undo, format!("sysctl -w net/ipv4/conf/eth0/rp_filter={own}"));
            snapshot.surroundings.reverse_path = Some((9, 9));
            assert!(rp_filter(&snapshot).unwrap().is_empty(), "still");
        }
        for (all, own) in [("0", "0"), ("2", "1"), ("1", "2")] {
            assert!(rp_filter(&node(all, own)).unwrap().is_empty(), "{all} {own}");
        }
    }
}
