//! What lies aside on this node: the cluster is told of it, and of its end. A person's word removes it.

use scrap_schema::command::Command;
use scrap_schema::id::NodeId;

use super::{HostAction, HostFacts};
use crate::cluster::{Cluster, Orphan, OrphanKey};
use crate::mutant::{self, Mutant};

pub(super) fn decide(
    me: NodeId,
    cluster: &Cluster,
    host: &HostFacts,
    actions: &mut Vec<HostAction>,
) {
    for orphan in cluster.orphans.values().filter(|orphan| orphan.key.node == me) {
        over(orphan, cluster.index, host, actions);
    }
    kept(me, cluster, host, actions);
}

/// What the cluster knows of and should not lie here, or does not any more.
fn over(orphan: &Orphan, index: u64, host: &HostFacts, actions: &mut Vec<HostAction>) {
    let OrphanKey { grain, epoch, node } = orphan.key;
    let aside = (grain, epoch);
    let gone = |head_again| HostAction::Tell {
        command: Box::new(Command::OrphanGone {
            grain,
            orphan_epoch: epoch,
            node,
            head_again,
            seen: Some(index),
        }),
    };
    let in_use = host.data.get(&grain).is_some_and(|data| {
        data.snapshots.iter().any(|snapshot| snapshot.guid == orphan.head.guid)
    });
    match (orphan.discard.is_some(), host.orphans.contains_key(&aside)) {
        (_, false) if in_use => actions.push(gone(true)),
        // Only what has been removed in this life of the daemon is surely not there: it is removed again after a crash.
        (true, false) if host.discarded.contains(&aside) => actions.push(gone(false)),
        (asked, _) if asked || mutant::is(Mutant::DiscardsUnasked) => {
            actions.push(HostAction::Discard { grain, epoch });
        }
        (_, _) => (),
    }
}

/// Diverged heads that the cluster does not know of yet.
fn kept(me: NodeId, cluster: &Cluster, host: &HostFacts, actions: &mut Vec<HostAction>) {
    for ((grain, epoch), orphan) in &host.orphans {
        let key = OrphanKey { grain: *grain, epoch: *epoch, node: me };
        let known = cluster.orphans.get(&key).map(|known| known.head.guid);
        // What it is worth is told with it: it waits for the measurement.
        let Some(newer) = orphan.newer.filter(|_| known != Some(orphan.head.guid)) else {
            continue;
        };
        let command = Command::OrphanKept {
            grain: *grain,
            orphan_epoch: *epoch,
            node: me,
            base: orphan.base,
            head: orphan.head.clone(),
            newer,
            used: orphan.used,
            seen: Some(cluster.index),
        };
        actions.push(HostAction::Tell { command: Box::new(command) });
    }
}
