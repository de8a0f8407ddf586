//! Tells that something about links, addresses, routes, neighbours or forwarding
//! has changed.

use super::{Error, Monitor};
use crate::netlink::Route;

/// RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
/// RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE,
/// RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF (include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25];

/// Subscribes to the changes of the calling thread's namespace.
///
/// # Errors
/// The failing system call.
pub fn subscribe() -> Result<Monitor, Error> {
    Monitor::open::<Route>(&GROUPS, "changes", |_| true)
}
