//! Host actions in the operator's words: names, not ids; only those that matter to a person.

use scrap_decide::obey::HostAction;
use scrap_schema::id::GrainId;

/// The line for an action, if it is worth one.
#[must_use]
pub fn action(name: impl Fn(GrainId) -> String, action: &HostAction) -> Option<String> {
    match action {
        HostAction::Start { grain, epoch, deadline } => {
            let how = if deadline.is_some() { "under the lease" } else { "without a lease" };
            Some(format!("start {}, epoch {epoch}, {how}", name(*grain)))
        }
        HostAction::Stop { grain, why, .. } => Some(format!("stop {}: {why}", name(*grain))),
        HostAction::Arm { grain, .. } => Some(format!("put {} under the lease", name(*grain))),
        HostAction::Disarm { grain } => Some(format!("let {} run without a lease", name(*grain))),
        HostAction::Promote { grain, epoch } => {
            Some(format!("promote the copy of {}, epoch {epoch}", name(*grain)))
        }
        HostAction::Demote { grain, .. } => {
            Some(format!("make the data of {} a copy", name(*grain)))
        }
        HostAction::SetAside { grain, base, .. } => {
            let all = if base.is_some() { "diverged" } else { "all" };
            Some(format!("set {all} data of {} aside", name(*grain)))
        }
        HostAction::TakeBack { grain, epoch } => {
            Some(format!("take back what was set aside of {} in epoch {epoch}", name(*grain)))
        }
        HostAction::Discard { grain, epoch } => {
            Some(format!("remove what was set aside of {} in epoch {epoch}", name(*grain)))
        }
        HostAction::CloneFrom { grain, from, orphan: None, .. } => {
            Some(format!("clone {} from {}", name(*grain), name(*from)))
        }
        HostAction::CloneFrom { grain, from, orphan: Some(_), .. } => {
            Some(format!("make {} from what was set aside of {}", name(*grain), name(*from)))
        }
        HostAction::CloneTemplate { grain, .. } => {
            Some(format!("make {} from its template", name(*grain)))
        }
        HostAction::Fetch { from, .. } => Some(format!("get a template from node {from}")),
        HostAction::DropTemplate { .. } => Some("remove a template".to_owned()),
        HostAction::Restore { grain, snapshot, .. } => {
            Some(format!("restore {} to snapshot {snapshot}", name(*grain)))
        }
        HostAction::Destroy { grain } => Some(format!("remove the dataset of {}", name(*grain))),
        HostAction::Create { .. }
        | HostAction::Snapshot { .. }
        | HostAction::Probe { .. }
        | HostAction::Prune { .. }
        | HostAction::Hold { .. }
        | HostAction::Release { .. }
        | HostAction::Describe { .. }
        | HostAction::Ask { .. }
        | HostAction::Send { .. }
        | HostAction::Extend { .. }
        | HostAction::Tell { .. } => None,
    }
}
