// SPDX-License-Identifier: Apache-2.0
//! The report: what the sections found, as JSON, as a page, and as charts.
//!
//! JSON is everything that was measured; the page and the charts say what of it
//! matters.

pub mod charts;
pub mod markdown;
pub mod targets;

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::attach::{CountRow, Row};
use crate::machine::Machine;
use crate::quantile::Times;
use crate::size::Sizes;
use crate::subjects::{Kind, Setting};
use crate::{goals, overlay, scale};

/// All that was measured. A section that did not run is empty.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// A short run, whose numbers are rough.
    pub quick: bool,
    pub sections: Vec<String>,
    pub targets: Vec<targets::Target>,
    pub attach: Vec<Row>,
    pub nothing: Option<Times>,
    pub counts: Vec<CountRow>,
    pub overlay: Vec<overlay::Row>,
    /// Of the virtual machine: ratios to its own direct row are all they mean.
    pub overlay_vm: Vec<overlay::Row>,
    pub scale: Vec<scale::Row>,
    pub goals: Vec<goals::Row>,
    pub size: Option<Sizes>,
}

impl Report {
    /// A report of nothing yet.
    pub fn new(machine: Machine, quick: bool, sections: Vec<String>) -> Self {
        Self {
            machine,
            quick,
            sections,
            targets: Vec::new(),
            attach: Vec::new(),
            nothing: None,
            counts: Vec::new(),
            overlay: Vec::new(),
            overlay_vm: Vec::new(),
            scale: Vec::new(),
            goals: Vec::new(),
            size: None,
        }
    }

    /// One row of the attach section.
    pub fn row(
        &self,
        subject: Kind,
        setting: Setting,
        at_once: usize,
        present: Option<usize>,
    ) -> Option<&Row> {
        let crowded = |row: &&Row| match present {
            Some(present) => row.crowded && row.present == present,
            None => !row.crowded,
        };
        self.attach
            .iter()
            .filter(crowded)
            .find(|row| row.subject == subject && row.setting == setting && row.at_once == at_once)
    }

    /// Writes all forms of it into a directory.
    pub fn write(&mut self, directory: &Path) {
        self.targets = targets::all(self);
        fs::create_dir_all(directory).expect("make the directory of the report");
        let charts = charts::draw(self, directory);
        let json = serde_json::to_string_pretty(self).expect("a report is JSON");
        fs::write(directory.join("report.json"), json + "\n").expect("write report.json");
        let page = markdown::page(self, &charts);
        fs::write(directory.join("report.md"), page).expect("write report.md");
    }
}
