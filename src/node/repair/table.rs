//! The table of a network with attachments, where it is not as it should be:
//! others flushed it, or the peers have changed.

use super::super::{
    Error,
    fabric::{Applied, tunnel},
    refused, tables,
};
use crate::{
    conf::Config,
    net::Socket,
    nft::{self, Ensured, Guard, Network},
    object::{Action, Kind, Told},
    state::{Journal, Root},
};

/// A table and what it differs in.
#[derive(Clone, Debug)]
pub struct TableRepair {
    config: Config,
    root: Root,
    wanted: Network,
    differences: Vec<String>,
    note: Option<String>,
}

impl TableRepair {
    /// Compares the table that the configuration and the applied fabric ask for
    /// with the kernel's; `None` if it is right, or nobody needs it.
    ///
    /// # Errors
    /// `Kernel` if nf_tables is needed and does not answer.
    pub fn lacking(
        config: &Config,
        root: &Root,
        host: &mut Socket,
        fabric: Option<&Applied>,
    ) -> Result<Option<Self>, Error> {
        if !Journal::new(root, &config.name).has_entries() {
            return Ok(None);
        }
        let wanted = tables::wanted(config, fabric);
        let tables::Differences { found, note } = tables::differences(&wanted, config, root, host)?;
        let (config, root) = (config.clone(), root.clone());
        let repair = Self { config, root, wanted, differences: found, note };
        Ok((!repair.differences.is_empty() || repair.note.is_some()).then_some(repair))
    }

    /// Tells when others touch the tables of networks, or those of their fabrics' tunnels.
    ///
    /// # Errors
    /// `Kernel` with what the kernel refused.
    pub fn monitor<'a>(configs: impl Iterator<Item = &'a Config>) -> Result<nft::Monitor, Error> {
        let names = configs
            .flat_map(|config| [tables::table(&config.name), tunnel::name(config.fabric.protocol)]);
        nft::subscribe(names.collect()).map_err(refused)
    }

    /// Makes the table what it should be; returns whether something was changed, and
    /// what it does without.
    ///
    /// # Errors
    /// `Kernel` with what nf_tables refused.
    pub fn restore(&self, host: &mut Socket) -> Result<(bool, Vec<String>), Error> {
        let (done, notes) = tables::install(&self.wanted, &self.config, &self.root, host)?;
        Ok((matches!(done, Some(Ensured::Installed | Ensured::Repaired)), notes))
    }

    /// Whether there is something to change, as far as is known.
    pub fn differs(&self) -> bool {
        !self.differences.is_empty()
    }

    /// What it differs in.
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// What an operator should know, and a repair may not be able to change.
    pub fn note(&self) -> Option<&String> {
        self.note.as_ref()
    }

    /// The change as it is told.
    pub fn told(&self) -> Told {
        Told {
            kind: Kind::Table,
            action: Action::Replace,
            object: format!("nftables table {}", self.wanted.table),
            before: Some(self.differences.join("; ")),
            after: Some(self.after()),
        }
    }

    fn after(&self) -> String {
        let check = match self.wanted.guard {
            Guard::Sources => "check the pods' source addresses",
            Guard::Loopback | Guard::Off => "no loopback addresses from pods",
        };
        let masquerade = self.wanted.masquerade.as_ref().map(|masquerade| {
            format!(
                ", masquerade but towards {} networks",
                masquerade.never.len() + masquerade.pods.len()
            )
        });
        check.to_owned() + &masquerade.unwrap_or_default()
    }
}
