// SPDX-License-Identifier: Apache-2.0
//! Calico's objects as a source of nodes: three lists that are watched at once. Nothing is
//! told before all are whole, nor while one of them cannot be asked for.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::pending,
    mem,
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{Either, join3, select};
use kube::{
    Client, Error,
    api::{GetParams, ListParams},
    core::Request,
};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    super::{
        backoff::part_of,
        connect::{Access, SILENT, chain},
        metrics::Api,
        nodes::PATH,
        plugin::Installed,
        source::{Teller, Told},
        watched::{Ear, Limits, Watched},
    },
    blocks::{Block, Blocks},
    input::Input,
    nodes::{CalicoNode, CalicoNodes},
    pools::{Pool, Pools},
    settle::settle,
    wish::Wish,
};
use crate::{
    fabric::nodes::FORM_PLAIN,
    net::{Socket, addr},
};

/// Where Calico's objects may be, the usual one first.
const GROUPS: [&str; 2] = ["crd.projectcalico.org/v1", "projectcalico.org/v3"];
/// How soon it is asked again where they are, while they are nowhere.
const AGAIN: Duration = Duration::from_secs(10);
/// How often to look whether the plugin reads more by now.
const LOOK: Duration = Duration::from_secs(60);
/// How often it is asked whether they are still there, and up to a fifth more: a newer release
/// of Calico may keep them elsewhere, and leave what was there as it is.
const MOVED: Duration = Duration::from_secs(3600);

/// What is asked for, and who is told.
pub(crate) struct Calico {
    pub(crate) own: String,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    /// Whether pods are in blocks, and not in the podCIDRs of Nodes.
    pub(crate) in_blocks: bool,
    pub(crate) teller: Teller,
    pub(crate) wish: Arc<Wish>,
    pub(crate) plugin: Arc<Installed>,
    /// Who wants to know of this node's Node which one it is.
    pub(crate) uid: watch::Sender<Box<str>>,
    pub(crate) api: Api,
}

/// What is known of all three.
struct All {
    own: String,
    group: &'static str,
    in_blocks: bool,
    teller: Teller,
    wish: Arc<Wish>,
    plugin: Arc<Installed>,
    uid: watch::Sender<Box<str>>,
    /// Told when the objects may be elsewhere by now.
    gone: Rc<Notify>,
    nodes: RefCell<Part<CalicoNode>>,
    pools: RefCell<Part<Pool>>,
    blocks: RefCell<Part<Block>>,
}

struct Part<V> {
    all: Option<Vec<Arc<V>>>,
    anew: bool,
    lost: Option<String>,
    asked: Rc<Notify>,
}

impl<V> Default for Part<V> {
    fn default() -> Self {
        Self { all: None, anew: false, lost: None, asked: Rc::default() }
    }
}

/// Who hears of one of them.
struct One<V> {
    all: Rc<All>,
    part: fn(&All) -> &RefCell<Part<V>>,
}

impl<V> Clone for One<V> {
    fn clone(&self) -> Self {
        Self { all: Rc::clone(&self.all), part: self.part }
    }
}

impl<V> Ear<V> for One<V> {
    fn complete(&self, all: Vec<Arc<V>>, anew: bool) {
        let mut part = (self.part)(&self.all).borrow_mut();
        part.anew |= anew;
        (part.all, part.lost) = (Some(all), None);
        drop(part);
        self.all.tell();
    }

    fn heard(&self, at: Instant) {
        Ear::heard(&self.all.teller, at);
    }

    fn lost(&self, words: String) {
        (self.part)(&self.all).borrow_mut().lost = Some(words.clone());
        self.all.teller.tell(Told::Lost(words));
    }

    fn absent(&self) {
        self.all.gone.notify_one();
    }

    fn asked(&self) -> impl Future<Output = ()> {
        let asked = Rc::clone(&(self.part)(&self.all).borrow().asked);
        async move { asked.notified().await }
    }
}

