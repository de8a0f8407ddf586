// SPDX-License-Identifier: Apache-2.0
//! What every verb is told.

use std::io;

use serde_json::Value;

use crate::{
    cni::{Document, Environment, Error},
    conf::{Complaint, Config},
    pod::Identity,
    state::{Journal, Root},
};

/// One call: who is meant, by which configuration, and where state lies.
#[derive(Debug)]
pub(super) struct Call {
    /// The variables.
    pub(super) environment: Environment,
    /// stdin.
    pub(super) document: Document,
    /// Its values.
    pub(super) config: Config,
    /// What is wrong with its values.
    pub(super) complaints: Vec<Complaint>,
    /// Where state lies.
    pub(super) root: Root,
}

/// Writes a verb's result to the runtime.
pub(super) type Emit<'a> = &'a dyn Fn(&Value) -> io::Result<()>;

impl Call {
    /// Verb and attachment, for the log.
    pub(super) fn subject(&self) -> String {
        let Environment { command, container_id, ifname, .. } = &self.environment;
        let mut words = format!("{} network={}", command.as_str(), self.config.name);
        if !container_id.is_empty() {
            words += &format!(" container={container_id} ifname={ifname}");
        }
        if let Some(pod) = self.environment.args.pod() {
            words += &format!(" pod={}/{}", pod.namespace, pod.name);
        }
        words
    }

    /// Whose attachment.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            network: self.config.name.clone(),
            container_id: self.environment.container_id.clone(),
            ifname: self.environment.ifname.clone(),
            pod: self.environment.args.pod().map(|pod| (pod.namespace, pod.name)),
        }
    }

    pub(super) fn journal(&self) -> Journal {
        Journal::new(&self.root, &self.config.name)
    }

    /// Refuses a configuration whose values make no sense.
    pub(super) fn require_sound_config(&self) -> Result<(), Error> {
        self.complaints.first().map_or(Ok(()), |complaint| Err(complaint.error.clone()))
    }
}
