//! The agent: what a cluster's API server knows of its nodes, as a peers file.
//!
//! It watches the Nodes ([`nodes`]), decides which of them are served ([`view`]) and
//! whether a list of them may be believed at all ([`belief`]). The last two are pure: they
//! know no Kubernetes types, no file, and no clock but the time that they are given.
//!
//! What speaks to the API server runs in a thread of its own and tells of complete lists
//! of nodes ([`source`]). All others block, as the rest of manx does.

mod backoff;
#[cfg_attr(not(test), expect(dead_code))]
mod belief;
mod connect;
#[cfg_attr(not(test), expect(dead_code))]
mod nodes;
mod record;
#[cfg_attr(not(test), expect(dead_code))]
mod source;
#[cfg_attr(not(test), expect(dead_code))]
mod view;
