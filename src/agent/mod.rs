//! The agent: what a cluster's API server knows of its nodes, as a peers file.
//!
//! It watches the Nodes, decides which of them are served ([`view`]) and whether a list
//! of them may be believed at all ([`belief`]). Both are pure: they know no Kubernetes
//! types, no file, and no clock but the time that they are given.

// Until the source of the Nodes uses them.
#[cfg_attr(not(test), expect(dead_code))]
mod belief;
mod record;
#[cfg_attr(not(test), expect(dead_code))]
mod view;
