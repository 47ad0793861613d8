//! From the command line to the deed: reads the configuration, calls the room that does it, says how it ended.
//! Decides nothing about clusters.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use scrap_schema::problem::Exit;
use scrap_schema::timing::Preset;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{CheckConfig, Cli, Command, ConfigPath, Init, Join, Recover, Run};
use crate::config::{BadConfig, Config};
use crate::data_dir::{DataDir, DataDirError};
use crate::identity::{Identity, IdentityError};
use crate::setup::{self, Refused};
use crate::{logging, run};

/// The deed failed.
const FAILED: u8 = 1;
/// The configuration or the command line is wrong.
const USAGE: u8 = 2;

/// Does what the command line says.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    logging::abort_on_panic();
    let result = match cli.command {
        Command::CheckConfig(args) => check_config(&args),
        Command::Init(args) => block_on(init(args)),
        Command::Join(args) => block_on(join(args)),
        Command::Recover(args) => block_on(recover(args)),
        Command::Run(args) => block_on(daemon(args)),
        #[cfg(target_os = "linux")]
        Command::Demo(args) => block_on(crate::demo::main(args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(match error.downcast_ref::<Refused>() {
                Some(refused) => refused.exit.code(),
                None if error.is::<BadConfig>() => USAGE,
                None => FAILED,
            })
        }
    }
}

/// Writes a line to stdout. A reader that went away is no trouble.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes an error with its causes and advice to stderr.
fn complain(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The advice that an error carries.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return Some(refused.hint.clone());
    }
    if let Some(identity) = error.downcast_ref::<IdentityError>() {
        return Some(identity.hint());
    }
    if let Some(system) = error.downcast_ref::<std::io::Error>() {
        return hint_of_system(system.kind()).map(str::to_owned);
    }
    match error.downcast_ref::<DataDirError>()? {
        DataDirError::InUse { .. } => Some(
            "one daemon or set-up at a time: stop the other one, or use another `data_dir`"
                .to_owned(),
        ),
        DataDirError::Io { .. } => None,
    }
}

/// What a person can do about what the system refuses.
fn hint_of_system(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::AddrInUse => Some(
            "another program listens there: `ss -ltnp` names it; stop it, or name another address in the configuration",
        ),
        ErrorKind::AddrNotAvailable => {
            Some("this machine has no such address: `ip addr` shows those that it has")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room on that disk (`df -h`), then start again: what was promised is there")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(
            "scrapd must be allowed to write there: look at its owner (`ls -ld`) and at the mount (`findmnt -T`)",
        ),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Some("`data_dir` must be a folder, and something else is there: move it aside")
        }
        _ => None,
    }
}

fn block_on(deed: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("the runtime cannot be started")?.block_on(deed)
}

fn load(path: &ConfigPath) -> anyhow::Result<Config> {
    let config = Config::load(&path.config)?;
    logging::start(&config.log)?;
    Ok(config)
}

fn check_config(args: &CheckConfig) -> anyhow::Result<()> {
    let config = Config::load(&args.file)?;
    say(format!("# {} is sound. It means:\n{config}", args.file.display()).trim_end());
    Ok(())
}

async fn init(args: Init) -> anyhow::Result<()> {
    let mut config = load(&args.config)?;
    if let Some(preset) = args.timing_preset {
        config.timing = preset.timing();
    }
    setup::init(&config, args.cluster.clone()).await?;
    say(format!("cluster `{}` formed; node `{}` is its first", args.cluster, config.name));
    let numbers = config.timing.preset().map_or("its own", Preset::word);
    let fenced = config.timing.fenced_after();
    say(format!(
        "numbers of the lease: {numbers}; a silent node is fenced after {fenced}, for good"
    ));
    say("start it with `scrapd run`");
    Ok(())
}

async fn join(args: Join) -> anyhow::Result<()> {
    let config = load(&args.config)?;
    let mut servers = Vec::new();
    for text in &args.server {
        let exit = Exit::Usage;
        servers.push(config.server(text).map_err(|(what, hint)| Refused { what, hint, exit })?);
    }
    let limit = Duration::from_millis(args.timeout.ms());
    setup::join(&config, &servers, limit, args.again).await?;
    say(format!("node `{}` is a member; start it with `scrapd run`", config.name));
    Ok(())
}

async fn recover(args: Recover) -> anyhow::Result<()> {
    let config = load(&args.config)?;
    let Recover { show, other: others, dry_run, confirm, .. } = args;
    setup::recover(&config, &setup::Wish { show, others, dry_run, confirm }).await
}

async fn daemon(args: Run) -> anyhow::Result<()> {
    let config = load(&args.config)?;
    let identity = Identity::of_daemon(&config)?;
    // Held until the end of the process: two daemons never share a log.
    let _data_dir = DataDir::take(&config.data_dir)?;
    let shutdown = CancellationToken::new();
    let (terminate, interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(end_on_signals(terminate, interrupt, shutdown.clone()));
    run(config, identity, shutdown).await
}

/// The first signal asks the daemon to end, the second one ends it.
async fn end_on_signals(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    let mut one = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let first = one().await;
    tracing::info!(signal = first, "asked to end; a second signal ends it at once");
    shutdown.cancel();
    let second = one().await;
    tracing::warn!(signal = second, "ended at once");
    std::process::exit(i32::from(FAILED));
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_the_system_refuses_has_advice() {
        for kind in [
            ErrorKind::AddrInUse,
            ErrorKind::StorageFull,
            ErrorKind::PermissionDenied,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::NotADirectory,
            ErrorKind::AlreadyExists,
        ] {
            let error = anyhow::Error::from(Error::from(kind)).context("cannot do it");
            assert!(error.chain().find_map(hint).is_some(), "{kind}");
        }
    }
}
