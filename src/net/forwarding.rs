//! What has to be seen to before a node starts to forward.

use super::{
    Error, Socket, link,
    route::{self, PROTOCOL_RA},
    sysctl::{self, Sysctl},
};

/// Forwarding of IPv4, for all links at once.
pub const IPV4: &str = "net/ipv4/ip_forward";
/// Forwarding of IPv6, for all links at once.
pub const IPV6: &str = "net/ipv6/conf/all/forwarding";

/// The settings that keep a node's default route when it becomes a router: a
/// router heeds no advertisements unless told to (`accept_ra` 2;
/// Documentation/networking/ip-sysctl.rst). To be made before IPv6 forwarding
/// is turned on; none where it is on.
///
/// # Errors
/// Of the kernel's answers.
pub fn keep_advertised_routes(socket: &mut Socket) -> Result<Vec<Sysctl>, Error> {
    if sysctl::read(IPV6).is_ok_and(|value| value == "1") {
        return Ok(Vec::new());
    }
    let advertised = route::of_protocol(socket, true, PROTOCOL_RA)?;
    let mut devices: Vec<u32> = (advertised.iter())
        .filter(|found| found.route.destination.prefix() == 0)
        .flat_map(|found| found.devices.clone())
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let mut wanted = Vec::new();
    for device in devices {
        let Some(link) = link::by_index(socket, device)? else { continue };
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            wanted.push(Sysctl::new(key, 2));
        }
    }
    Ok(wanted)
}
