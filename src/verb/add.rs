// SPDX-License-Identifier: Apache-2.0
//! ADD: everything that can be refused is looked at first, then addresses are
//! asked for, then one batch makes the link. What fails after that is undone in
//! reverse, until the runtime has been told of success.

mod told;

use std::{borrow::Cow, mem, net::IpAddr, os::fd::AsFd, path::Path};

use nix::errno::Errno;

use told::{result, summary};

use super::{
    Call, Emit, allowed,
    fabric::{self, Applied, Depth},
    facts, file,
    ipam::{self, Lease, Refused},
    kernel,
    ownership::{self, Claim},
    pod_side::{self, Made, ensure_all},
    policy, pools, reclaim,
    sandbox::{self, Sandbox},
    several::Given,
    tables,
    usable::Usable,
};
use crate::{
    cni::{AddResult, Code, Error},
    conf::MtuMode,
    family::Family,
    list::{Gather, PushAll},
    net::{
        Mac, Request, Socket, devconf, forwarding,
        link::{self, Link},
        route::{Found, Route, TABLE_MAIN},
    },
    nft::Ensured,
    object,
    pod::{
        Attachment, Identity, PodFacts,
        attachment::{Remote, Spec},
        mtu,
    },
    state::{Entry, Journal, directory, file::TEXT_BYTES_MAX, lock, read_own, replace},
    text::escaped,
};

/// How often the pod is looked at again because another plugin was faster.
const OVERTAKEN_MAX: u32 = 8;

/// What was found before anything was done.
struct Prepared {
    identity: Identity,
    journal: Journal,
    sandbox: Sandbox,
    host: Socket,
    facts: PodFacts,
    mac: Option<Mac>,
    claim: Claim,
    fabric: Option<Applied>,
    /// What network policies are to the pod, where they are enforced.
    policies: Option<policy::Expected>,
    /// The host link, once it is made.
    link: Option<Link>,
    /// What removes what may have been made in the pod and does not go with the link.
    staying: Vec<Request>,
    /// What the pod's other attachments got because of this one.
    given: Given,
    /// Shared with other ADDs; keeps a garbage collection out until the lease has
    /// its link.
    lock: lock::Guard,
}

/// Attaches the pod; returns what to log. Where leases of others are in the way,
/// those of dead attachments are taken back first: many runtimes never ask for a
/// garbage collection.
///
/// # Errors
/// The cause, after whatever was made has been undone.
pub(super) fn add(call: &Call, emit: Emit<'_>) -> Result<String, Error> {
    match attempt(call, emit) {
        Err(Refused { error, by_lease: true }) => {
            // No lock is held any more: a collection waits for all ADDs.
            match reclaim::reclaim(call) {
                Ok(0) => return Err(error),
                Ok(count) => log::warn!("{count} dead attachments collected: {error}"),
                Err(problem) => {
                    return Err(Error::join(vec![error.clone(), problem]).unwrap_or(error));
                }
            }
            attempt(call, emit)
        }
        outcome => outcome,
    }
    .map_err(|refused| refused.error)
}

fn attempt(call: &Call, emit: Emit<'_>) -> Result<String, Refused> {
    call.require_sound_config()?;
    ipam::require_foreign(call)?;
    let previous = previous(call)?;
    let mut prepared = prepare(call)?;
    report_ignored(call, &prepared.journal);
    let fabric = prepared.fabric.take();
    let replaced = prepared.claim.replaces.as_ref().map(|link| link.index);
    let mut usable = Usable::new(&call.root, &call.config, fabric.as_ref(), replaced);
    let lease = ipam::add(call, &mut |address, choice| {
        usable.objection(&mut prepared.host, address, choice)
    })?;
    let defaults = usable.default_routes();
    prepared.fabric = fabric;
    let outcome = attach(call, &mut prepared, &lease, &defaults).and_then(|attachment| {
        let result = result(call, previous, &lease, &attachment).encode(call.config.version)?;
        emit(&result).map_err(|error| file("write the result", Path::new("stdout"), &error))?;
        Ok((summary(&lease, &attachment), (result, attachment)))
    });
    match outcome {
        Ok((told, made)) => {
            // Memory, files and locks go with the process, as the call does.
            mem::forget((made, prepared));
            Ok(told)
        }
        Err(cause) => Err(undo(call, &mut prepared, &lease, cause).into()),
    }
}

