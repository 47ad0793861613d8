//! `op ls|attach|cancel`, and how every command sees its operations through to the end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use scrap_schema::api::{NodeView, OperationView};
use scrap_schema::id::OperationId;
use scrap_schema::operation::OperationState;
use tokio::time::Instant;

use super::{Ctx, show};
use crate::cli::{OpCommand, OpLsArgs, OpState, Output, WaitArgs};
use crate::client::call::Call;
use crate::failure::Failure;
use crate::progress::Board;
use crate::render::operations;

/// How long a node holds a question about an operation that has not ended. Short, so that progress is seen.
const POLL: Duration = Duration::from_secs(1);
/// Shortest time between two questions, whatever a node does.
const POLL_PAUSE: Duration = Duration::from_millis(100);
/// How long an operation waits for the same reason until a person is told.
const WAITING_AFTER: Duration = Duration::from_secs(2);
/// How long nobody need answer before waiting is given up: longer than an election and a failover.
const PATIENCE: Duration = Duration::from_secs(120);

/// `op …`.
pub(crate) async fn run(ctx: &Ctx, command: OpCommand) -> Result<(), Failure> {
    match command {
        OpCommand::Ls(args) => ls(ctx, &args).await,
        OpCommand::Attach(args) => {
            let call = Call::get(&["operations", &args.id.to_string()]);
            let operation: OperationView = ctx.client.value(&call).await?;
            finish(ctx, vec![operation], WaitArgs::default()).await
        }
        OpCommand::Cancel(args) => {
            let call = Call::delete(&["operations", &args.op.id.to_string()], None);
            let operation: OperationView = ctx.client.value(&call).await?;
            // Its end is `cancelled`, which is what was asked for.
            settle(ctx, vec![operation], args.wait, OperationState::Cancelled).await
        }
    }
}

async fn ls(ctx: &Ctx, args: &OpLsArgs) -> Result<(), Failure> {
    let state = args.state.map(|state| match state {
        OpState::Running => OperationState::Running,
        OpState::Succeeded => OperationState::Succeeded,
        OpState::Failed => OperationState::Failed,
        OpState::Cancelled => OperationState::Cancelled,
    });
    let call = Call::get(&["operations"]).query_if("state", state).query("limit", args.limit);
    let operations: Vec<OperationView> = ctx.read(call).await?;
    let clock = ctx.clock();
    let grid = |theme| operations::grid(&operations, &clock, theme);
    show::list(ctx, &operations, grid, &args.list, "there are no operations")
}

/// Sees operations through to their end and says how they ended; or prints their ids.
pub(crate) async fn finish(
    ctx: &Ctx,
    begun: Vec<OperationView>,
    wait: WaitArgs,
) -> Result<(), Failure> {
    settle(ctx, begun, wait, OperationState::Succeeded).await
}

async fn settle(
    ctx: &Ctx,
    begun: Vec<OperationView>,
    wait: WaitArgs,
    wanted: OperationState,
) -> Result<(), Failure> {
    if wait.no_wait {
        return print_begun(ctx, &begun);
    }
    let ended = watch(ctx, begun).await?;
    let clock = ctx.clock();
    let theme = ctx.print.out_theme();
    match ctx.settings.output {
        Output::Table | Output::Wide => {
            let good = ended.iter().filter(|operation| operation.state == wanted);
            let text: String = good.map(|it| operations::end(it, &clock, theme)).collect();
            ctx.print.out(&text)?;
        }
        Output::Json | Output::Yaml | Output::Name | Output::Csv => print_views(ctx, &ended)?,
    }
    let bad: Vec<OperationView> = ended.into_iter().filter(|it| it.state != wanted).collect();
    if bad.is_empty() { Ok(()) } else { Err(Failure::Operations { operations: bad }) }
}

fn print_begun(ctx: &Ctx, begun: &[OperationView]) -> Result<(), Failure> {
    match ctx.settings.output {
        Output::Table | Output::Wide => {
            let ids: String = begun.iter().map(|operation| format!("{}\n", operation.id)).collect();
            ctx.print.out(&ids)
        }
        Output::Json | Output::Yaml | Output::Name | Output::Csv => print_views(ctx, begun),
    }
}

/// One operation as itself, several as a list: the caller asked for one or several.
fn print_views(ctx: &Ctx, views: &[OperationView]) -> Result<(), Failure> {
    let clock = ctx.clock();
    match views {
        [only] => show::one(
            ctx,
            only,
            |theme| operations::end(only, &clock, theme),
            |theme| operations::grid(views, &clock, theme),
        ),
        _ => {
            let grid = |theme| operations::grid(views, &clock, theme);
            show::list(ctx, views, grid, &crate::cli::ListArgs::default(), "")
        }
    }
}

