//! What is inside a grain: its logs, its services and its data (snapshots, restore, clone).

use std::time::Duration;

use scrap_schema::api::{
    CloneBody, GrainState, GrainView, RestoreBody, ServicesView, SnapshotBody,
};
use scrap_schema::id::Name;
use scrap_schema::problem::Code;

use super::names::Noun;
use super::{Ctx, grain, show};
use crate::cli::{CloneArgs, LogsArgs, RestoreArgs, ServicesArgs, SnapshotArgs};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::render::services as render;

/// Pause before a log that ended is asked for again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long to look for the grain's next owner.
const PATIENCE: Duration = Duration::from_secs(120);

/// Prints what a grain's program wrote, as it is.
pub(crate) async fn logs(ctx: &Ctx, args: &LogsArgs) -> Result<(), Failure> {
    let name = &args.grain.grain;
    let mut tail = args.tail;
    loop {
        let mut call = Call::get(&["grains", name.as_str(), "logs"])
            .header("accept", "text/plain")
            .query_if("tail", tail);
        if args.follow {
            call = call.query("follow", true).patient(PATIENCE);
        }
        let opened = ctx.client.open(&call).await;
        let gone_for_now = match ctx.named(opened, &[(Noun::Grain, name)]).await {
            Ok(response) => copy(ctx, response).await?,
            // Between two owners nobody has the log.
            Err(Failure::Problem { problem, .. })
                if args.follow && problem.code == Code::NotRunning =>
            {
                None
            }
            Err(failure) => return Err(failure),
        };
        if !args.follow {
            return match gone_for_now {
                None => Ok(()),
                Some(outcome) => Err(Failure::local(format!("the log {outcome}"))),
            };
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        let read = ctx.client.value(&Call::get(&["grains", name.as_str()])).await;
        let view: GrainView = ctx.named(read, &[(Noun::Grain, name)]).await?;
        if ended(view.status.state) {
            return Ok(());
        }
        // What it wrote before the end of the first stream was printed; what it wrote between the two may be missing.
        tail = Some(0);
        let outcome = gone_for_now.unwrap_or_else(|| "ended".to_owned());
        ctx.client
            .remark(&format!("the log {outcome}; following again, some lines may be missing"));
    }
}

/// Lists what the init of a grain says of its services.
pub(crate) async fn services(ctx: &Ctx, args: &ServicesArgs) -> Result<(), Failure> {
    let name = &args.grain.grain;
    let read = ctx.read(Call::get(&["grains", name.as_str(), "services"])).await;
    let view: ServicesView = ctx.named(read, &[(Noun::Grain, name)]).await?;
    let nothing = "its init keeps no list of services: systemd, OpenRC and runit do";
    show::list(ctx, &view.services, |_| render::grid(&view), &args.list, nothing)
}

/// Whether nothing more will be written.
fn ended(state: GrainState) -> bool {
    match state {
        GrainState::Stopped | GrainState::Trashed => true,
        GrainState::Pending
        | GrainState::Starting
        | GrainState::Running
        | GrainState::Unhealthy
        | GrainState::Stopping
        | GrainState::Moving
        | GrainState::Lost => false,
    }
}

/// Copies a stream to stdout; says how it broke off, if it did not end.
async fn copy(ctx: &Ctx, mut response: reqwest::Response) -> Result<Option<String>, Failure> {
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => ctx.print.out_bytes(&bytes)?,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(crate::client::retry::describe(&error))),
        }
    }
}

/// Takes a snapshot.
pub(crate) async fn snapshot(ctx: &Ctx, args: SnapshotArgs) -> Result<(), Failure> {
    let name = args.grain.grain;
    let body = SnapshotBody { name: args.name };
    let call = Call::post(&["grains", name.as_str(), "snapshots"]).json(&body);
    grain::begin_or_plan(ctx, &call, false, &[(Noun::Grain, &name)], args.wait).await
}

/// Makes a grain's data equal to a snapshot.
pub(crate) async fn restore(ctx: &Ctx, args: RestoreArgs) -> Result<(), Failure> {
    let name = args.grain.grain;
    let body = RestoreBody { snapshot: args.snapshot, dry_run: args.dry_run };
    let call = Call::post(&["grains", name.as_str(), "restore"]).json(&body);
    let names = [(Noun::Grain, &name)];
    let begun = grain::begin_or_plan(ctx, &call, args.dry_run, &names, args.wait).await;
    snapshot_hint(ctx, begun, &name, &body.snapshot).await
}

/// Makes a new grain from another one's data.
pub(crate) async fn clone(ctx: &Ctx, args: CloneArgs) -> Result<(), Failure> {
    let name: Name = args.grain.grain;
    let body = CloneBody {
        name: args.new,
        snapshot: args.snapshot,
        env: args.env.into_iter().collect(),
        running: args.start,
    };
    let call = Call::post(&["grains", name.as_str(), "clone"]).json(&body);
    let begun = grain::begin_or_plan(ctx, &call, false, &[(Noun::Grain, &name)], args.wait).await;
    match &body.snapshot {
        Some(snapshot) => snapshot_hint(ctx, begun, &name, snapshot).await,
        None => begun,
    }
}

/// When it is the snapshot that does not exist: the nearest one that does.
async fn snapshot_hint(
    ctx: &Ctx,
    result: Result<(), Failure>,
    grain: &Name,
    wanted: &str,
) -> Result<(), Failure> {
    let Err(Failure::Problem { mut problem, server, repeated }) = result else { return result };
    if problem.code == Code::NotFound
        && let Ok(view) =
            ctx.client.value::<GrainView>(&Call::get(&["grains", grain.as_str()])).await
    {
        let snapshots = view.status.snapshots.iter();
        let names: Vec<String> = snapshots.map(crate::render::grains::snapshot_word).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        problem.hint = Some(match crate::nearest::nearest(wanted, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => {
                format!("{grain} has no snapshots; take one with: scrapctl snapshot {grain} NAME")
            }
            None => {
                let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("{grain} has {}; more in: scrapctl info {grain}", quoted.join(", "))
            }
        });
    }
    Err(Failure::Problem { problem, server, repeated })
}
