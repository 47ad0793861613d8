//! How a grain's owner finds out whether it answers.

use serde::{Deserialize, Serialize};

use crate::unit::Span;

/// Checks that the owner's agent makes. The grain is well while all of them hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Health {
    /// A port on the grain's address that must accept a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// An HTTP resource that must answer with a status below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A program that must end with status 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// More of them, each with one of `tcp`, `http`, `exec`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Time between two checks.
    #[serde(default = "Health::every_default")]
    pub every: Span,
    /// Time after a start in which a failing check does not count.
    #[serde(default = "Health::grace_default")]
    pub grace: Span,
    /// Time after which a check that has not answered counts as failed.
    #[serde(
        default = "Health::timeout_default",
        skip_serializing_if = "Health::is_timeout_default"
    )]
    pub timeout: Span,
}

impl Health {
    /// One check, with the times that are assumed when nobody says.
    #[must_use]
    pub fn of(check: Check) -> Self {
        let Check { tcp, http, exec } = check;
        Self {
            tcp,
            http,
            exec,
            checks: Vec::new(),
            every: Self::every_default(),
            grace: Self::grace_default(),
            timeout: Self::timeout_default(),
        }
    }

    /// Every check, in the order in which they are written.
    pub fn each(&self) -> impl Iterator<Item = Probe<'_>> {
        let own = [
            self.tcp.as_ref().map(Probe::Tcp),
            self.http.as_ref().map(Probe::Http),
            self.exec.as_ref().map(Probe::Exec),
        ];
        own.into_iter().flatten().chain(self.checks.iter().flat_map(Check::each))
    }

    fn every_default() -> Span {
        Span::from_secs(10)
    }
    fn grace_default() -> Span {
        Span::from_secs(30)
    }
    fn timeout_default() -> Span {
        Span::from_secs(5)
    }
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_timeout_default(timeout: &Span) -> bool {
        *timeout == Self::timeout_default()
    }
}

/// One check of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Check {
    /// A port on the grain's address that must accept a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// An HTTP resource that must answer with a status below 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A program that must end with status 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
}

impl Check {
    /// What is to be checked: exactly one thing once it is validated.
    pub fn each(&self) -> impl Iterator<Item = Probe<'_>> {
        let own = [
            self.tcp.as_ref().map(Probe::Tcp),
            self.http.as_ref().map(Probe::Http),
            self.exec.as_ref().map(Probe::Exec),
        ];
        own.into_iter().flatten()
    }
}

/// What one check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    /// Connects to a port.
    Tcp(&'a TcpCheck),
    /// Asks for an HTTP resource.
    Http(&'a HttpCheck),
    /// Runs a program inside the grain.
    Exec(&'a ExecCheck),
}

/// A TCP check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpCheck {
    /// The port.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
}

/// An HTTP check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpCheck {
    /// The port.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
    /// The path, beginning with `/`.
    #[serde(default = "HttpCheck::root")]
    pub path: String,
}

impl HttpCheck {
    fn root() -> String {
        "/".to_owned()
    }
}

/// A check by a program inside the grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExecCheck {
    /// Program and arguments, run inside the grain. Never given to a shell.
    pub command: Vec<String>,
}