/// Looks at all that can be refused without having done anything.
fn prepare(call: &Call) -> Result<Prepared, Error> {
    let identity = call.identity();
    let journal = call.journal();
    require_plain_ifname(&identity.ifname)?;
    let mac = mac(call)?;
    let mut sandbox = sandbox::open(&call.environment)?;
    let mut host = Socket::open().map_err(kernel)?;
    // Whoever waits for it holds up nobody.
    let policies = policy::expect(&call.config, &call.root, &call.environment.args)?;
    // Before the network's: a process of the pod may hold it for long, and a garbage
    // collection, which is alone in the network and locks no pod, must not wait for it.
    sandbox.lock()?;
    let lock = lock::shared(journal.directory())
        .map_err(|error| file("lock the network", journal.directory(), &error))?;
    // Keeps DEL, and another ADD, of this attachment out until this one has ended.
    lock.attachment(&identity.container_id, &identity.ifname, lock::ATTACHMENT_LIMIT)
        .map_err(|error| file("lock the attachment", journal.directory(), &error))?;
    let (facts, existing) = facts::pod(&mut sandbox.socket, &identity.ifname)?;
    if existing.is_some() {
        let msg = format!("{} exists in {} already", identity.ifname, call.environment.netns);
        return Err(Error::new(Code::CONFLICT, msg)
            .details("a runtime adds an interface once; DEL removes it"));
    }
    let claim = ownership::claim(&mut host, &call.root, &identity, &call.config.host_prefix)?;
    let fabric = fabric::ensure(&call.config, &call.root, &mut host, Depth::Trust)?;
    fabric.as_ref().map_or(Ok(()), |applied| pools::require_own_ranges(call, applied))?;
    let (link, staying) = (None, Vec::new());
    Ok(Prepared {
        identity,
        journal,
        sandbox,
        host,
        facts,
        mac,
        claim,
        fabric,
        policies,
        link,
        staying,
        given: Given::default(),
        lock,
    })
}

/// The kernel takes a name with a percent sign for a template to number
/// (`dev_alloc_name`, net/core/dev.c), and the link would have another name. One
/// that begins as an option does, or that a terminal obeys, is a trap for
/// whoever works on the node.
fn require_plain_ifname(ifname: &str) -> Result<(), Error> {
    let refuse = |what: &str, details: &str| {
        let msg = format!("CNI_IFNAME={ifname:?} {what}");
        Err(Error::new(Code::INVALID_ENVIRONMENT, msg).details(details))
    };
    if ifname.contains('%') {
        return refuse("is a template, not a name", "leave the percent sign out");
    }
    if ifname.starts_with('-') || matches!(escaped(ifname), Cow::Owned(_)) {
        return refuse("is no good on a command line", "give letters and digits, such as eth0");
    }
    Ok(())
}

fn previous(call: &Call) -> Result<AddResult, Error> {
    let previous = call.config.previous.as_ref();
    previous.map_or(Ok(AddResult::default()), |value| AddResult::decode(value, call.config.version))
}

fn mac(call: &Call) -> Result<Option<Mac>, Error> {
    let Some(text) = call.config.requested_mac(&call.environment.args) else { return Ok(None) };
    let invalid = |reason: String| {
        Error::new(Code::INVALID_CONFIG, format!("the requested mac is {text:?}")).details(reason)
    };
    let mac: Mac = text.parse().map_err(invalid)?;
    if mac.is_unicast() { Ok(Some(mac)) } else { Err(invalid("give a unicast address".into())) }
}

