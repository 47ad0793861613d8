//! `exec`: a program inside a grain, with our stdin, stdout, stderr and its exit status.

use scrap_schema::api::{ExecBody, ExecEnd};
use scrap_schema::problem::Code;

use super::Ctx;
use super::names::Noun;
use crate::cli::ExecArgs;
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
    match result {
        Ok(0) => Ok(()),
        Ok(status) => Err(Failure::Status(status)),
        Err(failure @ (Failure::Status(_) | Failure::Stdout(_))) => Err(failure),
        Err(failure) => {
            // The status of the table would be taken for the program's.
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

async fn run(ctx: &Ctx, args: ExecArgs) -> Result<u8, Failure> {
    let name = args.grain.grain;
    let body = ExecBody { command: args.command, env: args.env.into_iter().collect() };
    // Once: a program that was started twice is two programs.
    let call = Call::post(&["grains", name.as_str(), "exec"])
        .header("accept", "application/octet-stream")
        .stdin_after(&body)
        .once();
    let opened = ctx.client.open(&call).await;
    let mut response = ctx.named(opened, &[(Noun::Grain, &name)]).await?;
    let mut frames = Frames::default();
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            let outcome = crate::client::retry::describe(&error);
            Failure::local(format!("the connection to the program {outcome}"))
        })?;
        let Some(chunk) = chunk else {
            return Err(Failure::local("the connection ended before the program did"));
        };
        let frames = frames
            .push(&chunk)
            .map_err(|error| Failure::local(format!("the node's answer is broken: {error}")))?;
        for frame in frames {
            match frame {
                Frame::Stdout(bytes) => ctx.print.out_bytes(&bytes)?,
                Frame::Stderr(bytes) => ctx.print.err_bytes(&bytes),
                Frame::End(end) => return Ok(status(ctx, &end)),
            }
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