impl Calico {
    /// Tells of the nodes, and comes to no end.
    pub(crate) async fn run(self) -> Infallible {
        loop {
            let group = self.group().await;
            log::info!("Calico's objects are read from {group}");
            let gone = Rc::default();
            let watching = pin!(self.watch(group, Rc::clone(&gone)));
            match select(watching, pin!(self.moved(group, &gone))).await {
                Either::Left((never, _)) => match never {},
                Either::Right((to, _)) => log::warn!("Calico's objects have moved to {to}"),
            }
        }
    }

    /// Waits for the objects to be in another group.
    async fn moved(&self, from: &str, gone: &Notify) -> &'static str {
        loop {
            let _ = timeout(MOVED + part_of(MOVED / 5), gone.notified()).await;
            // Where they are gone for one agent they are gone for all.
            let pause = AGAIN.min(self.limits.retry_max);
            sleep(part_of(pause)).await;
            if let Ok(client) = self.access.client(self.limits.unanswered).await
                && let Ok(Ok(Some(Found { group, is_sure: true }))) =
                    timeout(self.limits.silence, find(&client)).await
                && group != from
            {
                return group;
            }
            sleep(pause).await;
        }
    }

    /// Tells of the nodes by the objects of this group, and comes to no end.
    async fn watch(&self, group: &'static str, gone: Rc<Notify>) -> Infallible {
        let (access, limits, in_blocks) =
            (self.access.clone(), self.limits.clone(), self.in_blocks);
        let (api, asking) = (self.api.clone(), self.teller.clone());
        let all = Rc::new(All {
            own: self.own.clone(),
            group,
            in_blocks,
            teller: self.teller.clone(),
            wish: Arc::clone(&self.wish),
            plugin: Arc::clone(&self.plugin),
            uid: self.uid.clone(),
            gone,
            nodes: RefCell::default(),
            pools: RefCell::default(),
            blocks: RefCell::default(),
        });
        let path = |plural: &str| format!("/apis/{group}/{plural}");
        let (of_nodes, of_pools) = (
            One { all: Rc::clone(&all), part: |all| &all.nodes },
            One { all: Rc::clone(&all), part: |all| &all.pools },
        );
        let of_blocks = One { all: Rc::clone(&all), part: |all| &all.blocks };
        let nodes = Watched::<CalicoNodes, _>::new(
            access.clone(),
            limits.clone(),
            PATH.to_owned(),
            of_nodes,
        );
        let pools =
            Watched::<Pools, _>::new(access.clone(), limits.clone(), path("ippools"), of_pools);
        let blocks = Watched::<Blocks, _>::new(access, limits, path("ipamblocks"), of_blocks);
        let (nodes, pools) = (nodes.counted(api.clone()), pools.counted(api.clone()));
        let blocks = blocks.counted(api);
        let blocks = async {
            match in_blocks {
                true => blocks.run().await,
                false => pending().await,
            }
        };
        let anew = async {
            loop {
                asking.asked().await;
                for asked in all.all_asked() {
                    asked.notify_one();
                }
            }
        };
        // Another plugin may be installed while nothing else changes.
        let exchanged = async {
            let mut before = all.plugin.reads(FORM_PLAIN);
            loop {
                sleep(LOOK).await;
                if mem::replace(&mut before, all.plugin.reads(FORM_PLAIN)) != before {
                    all.tell();
                }
            }
        };
        let watching = join3(nodes.run(), pools.run(), blocks);
        let (_, _, never): (_, Infallible, Infallible) = join3(watching, anew, exchanged).await;
        match never {}
    }

    /// The group and version in which Calico's objects are: with newer releases there may
    /// be two, of which the older is a view of nothing.
    async fn group(&self) -> &'static str {
        loop {
            let words = match self.access.client(self.limits.unanswered).await {
                Err(words) => words,
                Ok(client) => match timeout(self.limits.silence, find(&client)).await {
                    Ok(Ok(Some(found))) => return found.group,
                    Ok(Ok(None)) => "the API server knows no IPPools: Calico's custom resource \
                                     definitions are not there"
                        .to_owned(),
                    Ok(Err(error)) => chain(&error),
                    Err(_) => SILENT.to_owned(),
                },
            };
            self.teller.tell(Told::Lost(words));
            sleep(AGAIN.min(self.limits.retry_max)).await;
        }
    }
}