/// Makes the attachment that the lease asks for. The node's default route is
/// looked up where no `defaults` are known.
fn attach(
    call: &Call,
    prepared: &mut Prepared,
    lease: &Lease,
    defaults: &[Found],
) -> Result<Attachment, Error> {
    let fabric = prepared.fabric.as_ref();
    if let Some(applied) = fabric {
        let own = |address: &IpAddr| pools::require_own_address(call, applied, *address);
        lease.addresses.iter().try_for_each(own)?;
    }
    let family = Family::greatest(&lease.addresses);
    let choice = {
        let known = (defaults, None);
        facts::mtu(&mut prepared.host, &call.config, &call.root, fabric, family, known)?
    };
    if let Some(warning) = &choice.warning {
        log::warn!("{warning}");
    }
    require_ipv6_mtu(lease, choice.mtu)?;
    // Before there is a link that a packet could come by.
    let table = tables::ensure(&call.config, &call.root, &mut prepared.host, fabric)?;
    if table != Some(Ensured::Unchanged) {
        // What flushed the one flushed the other.
        fabric::tunnel::restore(&call.config, &call.root, &mut prepared.host)?;
    }
    if table == Some(Ensured::Repaired) {
        let table = tables::table(&call.config.name);
        log::warn!("table {table} was not as it should be and has been repaired");
    }
    let (attachment, link) = make_link(call, prepared, lease, &choice)?;
    prepared.link = Some(link.clone());
    let sources = &call.config.annotations.sources;
    allowed::give(&prepared.journal, &call.config.name, &link.name, sources)?;
    if attachment.has_ipv6() && call.config.manage_forwarding {
        ensure_all(&forwarding::keep_advertised(&mut prepared.host).map_err(kernel)?)?;
    }
    ensure_all(&forwarding::lacking(&mut prepared.host, &attachment.node))?;
    set_up_host(&mut prepared.host, &attachment, &link, &call.config.host_prefix)?;
    let pod_index = link.peer_index.unwrap_or_default();
    let attachment = set_up_pod(call, prepared, lease, &choice, attachment, pod_index)?;
    if link.index == pod_index {
        settle_carrier(&mut prepared.host, link.index)?;
    }
    if prepared.facts.attached_before {
        prepared.given.give(call, &prepared.lock, &mut prepared.sandbox)?;
    }
    Ok(attachment)
}

/// Has the kernel take notice of the carrier that the host's end got from the pod's. It does so
/// at once, unless both ends have the same index: then it takes the pair for a link without a
/// lower one, whose carrier may wait for up to a second (`linkwatch_urgent_event`,
/// net/core/link_watch.c), and drops what is sent meanwhile. A question about the link is
/// answered behind that, since Linux 6.9.
fn settle_carrier(host: &mut Socket, index: u32) -> Result<(), Error> {
    link::by_index(host, index).map(drop).map_err(kernel)
}

/// The kernel takes no IPv6 address on a link below 1280 bytes (RFC 8200).
fn require_ipv6_mtu(lease: &Lease, mtu: u32) -> Result<(), Error> {
    let minimum = mtu::IPV6_MIN;
    if mtu >= minimum || Family::greatest(&lease.addresses) == Family::V4 {
        return Ok(());
    }
    Err(Error::new(Code::INVALID_CONFIG, format!("mtu {mtu} is too small for an IPv6 address"))
        .details(format!("IPv6 needs {minimum}: raise mtu, or give the pod IPv4 only")))
}

/// Notes the attachment in the journal and makes the pair. A name that somebody
/// else took meanwhile is exchanged for one that nobody else can have.
fn make_link(
    call: &Call,
    prepared: &mut Prepared,
    lease: &Lease,
    mtu: &mtu::Choice,
) -> Result<(Attachment, Link), Error> {
    loop {
        let attachment = describe(call, prepared, lease, mtu);
        write_journal(call, prepared, lease, &attachment)?;
        if let Some(policies) = &prepared.policies {
            policies.admit(&call.root, &lease.addresses)?;
        }
        let replaced = prepared.claim.replaces.take();
        if let Some(link) = &replaced {
            allowed::forget_replaced(&prepared.journal, &call.config.name, &link.name)?;
        }
        let before: Vec<Request> =
            replaced.iter().map(|link| link::delete(link.index, &link.name)).gather();
        let pair = (&attachment.host, &attachment.pod);
        let netns = prepared.sandbox.netns.as_fd();
        let made = link::make_veth(&mut prepared.host, before, pair, netns);
        match made {
            Err(error) if error.errno == Errno::EEXIST => {
                let Prepared { host, identity, claim, .. } = prepared;
                let former = claim.name.clone();
                *claim =
                    ownership::claim_again(host, &call.root, identity, &call.config.host_prefix)?;
                if claim.name == former {
                    return Err(kernel(error));
                }
            }
            made => return Ok((attachment, made.map_err(crate::node::no_pair)?)),
        }
    }
}

