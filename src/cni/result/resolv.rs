// SPDX-License-Identifier: Apache-2.0
//! Resolver settings as a node has them (`resolv.conf(5)`).

use super::Dns;
use crate::list::PushAll;

impl Dns {
    /// Reads the text of a resolver's configuration. Of several `domain` the last
    /// one counts; lists add up; what is not known is left out.
    pub fn of_resolv_conf(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let values = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => dns.nameservers.push_all(values.take(1)),
                Some("domain") => dns.domain = values.take(1).last().or(dns.domain),
                Some("search") => dns.search.push_all(values),
                Some("options") => dns.options.push_all(values),
                _ => {}
            }
        }
        dns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_read_and_comments_are_not() {
        let text = "# nameserver 192.0.2.9\n; search nowhere\nnameserver 192.0.2.1\n\
                    nameserver 2001:db8::1\ndomain example.net\nsearch a.example b.example\n\
                    \toptions ndots:5 edns0\nsortlist 192.0.2.0\nnameserver\n";
        let dns = Dns::of_resolv_conf(text);
        assert_eq!(dns.nameservers, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(dns.domain.as_deref(), Some("example.net"));
        assert_eq!(dns.search, ["a.example", "b.example"]);
        assert_eq!(dns.options, ["ndots:5", "edns0"]);
        assert!(Dns::of_resolv_conf("\n# nothing\n").is_empty());
    }
}