/// Waits for the end of operations and shows what happens meanwhile. The node that answers may die; Ctrl-C and
/// `--timeout` leave the operations alone.
pub(crate) async fn watch(
    ctx: &Ctx,
    begun: Vec<OperationView>,
) -> Result<Vec<OperationView>, Failure> {
    let interrupted = interrupted();
    let board = Board::new(ctx.settings.progress, &ctx.print, begun.len());
    let open: Mutex<Vec<OperationId>> = Mutex::new(begun.iter().map(|it| it.id).collect());
    let all = begun.into_iter().enumerate().map(|(place, operation)| {
        let (board, open) = (&board, &open);
        async move {
            let ended = watch_one(ctx, board, place, operation).await?;
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|id| *id != ended.id);
            Ok::<_, Failure>(ended)
        }
    });
    let all = async {
        // Learnt now, because the node that was named may be the one that dies.
        let (ended, ()) = tokio::join!(try_join_all(all), learn(ctx));
        ended
    };
    let left = || open.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let result = tokio::select! {
        // The last question is given up when the time is over: that is the end of the time, not of the cluster.
        ended = all => match ended {
            Err(Failure::Unreachable { .. }) if is_over(ctx.client.deadline()) => {
                Err(Failure::Timeout {
                    what: "the time of --timeout is over".to_owned(),
                    operations: left(),
                })
            }
            ended => ended,
        },
        () = interrupted => Err(Failure::Interrupted { operations: left() }),
        () = deadline(ctx.client.deadline()) => Err(Failure::Timeout {
            what: "the time of --timeout is over".to_owned(),
            operations: left(),
        }),
    };
    board.end();
    result
}

/// Ends when the person presses Ctrl-C. Listens from the call on, not from the first poll.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signal = signal(SignalKind::interrupt());
    async move {
        match signal {
            Ok(mut signal) => _ = signal.recv().await,
            // Without a handler the system's own way of ending a program is left.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Ends when the time is over, if there is a limit.
pub(crate) async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether the time is over, or is about to be.
pub(crate) fn is_over(at: Option<Instant>) -> bool {
    at.is_some_and(|at| Instant::now() + Duration::from_millis(50) >= at)
}

/// Asks where the nodes listen. A help, never a need.
pub(crate) async fn learn(ctx: &Ctx) {
    let call = Call::get(&["nodes"]).query("stale", true).patient(Duration::from_secs(5));
    if let Ok(nodes) = ctx.client.value::<Vec<NodeView>>(&call).await {
        ctx.client.learn(&nodes);
    }
}

async fn watch_one(
    ctx: &Ctx,
    board: &Board,
    place: usize,
    begun: OperationView,
) -> Result<OperationView, Failure> {
    let id = begun.id.to_string();
    let call = Call::get(&["operations", &id])
        .query("wait", format!("{}s", POLL.as_secs()))
        .waits(POLL)
        .patient(PATIENCE);
    let mut before: Option<OperationView> = None;
    let mut now = begun;
    let mut waits = Waits::default();
    loop {
        let shown = waits.worth_saying(&now, Instant::now());
        board.update(place, before.as_ref(), &shown, &ctx.clock());
        if now.state.is_final() {
            return Ok(now);
        }
        let asked = Instant::now();
        let next = ctx.client.value(&call).await;
        now = next.map_err(|failure| still_there(failure, now.id))?;
        before = Some(shown);
        tokio::time::sleep_until(asked + POLL_PAUSE).await;
    }
}

/// Since when an operation waits for the same reason.
#[derive(Debug, Default)]
struct Waits {
    since: Option<(String, Instant)>,
}

impl Waits {
    /// The operation without a reason to wait that a person need not know: one that is over in a moment, as every
    /// start of a program is.
    fn worth_saying(&mut self, operation: &OperationView, now: Instant) -> OperationView {
        let mut shown = operation.clone();
        let Some(waiting) = &operation.waiting else {
            self.since = None;
            return shown;
        };
        let since = match &self.since {
            Some((reason, since)) if *reason == waiting.reason => *since,
            Some(_) | None => {
                self.since = Some((waiting.reason.clone(), now));
                now
            }
        };
        if waiting.hint.is_none() && now.duration_since(since) < WAITING_AFTER {
            shown.waiting = None;
        }
        shown
    }
}

/// When nobody answers any more, the person must still be able to come back to the operation.
fn still_there(failure: Failure, id: OperationId) -> Failure {
    match failure {
        Failure::Unreachable { mut tried, .. } => {
            tried.push(crate::failure::Attempt {
                server: format!("operation {id}"),
                outcome: format!("accepted; look after it: scrapctl op attach {id}"),
                connected: false,
                problem: None,
            });
            Failure::Unreachable { tried, sent: false }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use scrap_schema::api::WaitingView;

    use super::*;
    use crate::values;

    #[test]
    fn a_reason_is_said_when_it_lasts_or_has_a_hint() {
        let begin = Instant::now();
        let mut waits = Waits::default();
        let mut said = |reason: &str, hint: Option<&str>, seconds: u64| {
            let waiting = WaitingView {
                subject: "grain web".to_owned(),
                reason: reason.to_owned(),
                hint: hint.map(str::to_owned),
            };
            let operation = OperationView { waiting: Some(waiting), ..values::operation() };
            let now = begin + Duration::from_secs(seconds);
            waits.worth_saying(&operation, now).waiting.is_some()
        };
        assert!(!said("ada starts it", None, 0));
        assert!(!said("ada starts it", None, 1));
        assert!(said("ada starts it", None, 2));
        assert!(!said("something else", None, 3));
        assert!(said("no room", Some("drain it"), 3));
        assert!(!said("ada starts it", None, 4));
    }
}
