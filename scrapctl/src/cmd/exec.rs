//! `exec`, `shell`, `console`: a program inside a grain, with our stdin, stdout, stderr and its exit status; or a terminal.

use scrap_schema::api::{ConsoleBody, ExecBody, ExecEnd};
use scrap_schema::id::Name;
use scrap_schema::problem::Code;

use super::Ctx;
use super::names::Noun;
use super::terminal;
use crate::cli::{ExecArgs, GrainArgs, ShellArgs};
use crate::client::call::Call;
use crate::client::frames::{Frame, Frames};
use crate::failure::Failure;

/// `scrapctl` or the cluster failed, not the program (as docker says it).
const FAILED: u8 = 125;
/// The program cannot be run.
const NOT_RUN: u8 = 126;

/// Runs a program inside a grain.
pub(crate) async fn exec(ctx: &Ctx, args: ExecArgs) -> Result<(), Failure> {
    let result = run(ctx, args).await;
    ended(ctx, result)
}

/// Opens a shell inside a grain.
pub(crate) async fn shell(ctx: &Ctx, args: ShellArgs) -> Result<(), Failure> {
    let command = match args.command.is_empty() {
        true => vec!["/bin/sh".to_owned(), "-l".to_owned()],
        false => args.command,
    };
    let tty = ctx.settings.environment.stdin_tty;
    let (grain, user) = (args.grain, args.user);
    let args = ExecArgs { grain, tty, no_tty: !tty, user, env: Vec::new(), command };
    exec(ctx, args).await
}

/// Sits down at the console of a grain.
pub(crate) async fn console(ctx: &Ctx, args: GrainArgs) -> Result<(), Failure> {
    if !ctx.settings.environment.stdin_tty {
        return Err(Failure::usage("a console needs a terminal, and stdin is none"));
    }
    ctx.print.note("Ctrl-] leaves the console");
    let body = ConsoleBody { window: terminal::window() };
    let call = framed(&args.grain, "console");
    let sat = terminal::sit(ctx, call, line(&body), true).await;
    let result = ctx.named(sat, &[(Noun::Grain, &args.grain)]).await;
    ended(ctx, result)
}

/// The status of the table would be taken for the program's: our own trouble has a status of its own.
fn ended(ctx: &Ctx, result: Result<u8, Failure>) -> Result<(), Failure> {
    match result {
        Ok(0) => Ok(()),
        Ok(status) => Err(Failure::Status(status)),
        Err(failure @ (Failure::Status(_) | Failure::Stdout(_))) => Err(failure),
        Err(failure) => {
            let status = match &failure {
                Failure::Problem { problem, .. } if problem.code == Code::BadRequest => NOT_RUN,
                _ => FAILED,
            };
            let clock = ctx.clock();
            let verbose = ctx.settings.verbose;
            let theme = ctx.print.err_theme();
            ctx.print.err(&crate::render::failure::text(&failure, verbose, &clock, theme));
            Err(Failure::Status(status))
        }
    }
}

/// A body's first line.
fn line(body: &impl serde::Serialize) -> Vec<u8> {
    // The bodies are our own types with text keys: their serialisation cannot fail.
    let mut line = serde_json::to_vec(body).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Once: a program that was started twice is two programs.
pub(super) fn framed(grain: &Name, verb: &str) -> Call {
    let accept = "application/octet-stream";
    Call::post(&["grains", grain.as_str(), verb]).header("accept", accept).once()
}

async fn run(ctx: &Ctx, args: ExecArgs) -> Result<u8, Failure> {
    let name = args.grain.grain;
    let environment = &ctx.settings.environment;
    let terminals = environment.stdin_tty && environment.stdout_tty;
    let body = ExecBody {
        command: args.command,
        env: args.env.into_iter().collect(),
        user: args.user,
        ..ExecBody::default()
    };
    if args.tty || (terminals && !args.no_tty) {
        let window = Some(terminal::window());
        let body = ExecBody { tty: true, window, ..body.clone() };
        match terminal::sit(ctx, framed(&name, "exec"), line(&body), false).await {
            // Nobody has asked for a terminal: without one it is as good.
            Err(Failure::Problem { problem, .. })
                if problem.code == Code::Unsupported && !args.tty && body.user.is_none() => {}
            other => return ctx.named(other, &[(Noun::Grain, &name)]).await,
        }
    }
    let opened = ctx.client.open(&framed(&name, "exec").stdin_after(&body)).await;
    let response = ctx.named(opened, &[(Noun::Grain, &name)]).await?;
    carry(ctx, response).await
}

/// Shows what a program writes, until it ends.
pub(super) async fn carry(ctx: &Ctx, response: reqwest::Response) -> Result<u8, Failure> {
    let mut answer = Answer::of(response);
    loop {
        match answer.next().await? {
            Frame::Stdout(bytes) => ctx.print.out_bytes(&bytes)?,
            Frame::Stderr(bytes) => ctx.print.err_bytes(&bytes),
            Frame::End(end) => return Ok(status(ctx, &end)),
        }
    }
}

/// The frames of an answer.
pub(super) struct Answer {
    response: reqwest::Response,
    frames: Frames,
    ready: std::collections::VecDeque<Frame>,
}

impl Answer {
    pub(super) fn of(response: reqwest::Response) -> Self {
        Self { response, frames: Frames::default(), ready: Default::default() }
    }

    /// The next frame; the last one is the program's end.
    pub(super) async fn next(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(frame);
            }
            let chunk = self.response.chunk().await.map_err(|error| {
                let outcome = crate::client::retry::describe(&error);
                Failure::local(format!("the connection to the program {outcome}"))
            })?;
            let Some(chunk) = chunk else {
                return Err(Failure::local("the connection ended before the program did"));
            };
            let frames = self.frames.push(&chunk);
            let frames = frames
                .map_err(|error| Failure::local(format!("the node's answer is broken: {error}")))?;
            self.ready.extend(frames);
        }
    }
}

fn status(ctx: &Ctx, end: &ExecEnd) -> u8 {
    if let Some(error) = &end.error {
        ctx.print.err(&format!("error: {}", crate::render::text::clean(error)));
    }
    match end.status {
        // A shell sees the low eight bits of a status; a status that does not fit must not become 0.
        Some(status) => u8::try_from(status).unwrap_or(u8::MAX),
        None => NOT_RUN,
    }
}