fn describe(call: &Call, prepared: &Prepared, lease: &Lease, mtu: &mtu::Choice) -> Attachment {
    let fabric = prepared.fabric.as_ref();
    let routed = call.config.mtu_mode == MtuMode::Route;
    let cluster = call.config.fabric.cluster_cidrs.clone();
    let of_peers = || fabric.map(Applied::pod_cidrs);
    let cluster = routed.then(|| cluster.or_else(of_peers).unwrap_or_default());
    let own = fabric.map(|fabric| fabric.own_cidrs.as_slice());
    let remote = cluster.as_ref().map(|cluster| Remote {
        mtu: mtu.mtu,
        cluster,
        own: own.unwrap_or(&call.config.own_ranges),
    });
    Attachment::describe(&Spec {
        identity: &prepared.identity,
        host_link: &prepared.claim.name,
        config: &call.config,
        addresses: &lease.addresses,
        routes: &lease.result.routes,
        mtu: if remote.is_some() { mtu.link } else { mtu.mtu },
        mac: prepared.mac,
        facts: &prepared.facts,
        remote,
    })
}

fn write_journal(
    call: &Call,
    prepared: &Prepared,
    lease: &Lease,
    attachment: &Attachment,
) -> Result<(), Error> {
    let written = prepared.journal.write(&entry(call, prepared, lease, attachment));
    written.map_err(|error| file("write the journal", prepared.journal.directory(), &error))
}

fn entry(call: &Call, prepared: &Prepared, lease: &Lease, attachment: &Attachment) -> Entry {
    let identity = &prepared.identity;
    let (pod_namespace, pod_name) = identity.pod.clone().unzip();
    let netns = prepared.sandbox.netns.identity();
    Entry {
        network: identity.network.clone(),
        container_id: identity.container_id.clone(),
        ifname: identity.ifname.clone(),
        pod_namespace,
        pod_name,
        netns: call.environment.netns.clone(),
        netns_identity: (netns.device, netns.inode),
        host_link: attachment.host.name.clone(),
        addresses: lease.addresses.clone(),
        lease: lease.result.ips.iter().map(|ip| (ip.address, ip.gateway)).gather(),
        sources: call.config.annotations.sources.clone(),
        enforced: policy::otherwise(&call.config),
        bridged: false,
        mtu: attachment.host.mtu,
        table: Some(prepared.facts.table.unwrap_or(TABLE_MAIN)),
        ipam: call.document.ipam().clone(),
        cni_version: call.config.version.to_string(),
        args: call.environment.args.text().to_owned(),
    }
}

fn set_up_host(
    host: &mut Socket,
    wanted: &Attachment,
    link: &Link,
    prefix: &str,
) -> Result<(), Error> {
    let (side, index) = (&wanted.host_side, link.index);
    ensure_all(&side.objects.sysctls)?;
    // The mark comes first: until then DEL finds the link by its group and the
    // journal.
    let mut requests =
        vec![link::commission(link, &wanted.alias, &side.devconf, wanted.has_ipv6())];
    requests.push_all(devconf::neighbour_table(link.index, &link.name, &side.devconf));
    requests.push_all(side.making(index).into_iter().map(|(request, _)| request));
    match host.apply(&requests) {
        Err(error) if error.errno == Errno::EEXIST => {
            let mut routes = side.objects.routes.iter().map(object::Route::plain);
            routes.try_for_each(|route| take_over(host, route, index, prefix))
        }
        outcome => outcome.map_err(kernel),
    }
}

