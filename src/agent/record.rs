//! A node of the cluster, as far as anything here depends on it.

/// What is kept of a Node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    /// RFC 3339 in UTC and whole seconds, as the API server writes it: earlier texts are
    /// earlier times.
    pub(crate) created: Box<str>,
    /// Those of type InternalIP.
    pub(crate) addresses: Vec<Box<str>>,
    pub(crate) pod_cidrs: Vec<Box<str>>,
}

impl Record {
    /// Older Nodes come first, and each has its place however the list came.
    pub(crate) fn age(&self) -> (bool, &str, &str, &str) {
        (self.created.is_empty(), &self.created, &self.uid, &self.name)
    }
}
