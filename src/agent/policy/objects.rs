// SPDX-License-Identifier: Apache-2.0
//! Namespaces, pods and network policies as the API server sends them, of which nothing is
//! kept but what policies are about.

use std::{cell::RefCell, sync::Arc, thread::LocalKey};

use super::super::watched::{Kind, Sent};
use crate::policy::{Item, Labels, NamedPort, Pod, Policy, Shared};

/// What counts of a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) labels: Arc<Labels>,
}

/// A policy, with what of it could not be understood.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Given {
    pub(crate) policy: Arc<Policy>,
    pub(crate) notes: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Namespaces;

#[derive(Debug)]
pub(crate) struct Pods;

#[derive(Debug)]
pub(crate) struct NetworkPolicies;

thread_local! {
    /// All objects are read in one thread.
    static LABELS: RefCell<Shared<Labels>> = RefCell::default();
    static PORTS: RefCell<Shared<Vec<NamedPort>>> = RefCell::default();
    static NODES: RefCell<Shared<str>> = RefCell::default();
}

fn share<T: Ord + ?Sized>(known: &'static LocalKey<RefCell<Shared<T>>>, one: Arc<T>) -> Arc<T> {
    known.with_borrow_mut(|known| known.share(one))
}

impl Sent for Item {
    fn key(&self) -> Box<str> {
        self.name().to_string().into()
    }

    fn version(&self) -> &str {
        Self::version(self)
    }
}

impl Kind for Namespaces {
    type Object = Item;
    type Value = Namespace;
    const NAME: &'static str = "Namespaces";
    const RESOURCE: &'static str = "namespaces";

    fn value(object: Item) -> Namespace {
        Namespace {
            name: object.name().name,
            labels: share(&LABELS, Arc::new(object.into_labels())),
        }
    }
}

impl Kind for Pods {
    type Object = Item;
    type Value = Pod;
    const NAME: &'static str = "Pods";
    const RESOURCE: &'static str = "pods";

    fn value(object: Item) -> Pod {
        let mut pod = object.into_pod();
        // There may be ten thousand.
        pod.addresses.shrink_to_fit();
        pod.labels = share(&LABELS, pod.labels);
        pod.ports = share(&PORTS, pod.ports);
        pod.node = share(&NODES, pod.node);
        pod
    }
}

impl Kind for NetworkPolicies {
    type Object = Item;
    type Value = Given;
    const NAME: &'static str = "NetworkPolicies";
    const RESOURCE: &'static str = "networkpolicies";

    fn value(object: Item) -> Given {
        let (policy, notes) = object.into_policy();
        Given { policy: Arc::new(policy), notes }
    }
}
