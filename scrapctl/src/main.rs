//! The operator's tool of SCRAP. Asks the cluster through its HTTP API and writes answers for people and programs.
//! Knows the API's words (`scrap-schema`) and nothing of the daemon; decides nothing that the cluster should decide.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod cmd;
mod complete;
mod failure;
mod nearest;
mod print;
mod progress;
mod render;
mod settings;
#[cfg(test)]
#[path = "../tests/values/mod.rs"]
mod values;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use scrap_schema::problem::Exit;
use scrap_schema::time::Timestamp;
use tokio::time::Instant;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::cmd::Ctx;
use crate::failure::Failure;
use crate::print::Print;
use crate::render::text::{Clock, clean};
use crate::settings::{Environment, Settings, config, known};

/// Age of the list of nodes at which it is asked for again.
const NODES_OLD_AFTER_S: i64 = 600;
/// How long that may take: the person's answer is already there.
const NODES_WITHIN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(say(&error)),
    };
    let status = match start(cli) {
        Ok(()) => Exit::Ok.code(),
        Err(failure) => failure.exit(),
    };
    ExitCode::from(status)
}

/// Help goes to stdout; what clap has to say about mistakes looks like our own errors.
fn say(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // The reader of the help may be gone; that is no failure.
            drop(error.print());
            Exit::Ok.code()
        }
        _ => {
            Print::plain().err(&mistake(error));
            Exit::Usage.code()
        }
    }
}

/// What clap says of a mistake, in our words. What was written is in it: letters that do something to a terminal are shown.
fn mistake(error: &clap::Error) -> String {
    let text = error.render().to_string().replace("\n  tip: ", "\n  hint: ");
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

fn start(cli: Cli) -> Result<(), Failure> {
    let environment = Environment::read();
    let resolved = config::load(environment.config.as_deref())
        .and_then(|config| settings::resolve(&cli.global, environment, &config));
    let settings = match resolved {
        Ok(settings) => settings,
        Err(failure) => {
            tell(&Print::plain(), &failure, cli.global.verbose);
            return Err(failure);
        }
    };
    let print = Print::new(&settings);
    let verbose = settings.verbose;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(settings, print.clone(), cli.command));
            // A read of stdin that nobody waits for any more must not keep the program alive.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::local(format!("cannot start: {error}"))),
    };
    if let Err(failure) = &result {
        tell(&print, failure, verbose);
    }
    result
}

fn tell(print: &Print, failure: &Failure, verbose: bool) {
    if !failure.is_silent() {
        let now = Timestamp(jiff::Timestamp::now().as_millisecond());
        let clock = Clock { now, zone: jiff::tz::TimeZone::system() };
        print.err(&render::failure::text(failure, verbose, &clock, print.err_theme()));
    }
}

async fn run(settings: Settings, print: Print, command: Command) -> Result<(), Failure> {
    let key = known::key(&settings);
    let file = settings.environment.known.clone();
    let mut remembered = known::load(file.as_deref(), &key);
    let servers = known::order(&settings.origin, &settings.servers, &remembered);
    let deadline = settings.timeout.map(|timeout| Instant::now() + timeout);
    let remark = print.clone();
    let client = Client::new(servers, deadline, Box::new(move |text| remark.note(text)))?;
    let ctx = Ctx::new(settings, client, print);
    let result = cmd::run(&ctx, command).await;
    remember(&ctx, &mut remembered).await;
    known::save(file.as_deref(), &key, &remembered);
    result
}

/// Keeps what this run has learnt about where nodes are.
async fn remember(ctx: &Ctx, remembered: &mut known::Cluster) {
    let Some(last) = ctx.client.last_good() else { return };
    let now = jiff::Timestamp::now().as_second();
    if now - remembered.listed > NODES_OLD_AFTER_S {
        let asked = tokio::time::timeout(NODES_WITHIN, cmd::operation::learn(ctx)).await;
        if asked.is_ok() {
            remembered.listed = now;
        }
    }
    if let Some(mut nodes) = ctx.client.learnt() {
        nodes.sort();
        remembered.nodes = nodes;
    }
    remembered.last = Some(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_mistyped_does_nothing_to_the_terminal() {
        // Whole sequences of escapes clap leaves out itself.
        let error = Cli::try_parse_from(["scrapctl", "in\u{1b}[31mfo\u{202e}ls"]).unwrap_err();
        let said = mistake(&error);
        assert!(said.contains("info\\u{202e}ls") && said.lines().count() > 1, "{said}");
    }
}
