//! What the nodes of a run are: namespaces of this machine, or machines of their own; and how fast things can be there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use super::machines::Machines;
use super::trace::{self, Life};
use crate::cluster::program;
use crate::platform::{Lab, Said};

/// The nodes of a run.
pub enum Ground {
    /// Namespaces of this machine: one kernel, one clock, processes that can be seen from outside.
    Lab(Box<Lab>),
    /// Machines, which are emulated.
    Machines(Machines),
}

/// How fast things can be.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest time until everything is well again after faults.
    pub healed: Duration,
    /// Longest time that a visitor waits.
    pub patience: Duration,
    /// How often grains are asked whether they are well.
    pub beat: &'static str,
    /// How long they may need until they are.
    pub grace: &'static str,
    /// How often a snapshot of them is made.
    pub every: &'static str,
    /// Milliseconds between two moments of a grain's trace.
    pub moment_ms: u64,
    /// Pause of visitors between two entries.
    pub entries: Duration,
    /// Pause of clients between two deeds.
    pub deeds: Duration,
    /// By how much longer faults stay.
    pub hold: u32,
}

const LAB: Pace = Pace {
    healed: super::world::HEALED,
    patience: Duration::from_millis(700),
    beat: "200ms",
    grace: "20s",
    every: "1s",
    moment_ms: 10,
    entries: Duration::from_millis(30),
    deeds: Duration::from_millis(10),
    hold: 1,
};

const MACHINES: Pace = Pace {
    healed: Duration::from_secs(600),
    patience: Duration::from_secs(3),
    beat: "2s",
    grace: "60s",
    every: "5s",
    moment_ms: 50,
    entries: Duration::from_millis(200),
    deeds: Duration::from_millis(150),
    hold: 4,
};

impl Ground {
    /// How fast things can be here.
    #[must_use]
    pub fn pace(&self) -> Pace {
        match self {
            Self::Lab(_) => LAB,
            Self::Machines(_) => MACHINES,
        }
    }

    /// The lab.
    ///
    /// # Errors
    /// If it is none.
    pub fn lab(&self) -> anyhow::Result<&Lab> {
        match self {
            Self::Lab(lab) => Ok(lab),
            Self::Machines(_) => bail!("that can only be done in a lab"),
        }
    }

    /// The machines.
    ///
    /// # Errors
    /// If there are none.
    pub fn machines(&self) -> anyhow::Result<&Machines> {
        match self {
            Self::Lab(_) => bail!("that can only be done with machines"),
            Self::Machines(machines) => Ok(machines),
        }
    }

    /// The address of the API of the node with this number.
    #[must_use]
    pub fn server(&self, number: usize) -> String {
        match self {
            Self::Lab(_) => super::world::server(number),
            Self::Machines(_) => format!("http://10.77.0.{}:7272", number + 1),
        }
    }

    /// Runs a verb.
    ///
    /// # Errors
    /// If it fails.
    pub async fn verb(&self, arguments: &[&str]) -> anyhow::Result<()> {
        match self {
            Self::Lab(lab) => lab.verb(arguments).await.map(drop),
            Self::Machines(machines) => machines.verb(arguments).await,
        }
    }

    /// Runs a program on a node, whatever comes of it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn exec(&self, node: &str, command: &[&str]) -> anyhow::Result<Said> {
        match self {
            Self::Lab(lab) => lab.exec(node, command).await,
            Self::Machines(machines) => {
                // No server is configured for those who sit at a machine.
                let environment =
                    ["env", "SCRAP_SERVER=10.77.0.1:7272,10.77.0.2:7272,10.77.0.3:7272"];
                machines.exec(node, &[&environment, command].concat()).await
            }
        }
    }

    /// The program of the ledgers, as nodes call it.
    ///
    /// # Errors
    /// If it was not built.
    pub fn ledger(&self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Lab(_) => program("scrap-ledger"),
            Self::Machines(_) => Ok("/usr/local/bin/scrap-ledger".into()),
        }
    }

    /// Where grains leave their traces, as nodes call it.
    #[must_use]
    pub fn traces(&self) -> PathBuf {
        match self {
            Self::Lab(lab) => lab.dir.join("traces"),
            Self::Machines(_) => "/host/traces".into(),
        }
    }

    /// All lives that have left traces. In a lab they have noted their own moments; machines have a clock each, so that of the machine that
    /// keeps the traces counts.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn lives(&self) -> anyhow::Result<Vec<Life>> {
        match self {
            Self::Lab(_) => trace::lives(&self.traces()),
            Self::Machines(machines) => trace::lives_by_files(&machines.traces()),
        }
    }

    /// What the daemon of a node has written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn log(&self, node: &str) -> anyhow::Result<String> {
        match self {
            Self::Lab(lab) => {
                let path = lab.dir.join("nodes").join(node).join("scrapd.log");
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::Machines(machines) => machines.log(node).await,
        }
    }

    /// By how many milliseconds the clock of a node may be beside the one here.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn clock_error(&self, node: &str) -> anyhow::Result<u64> {
        match self {
            Self::Lab(_) => Ok(0),
            Self::Machines(machines) => machines.clock_error(node).await,
        }
    }

    /// Leaves nothing.
    ///
    /// # Errors
    /// If something is left.
    pub async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Lab(lab) => lab.end().await,
            Self::Machines(machines) => machines.end().await,
        }
    }
}