/// Leads an address to its pod where a route of the same key is in the way. It
/// is replaced unless somebody needs it, which may be an ADD that got the same
/// address at the same moment: therefore the exclusive request before.
fn take_over(host: &mut Socket, route: &Route, index: u32, prefix: &str) -> Result<(), Error> {
    facts::require_free(host, route.destination.ip(), Some(index), prefix)?;
    host.apply(&[route.replace(index)]).map_err(kernel)
}

/// Makes the pod's side. Attachments of ours wait for one another; a plugin of
/// somebody else, which a runtime runs at the same time, may have made a route since
/// the pod was looked at. It is looked at again then, and ours go beside it.
fn set_up_pod(
    call: &Call,
    prepared: &mut Prepared,
    lease: &Lease,
    mtu: &mtu::Choice,
    mut attachment: Attachment,
    index: u32,
) -> Result<Attachment, Error> {
    prepared.staying = attachment.pod_side.staying().removal(index);
    let leftovers = &prepared.facts.leftovers;
    let mut made = pod_side::make(&mut prepared.sandbox, &attachment, index, leftovers)?;
    for _ in 0..OVERTAKEN_MAX {
        let Made::Overtaken(error) = made else { return Ok(attachment) };
        let pod = &mut prepared.sandbox.socket;
        pod_side::unmake_routes(pod, &attachment.pod_side, index)?;
        prepared.facts = facts::pod(pod, &attachment.pod.name)?.0;
        let beside = describe(call, prepared, lease, mtu);
        if beside.pod_side == attachment.pod_side {
            return Err(kernel(error));
        }
        log::info!("{error}: another plugin came first; tried again beside it");
        attachment = beside;
        prepared.staying.push_all(attachment.pod_side.staying().removal(index));
        write_journal(call, prepared, lease, &attachment)?;
        made = pod_side::make_routes(&mut prepared.sandbox.socket, &attachment.pod_side, index)?;
    }
    match made {
        Made::Whole => Ok(attachment),
        Made::Overtaken(error) => Err(kernel(error)),
    }
}

/// Undoes what a failed ADD made: the link and with it all that hangs on it, the
/// pod's rules, its policies, then the address, then the journal's entry. A link that this ADD did not make
/// is another's, whatever its name. The cause comes first in what is reported,
/// the failures of the undoing behind it.
fn undo(call: &Call, prepared: &mut Prepared, lease: &Lease, cause: Error) -> Error {
    let mut errors = vec![cause.clone()];
    let Prepared { identity, journal, host, link, sandbox, staying, given, .. } = prepared;
    if let Some(link) = link.take() {
        errors.push_all(host.apply(&[link::delete(link.index, &link.name)]).map_err(kernel).err());
        allowed::forget(host, journal, &identity.network, &[link.name.as_str()]);
    }
    errors.push_all(sandbox.socket.apply(staying).map_err(kernel).err());
    errors.push_all(given.take_back(&mut sandbox.socket));
    // One that has a link still is not let out.
    if prepared.policies.is_some() && errors.len() == 1 {
        let taken_back = policy::take_back(&call.root, identity, &lease.addresses);
        errors.push_all(taken_back.map_err(Error::from).err());
    }
    errors.push_all(ipam::release(call).err());
    let forgotten = journal.remove(&identity.container_id, &identity.ifname);
    errors.push_all(
        forgotten.map_err(|error| file("remove the entry", journal.directory(), &error)).err(),
    );
    Error::join(errors).unwrap_or(cause)
}

/// Says once per configuration which of Calico's keys have no effect here, and of each pod
/// which of its annotations have none.
fn report_ignored(call: &Call, journal: &Journal) {
    let unserved = call.config.annotations.unserved.join(", ");
    if !unserved.is_empty() {
        log::warn!("{}: pod annotations without effect: {unserved}", call.subject());
    }
    let ignored = call.config.ignored.join(", ");
    let note = journal.directory().join(".ignored");
    let said = || read_own(&note, TEXT_BYTES_MAX).unwrap_or_default();
    if ignored.is_empty() || said() == ignored.as_bytes() {
        return;
    }
    log::warn!("ignored, for they need Calico's API server or policy engine: {ignored}");
    let _ = directory(journal.directory());
    let _ = replace(&note, ignored.as_bytes());
}