/// What a group has.
#[derive(Deserialize)]
struct Resources {
    resources: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct List {
    items: Vec<serde::de::IgnoredAny>,
}

/// Where Calico's objects are.
struct Found {
    group: &'static str,
    /// Whether all groups could be asked.
    is_sure: bool,
}

async fn find(client: &Client) -> Result<Option<Found>, Error> {
    let (mut there, mut is_sure) = (Vec::new(), true);
    for group in GROUPS {
        let Some((name, version)) = group.split_once('/') else { continue };
        let request = Request::new(format!("/apis/{name}")).get(version, &GetParams::default());
        match client.request::<Resources>(request.map_err(Error::BuildRequest)?).await {
            Ok(has) if has.resources.iter().any(|one| one.name == "ippools") => there.push(group),
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 404 => {}
            // The newer group may be served by pods of Calico's, which wait for a network. The
            // older one is what they keep their objects in then.
            Err(Error::Api(status)) if status.code >= 500 && !there.is_empty() => is_sure = false,
            Err(error) => return Err(error),
        }
    }
    if let [first, second] = there.as_slice() {
        // Calico's store is where this object is.
        let path = format!("/apis/{first}/clusterinformations");
        let request = Request::new(path).list(&ListParams::default().match_any());
        let list: List = client.request(request.map_err(Error::BuildRequest)?).await?;
        let group = if list.items.is_empty() { second } else { first };
        return Ok(Some(Found { group, is_sure }));
    }
    Ok(there.first().map(|group| Found { group, is_sure }))
}

impl All {
    fn all_asked(&self) -> [Rc<Notify>; 3] {
        [
            Rc::clone(&self.nodes.borrow().asked),
            Rc::clone(&self.pools.borrow().asked),
            Rc::clone(&self.blocks.borrow().asked),
        ]
    }

    fn tell(&self) {
        let (mut nodes, mut pools) = (self.nodes.borrow_mut(), self.pools.borrow_mut());
        let mut blocks = self.blocks.borrow_mut();
        // Who is lost to Calico's objects has a Node all the same.
        if let Some(own) = nodes.all.iter().flatten().find(|node| node.name() == self.own) {
            let changes = |held: &mut Box<str>| mem::replace(held, own.record.uid.clone()) != *held;
            let _ = self.uid.send_if_modified(changes);
        }
        let lost = [&nodes.lost, &pools.lost, &blocks.lost].into_iter().flatten().next();
        if let Some(words) = lost {
            return self.teller.tell(Told::Lost(words.clone()));
        }
        let (Some(all_nodes), Some(all_pools)) = (&nodes.all, &pools.all) else { return };
        if self.in_blocks && blocks.all.is_none() {
            return;
        }
        let input = Input {
            own: &self.own,
            nodes: all_nodes,
            pools: all_pools,
            blocks: blocks.all.as_deref(),
            group: self.group,
            plain: self.plugin.reads(FORM_PLAIN),
            prefix: &prefix,
        };
        let (records, common) = match settle(&input) {
            Ok(settled) => settled,
            Err(words) => {
                self.gone.notify_one();
                return self.teller.tell(Told::Lost(words));
            }
        };
        let anew = nodes.anew && pools.anew && (blocks.anew || !self.in_blocks);
        if anew {
            (nodes.anew, pools.anew, blocks.anew) = (false, false, false);
        }
        self.wish.set(&common);
        self.teller.tell(Told::Complete { nodes: records, anew, common: Some(Arc::new(common)) });
    }
}

/// The prefix length of the network that an address of this node is in, as the kernel has
/// it. The loopback device may have the address as well, alone.
fn prefix(address: IpAddr) -> Option<u8> {
    let own = addr::all(&mut Socket::open().ok()?).ok()?;
    let networks = own.into_iter().map(|(_, network)| network);
    networks.filter(|network| network.ip() == address).map(|network| network.prefix()).min()
}

#[cfg(test)]
mod tests;
