//! A cluster of three nodes on one machine, to try out and to break. Starts and ends processes of this program and
//! nothing else; talks to its nodes only through their doors. Linux only: it finds processes through `/proc`.

mod api;
mod layout;
mod ports;
mod process;
mod supervise;
mod tour;
mod verbs;

use crate::args::{Demo, DemoVerb};
use layout::Layout;

/// Does what the command line says.
///
/// # Errors
/// What failed, with advice where there is some.
pub async fn main(args: Demo) -> anyhow::Result<()> {
    let layout = Layout::of(&args)?;
    match args.verb {
        None => supervise::foreground(&layout).await,
        Some(DemoVerb::Up) => verbs::up(&layout).await,
        Some(DemoVerb::Stop(stop)) => verbs::stop(&layout, stop.purge).await,
        Some(DemoVerb::Kill(kill)) => verbs::kill(&layout, &kill.node, kill.only_daemon).await,
        Some(DemoVerb::Restart(node)) => verbs::restart(&layout, &node.node).await,
        Some(DemoVerb::Status) => verbs::status(&layout).await,
        Some(DemoVerb::Tour) => tour::tour(&layout).await,
    }
}
