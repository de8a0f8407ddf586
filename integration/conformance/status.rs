// SPDX-License-Identifier: Apache-2.0
//! Rules 65 to 68: STATUS.

use std::path::Path;
use std::time::Duration;

use crate::harness::{Plugin, Pod};
use crate::rule::Level::{DeFacto, Must, Should};
use crate::rule::{Rule, Stop, Verdict, brief, ensure, fails, in_case, ok, rule};
use crate::suite::Suite;

pub const RULES: &[Rule] = &[
    rule("65", Must, "STATUS succeeds, or fails with IPAM's STATUS; ADD works on", asks_ipam),
    rule("66", Should, "STATUS fails with 50 or 51 when the pool is empty", exhausted),
    rule("67", DeFacto, "STATUS prints nothing and takes milliseconds", quick),
    rule("68", DeFacto, "an IPAM plugin without STATUS fails no STATUS", ipam_without),
];

/// Our own IPAM plugin.
const OWN_IPAM: &str = "manx-ipam";
const ON_PURPOSE: &str = "a runtime reports a node whose STATUS fails as not ready, and its healthy \
    pods are evicted: a pool that live pods have used up is a warning, and the ADD fails";

fn asks_ipam(suite: &Suite) -> Verdict {
    let (node, pod) = (suite.node(), Pod::new("a"));
    ok(node.plugin.status())?;
    let (plugin, ipam) = node.scripted();
    ok(plugin.status())?;
    ensure!(ipam.log() == ["STATUS"], "IPAM saw {:?}", ipam.log());
    ipam.fails("STATUS", 50, "the pool is not ready");
    let error = fails(plugin.status())?;
    ensure!(matches!(error["code"].as_u64(), Some(50 | 51)), "code 50 or 51 expected: {error}");
    in_case("ADD after a failing STATUS", ok(plugin.add(&pod)))?;
    in_case("DEL after a failing STATUS", ok(plugin.del(&pod)))?;
    Ok(())
}

fn exhausted(suite: &Suite) -> Verdict {
    let node = suite.node();
    node.needs_pool()?;
    // A /30 has one address for pods besides its gateway.
    let plugin = node.subnets(&["10.244.7.0/30"]);
    ok(plugin.status())?;
    let pod = Pod::new("a");
    ok(plugin.add(&pod))?;
    let reply = plugin.status();
    if reply.succeeded() && suite.own && suite.ipam == OWN_IPAM {
        ensure!(reply.stderr.contains("no free address"), "it is not even told: {}", brief(&reply));
        return Err(Stop::Differs(ON_PURPOSE.into()));
    }
    if reply.succeeded() && suite.find(&suite.ipam).is_some_and(|ipam| accepts_full(&plugin, &ipam))
    {
        return Err(Stop::Skip(format!("{} itself succeeds when its pool is empty", suite.ipam)));
    }
    let error = fails(reply)?;
    ensure!(matches!(error["code"].as_u64(), Some(50 | 51)), "code 50 or 51 expected: {error}");
    ok(plugin.del(&pod))?;
    ok(plugin.status())?;
    Ok(())
}

/// Whether an IPAM plugin, asked by itself, finds nothing wrong.
fn accepts_full(plugin: &Plugin, ipam: &Path) -> bool {
    Plugin::new(plugin.host(), ipam).config(plugin.conf.clone()).status().succeeded()
}

fn quick(suite: &Suite) -> Verdict {
    let node = suite.node();
    let (mut best, mut start) = (Duration::MAX, Duration::MAX);
    for _ in 0..15 {
        let reply = node.plugin.status();
        ensure!(reply.stdout.is_empty(), "stdout holds {:?}", reply.stdout);
        best = best.min(reply.took);
        ok(reply)?;
        start = start.min(node.plugin.version().took);
    }
    // The best of several, and of a machine on which a program merely starts slowly no more is
    // asked, as other tests run beside this one.
    let limit = Duration::from_millis(50).max(start * 10);
    ensure!(best < limit, "the quickest of 15 took {best:?}, VERSION {start:?}");
    Ok(())
}

fn ipam_without(suite: &Suite) -> Verdict {
    let node = suite.node();
    let (plugin, ipam) = node.scripted();
    for (code, msg) in
        [(4, "unknown CNI_COMMAND: STATUS"), (1, "config version does not allow STATUS")]
    {
        ipam.fails("STATUS", code, msg);
        let reply = plugin.status();
        ensure!(reply.status == 0, "IPAM answers code {code}: {}", brief(&reply));
    }
    Ok(())
}
