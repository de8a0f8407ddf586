// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between us and nf_tables.

use std::fmt;

use nix::errno::Errno;

use crate::netlink;

/// A failure to read or change our tables of the network namespace.
/// Its text is one line that names the object and the cause; the advice is
/// [`next_step`](Self::next_step).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// The caller asks for something that no rule set can say.
    Invalid(Box<Invalid>),
    /// The kernel refused.
    Kernel(netlink::Error),
    /// Others change the firewall faster than it can be read.
    Contended(Box<Contended>),
}

/// What no rule set can say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// The table's name as given.
    pub table: String,
    /// What is wrong with the request.
    pub why: String,
}

/// What changed too often.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contended {
    /// The table's name.
    pub table: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl Error {
    pub(super) fn invalid(table: &str, why: impl Into<String>) -> Self {
        Self::Invalid(Box::new(Invalid { table: table.to_owned(), why: why.into() }))
    }

    pub(super) fn contended(table: impl Into<String>, attempts: u32) -> Self {
        Self::Contended(Box::new(Contended { table: table.into(), attempts }))
    }

    /// With what it went wrong.
    pub fn object(&self) -> String {
        match self {
            Self::Invalid(it) => format!("nftables table {:?}", it.table),
            Self::Kernel(error) => format!("cannot {}", error.what),
            Self::Contended(it) => format!("cannot read table inet {}", it.table),
        }
    }

    /// Why.
    pub fn cause(&self) -> String {
        match self {
            Self::Invalid(it) => it.why.clone(),
            Self::Kernel(error) => {
                format!("{}{}", error.errno.desc(), in_words(error.words.as_deref()))
            }
            Self::Contended(it) => {
                format!("the rule set changed during each of {} reads", it.attempts)
            }
        }
    }

    /// The kernel's error number, where the failure is the kernel's.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel(error) => Some(error.errno),
            _ => None,
        }
    }

    /// What the reader can do about it.
    pub fn next_step(&self) -> &'static str {
        let errno = match self {
            Self::Invalid(_) => return "correct the configuration of the network",
            Self::Contended(_) => return "try again",
            Self::Kernel(error) => error.errno,
        };
        match errno {
            Errno::EPERM | Errno::EACCES => {
                "needs CAP_NET_ADMIN in the network namespace, and a table that no other process owns"
            }
            Errno::EMSGSIZE | Errno::ENOBUFS | Errno::ENOMEM => {
                "raise net.core.wmem_max, or give fewer and larger networks that are never masqueraded"
            }
            // No answer.
            Errno::ENODATA => "look for nf_tables in the kernel's log",
            Errno::ERESTART | Errno::EAGAIN | Errno::EINTR | Errno::EBUSY => "try again",
            _ => {
                "nf_tables is needed, from Linux 5.7 on, with nft_fib_inet for sourceCheck, and \
                 with nft_chain_nat and nft_masq for ipMasq: load these modules, or turn off the \
                 one that needs them"
            }
        }
    }

    /// Whether the kernel has no nf_tables at all, and so no table either: no
    /// netlink family for it (`socket`), or nobody behind that (nfnetlink.c).
    pub fn is_without_tables(&self) -> bool {
        let none = [Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];
        self.errno().is_some_and(|errno| none.contains(&errno))
    }

    /// Whether somebody else's change came between our reading and our writing.
    pub(super) fn is_race(&self) -> bool {
        let races = [Errno::ERESTART, Errno::EAGAIN, Errno::EINTR, Errno::EBUSY];
        self.errno().is_some_and(|errno| races.contains(&errno))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object(), self.cause())
    }
}

impl std::error::Error for Error {}

impl From<netlink::Error> for Error {
    fn from(error: netlink::Error) -> Self {
        Self::Kernel(error)
    }
}

fn in_words(words: Option<&str>) -> String {
    words.map(|words| format!(" ({words})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_object_cause_and_the_words_of_the_kernel() {
        let what = "create rule 4 (masquerade) of table inet manx-a";
        let error = Error::Kernel(netlink::Error::new(what, Errno::ENOENT));
        let plain = "cannot create rule 4 (masquerade) of table inet manx-a: \
                     No such file or directory";
        assert_eq!(error.to_string(), plain);
        assert!(error.next_step().contains("nft_masq"));
        let refusal = netlink::Error::new(what, Errno::ENOENT);
        let error = Error::Kernel(refusal.words("no such expression".to_owned()));
        assert_eq!(error.to_string(), format!("{plain} (no such expression)"));
    }
}
