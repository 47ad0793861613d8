//! Runs the programs that change the kernel's network: `nft`, `ip`, `tc`. Input by pipe, arguments as lists.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::error::NetError;
use crate::run;

/// These programs talk to the kernel alone: one that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// A program and the package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    name: &'static str,
    package: &'static str,
}

/// Packet filter.
pub(super) const NFT: Program = Program { name: "nft", package: "nftables" };
/// Routes, rules, neighbours.
pub(super) const IP: Program = Program { name: "ip", package: "iproute2" };
/// Filters of one interface.
pub(super) const TC: Program = Program { name: "tc", package: "iproute2" };

impl Program {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        self.name
    }

    /// Runs it and returns what it said on its standard output.
    pub(super) async fn run(self, arguments: &[&str], input: &str) -> Result<String, NetError> {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let failed =
            |source| NetError::Program { program: self.name, package: self.package, source };
        let mut command = run::command(OsStr::new(self.name), &arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ends before it has read all says why on its standard error.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let work = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = match tokio::time::timeout(LIMIT, work).await {
            Ok(output) => output.map_err(failed)?,
            Err(_) => return Err(self.refused("it did not end within 30 seconds")),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(self.refused(&String::from_utf8_lossy(&output.stderr)))
    }

    fn refused(self, said: &str) -> NetError {
        if said.contains("Operation not permitted") || said.contains("must be root") {
            return NetError::Permission { program: self.name };
        }
        let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(4).collect();
        let said = if said.is_empty() { "it gives no reason".to_owned() } else { said.join("; ") };
        NetError::Refused { program: self.name, said }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_is_named_with_its_package() {
        let program = Program { name: "nft-that-is-not-there", package: "nftables" };
        let error = program.run(&[], "").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program `nft-that-is-not-there` cannot be started: install the package `nftables`"
        );
    }

    #[tokio::test]
    async fn what_is_said_comes_back_and_a_refusal_has_its_words() {
        let cat = Program { name: "cat", package: "coreutils" };
        let long = "x".repeat(1 << 20);
        assert_eq!(cat.run(&[], &long).await.unwrap(), long);
        let error = cat.run(&["--", "/no such file"], "").await.unwrap_err();
        assert!(error.to_string().contains("/no such file"), "{error}");
    }
}
