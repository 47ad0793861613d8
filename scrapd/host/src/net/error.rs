//! What can be wrong with the network of grains, in words that say what to do.

use std::net::IpAddr;
use std::path::PathBuf;

use scrap_schema::id::GrainId;
use thiserror::Error;

/// Failed work on the network.
#[derive(Debug, Error)]
pub enum NetError {
    /// A program is not there or cannot be started.
    #[error("the program `{program}` cannot be started: install the package `{package}`")]
    Program {
        /// Which.
        program: &'static str,
        /// The package that has it, as Debian names it.
        package: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program did not do what it should.
    #[error("`{program}` refused: {said}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Its own words.
        said: String,
    },
    /// The daemon has no right to do it.
    #[error("`{program}` may not change the network: run the daemon as root or with CAP_NET_ADMIN")]
    Permission {
        /// Which program was refused.
        program: &'static str,
    },
    /// What a program said is not understood.
    #[error("the answer of `{program}` is not understood")]
    Answer {
        /// Which.
        program: &'static str,
        /// Where it is not as expected.
        #[source]
        source: serde_json::Error,
    },
    /// The interface to the LAN is not there.
    #[error(
        "the uplink `{uplink}` is not there: name the LAN interface of this node, `ip link` shows them"
    )]
    NoUplink {
        /// Its name.
        uplink: String,
    },
    /// A setting that cannot be.
    #[error("`{value}` cannot be the {what}: {why}")]
    Setting {
        /// Which one.
        what: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A grain's attachment that cannot be.
    #[error("the network of grain {grain} cannot be: {why}")]
    Attachment {
        /// Which grain.
        grain: GrainId,
        /// What is wrong, and what to change.
        why: String,
    },
    /// Two grains that have the same.
    #[error("grains {first} and {second} have the same {what} {value}: give one of them another")]
    Same {
        /// What is the same.
        what: &'static str,
        /// As text.
        value: String,
        /// One.
        first: GrainId,
        /// The other.
        second: GrainId,
    },
    /// This machine has no network of that family.
    #[error("grain {grain} has the address {address}, but this machine has no IPv6")]
    NoFamily {
        /// Which grain.
        grain: GrainId,
        /// Its address.
        address: IpAddr,
    },
    /// A setting of the kernel cannot be read or written.
    #[error("cannot set {} to `{value}`", path.display())]
    Kernel {
        /// Which one.
        path: PathBuf,
        /// To what.
        value: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What the settings of the kernel were is not known.
    #[error("cannot use {}, which remembers the kernel's settings as they were", path.display())]
    Memory {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Packets of its own.
    #[error("cannot {work} on `{uplink}`")]
    Wire {
        /// What was tried.
        work: &'static str,
        /// On which interface.
        uplink: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The interfaces of this machine cannot be listed.
    #[error("the interfaces of this machine cannot be listed")]
    Interfaces(#[source] std::io::Error),
    /// Grains are still joined to this node.
    #[error("grains are still joined by {}: stop them first, without these rules they reach everybody", interfaces.join(", "))]
    Attached {
        /// Host ends that are there.
        interfaces: Vec<String>,
    },
}

impl NetError {
    /// Whether it keeps this grain from having its network. What is wrong with another one does not.
    #[must_use]
    pub fn concerns(&self, grain: GrainId) -> bool {
        match self {
            Self::Attachment { grain: of, .. } | Self::NoFamily { grain: of, .. } => *of == grain,
            Self::Same { first, second, .. } => *first == grain || *second == grain,
            Self::Program { .. }
            | Self::Refused { .. }
            | Self::Permission { .. }
            | Self::Answer { .. }
            | Self::NoUplink { .. }
            | Self::Setting { .. }
            | Self::Kernel { .. }
            | Self::Memory { .. }
            | Self::Wire { .. }
            | Self::Interfaces(_)
            | Self::Attached { .. } => true,
        }
    }
}

/// What a trouble asks of whoever hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Somebody took grains' network away or opened it. It is mended, and may be done again.
    Tampered,
    /// It stays until a person does something.
    Lasting,
    /// It is mended by arranging, or gone by itself.
    Passing,
}

impl NetTrouble {
    /// How much it weighs.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match self {
            Self::NoTable(_) | Self::TableChanged(_) | Self::NoFilter(_) => Weight::Tampered,
            Self::NoUplink(_) | Self::UplinkDown(_) | Self::Refused(_) => Weight::Lasting,
            Self::NotLoaded(_)
            | Self::Missing(_)
            | Self::Unwanted(_)
            | Self::Kernel { .. }
            | Self::Unclear(_) => Weight::Passing,
        }
    }
}

/// Something that is not as it should be now.
#[derive(Debug, Error)]
pub enum NetTrouble {
    /// The interface to the LAN is not there.
    #[error("the uplink `{0}` is not there: no grain can be reached")]
    NoUplink(String),
    /// It is there, but off.
    #[error("the uplink `{0}` is down: no grain can be reached")]
    UplinkDown(String),
    /// Somebody has removed the table: no packet of a grain passes until it is arranged again.
    #[error(
        "the table `{0}` of nftables is missing: grains have no network until it is there again"
    )]
    NoTable(String),
    /// It is not as it was loaded.
    #[error("the table `{0}` of nftables was changed by somebody else")]
    TableChanged(String),
    /// It is there, but what this daemon wants it to be is not loaded yet, or could not be.
    #[error("the table `{0}` of nftables is not loaded by this daemon yet")]
    NotLoaded(String),
    /// A rule, route, address or proxy entry is not there.
    #[error("missing: `ip {0}`")]
    Missing(String),
    /// One of ours is there that is not wanted.
    #[error("not wanted any more: `ip {0}`")]
    Unwanted(String),
    /// A setting of the kernel is another one.
    #[error("{path} is `{is}` and should be `{should}`")]
    Kernel {
        /// Below `/proc/sys`.
        path: String,
        /// Now.
        is: String,
        /// As it is needed.
        should: String,
    },
    /// Broadcasts of a grain would reach its node if the table were gone.
    #[error("no filter below the table at `{0}`")]
    NoFilter(String),
    /// A grain has no network.
    #[error("a grain has no network")]
    Refused(#[source] NetError),
    /// It cannot be said.
    #[error("it cannot be seen whether the network is as it should be")]
    Unclear(#[source] NetError),
}
