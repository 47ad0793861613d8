//! Part of `agent`: what is on the disk is looked at again, because people and other programs change it too. A dataset that was
//! renamed, destroyed or rolled back by hand is known within half a minute, and at once where something failed because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scrap_decide::obey::Lane;
use scrap_host::datasets::{Dataset, DatasetId, Datasets as _};
use scrap_schema::id::{Epoch, GrainId, TemplateId};
use scrap_schema::snapshot::{Guid, Snapshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::alarm::alarm;
use super::{State, Update};
use crate::daemon::Daemon;
use crate::execute;

/// Pause between two surveys. One listing of the whole pool each.
const EVERY: Duration = Duration::from_secs(30);

/// Pauses between tries to measure an orphan, which may mean to read all of it: each is twice the one before.
const RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// When orphans are to be measured again that could not be, and after what pause.
#[derive(Default)]
struct Tries(BTreeMap<(GrainId, Epoch), (Instant, Duration)>);

impl Tries {
    /// Whether it is time for a try, which then counts as one.
    fn is_due(&mut self, orphan: (GrainId, Epoch), now: Instant) -> bool {
        let (first, longest) = RETRY;
        let (due, pause) = self.0.entry(orphan).or_insert((now, first));
        let is_due = *due <= now;
        if is_due {
            *due = now + *pause;
            *pause = longest.min(*pause * 2);
        }
        is_due
    }
}

/// Surveys until `shutdown`.
pub(super) async fn keep(daemon: Arc<Daemon>, shutdown: CancellationToken) {
    let mut tries = Tries::default();
    let mut measuring = tokio::task::JoinSet::new();
    loop {
        let mut orphans = tokio::select! {
            orphans = survey(&daemon) => orphans,
            () = shutdown.cancelled() => return,
        };
        // One orphan at a time, and beside the survey: to measure one may mean to read all of it.
        while measuring.try_join_next().is_some() {}
        if measuring.is_empty() {
            let now = Instant::now();
            orphans.retain(|(key, _)| tries.is_due(*key, now));
            measuring.spawn(measure(daemon.clone(), orphans));
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => (),
            () = shutdown.cancelled() => return,
        }
    }
}

/// Looks at what has changed; returns orphans that are not measured.
async fn survey(daemon: &Daemon) -> Vec<((GrainId, Epoch), Dataset)> {
    let list = match daemon.host.datasets.list().await {
        Ok(list) => list,
        Err(error) => {
            warn!(error = crate::logging::chain(&error), "cannot see what datasets are here");
            return Vec::new();
        }
    };
    for grain in daemon.agent.with(|state| changed(state, &list)) {
        // Whoever works on it now looks at it afterwards.
        let Some(lane) = daemon.agent.reserve(Lane::Shape(grain)) else { continue };
        look_again(daemon, grain, By::Somebody).await;
        drop(lane);
    }
    for template in daemon.agent.with(|state| changed_templates(state, &list)) {
        let Some(lane) = daemon.agent.reserve(Lane::Template(template)) else { continue };
        let before = daemon.agent.with(|state| state.facts.templates.get(&template).copied());
        match daemon.host.datasets.get(DatasetId::Template(template)).await {
            Ok(dataset) => {
                let sealed = dataset.as_ref().and_then(sealed);
                if sealed != before {
                    warn!(%template, "it is not as it was left: somebody else has changed it");
                }
                daemon.agent.update(vec![Update::Template(template, sealed)]);
            }
            Err(error) => {
                debug!(%template, error = crate::logging::chain(&error), "cannot look at it");
            }
        }
        drop(lane);
    }
    daemon.agent.with(|state| new_orphans(state, list))
}

/// Measures orphans. What failed is told, and tried again after a pause.
async fn measure(daemon: Arc<Daemon>, orphans: Vec<((GrainId, Epoch), Dataset)>) {
    for ((grain, epoch), orphan) in orphans {
        match execute::orphan_facts(&daemon.host, &orphan).await {
            Ok(Some(facts)) => daemon.agent.update(vec![Update::Measured(grain, epoch, facts)]),
            Ok(None) => (),
            Err(error) => {
                let error = crate::logging::chain(error.as_ref());
                warn!(%grain, %epoch, error, "an orphan could not be measured");
            }
        }
    }
}

/// Orphans of which it is not known what only they have. No start of the daemon waits for that.
fn new_orphans(state: &State, list: Vec<Dataset>) -> Vec<((GrainId, Epoch), Dataset)> {
    let orphans = list.into_iter().filter_map(|dataset| match dataset.id {
        DatasetId::Orphan(grain, epoch) => Some(((grain, epoch), dataset)),
        DatasetId::Grain(_) | DatasetId::Template(_) => None,
    });
    let known =
        |key: &(GrainId, Epoch)| state.facts.orphans.get(key).is_some_and(|it| it.newer.is_some());
    orphans.filter(|(key, _)| !known(key)).collect()
}

/// What a template is, once it is whole.
fn sealed(template: &Dataset) -> Option<Guid> {
    template.snapshots.last().map(|sealed| sealed.guid)
}

/// Templates that have come, gone, or are other ones than is believed.
fn changed_templates(state: &State, list: &[Dataset]) -> Vec<TemplateId> {
    let listed: BTreeMap<TemplateId, Guid> = list
        .iter()
        .filter_map(|dataset| match dataset.id {
            DatasetId::Template(template) => Some((template, sealed(dataset)?)),
            DatasetId::Orphan(..) | DatasetId::Grain(_) => None,
        })
        .collect();
    let believed = &state.facts.templates;
    let all: BTreeSet<TemplateId> = believed.keys().chain(listed.keys()).copied().collect();
    all.into_iter().filter(|template| believed.get(template) != listed.get(template)).collect()
}

/// The snapshots that are believed to be here; `None`: there is no dataset.
fn believed(state: &State, grain: GrainId) -> Option<BTreeSet<Guid>> {
    let data = state.facts.data.get(&grain)?;
    Some(guids(&data.snapshots))
}

/// The same, with the bookmarks.
fn all_believed(state: &State, grain: GrainId) -> Option<[BTreeSet<Guid>; 2]> {
    let data = state.facts.data.get(&grain)?;
    Some(bases(&data.snapshots, &data.bookmarks))
}

/// All that a stream can begin at.
fn bases(snapshots: &[Snapshot], bookmarks: &[Snapshot]) -> [BTreeSet<Guid>; 2] {
    [guids(snapshots), guids(bookmarks)]
}

/// Grains whose dataset has come, gone, or holds other snapshots than is believed, and that nobody works on.
fn changed(state: &State, list: &[Dataset]) -> Vec<GrainId> {
    let listed: BTreeMap<GrainId, [BTreeSet<Guid>; 2]> = list
        .iter()
        .filter_map(|dataset| match dataset.id {
            DatasetId::Grain(grain) => Some((grain, bases(&dataset.snapshots, &dataset.bookmarks))),
            DatasetId::Orphan(..) | DatasetId::Template(_) => None,
        })
        .collect();
    let grains: BTreeSet<GrainId> = state.facts.data.keys().chain(listed.keys()).copied().collect();
    let differs = |grain: &GrainId| {
        let works = state.facts.busy.iter().any(|lane| touches(lane, *grain));
        all_believed(state, *grain).as_ref() != listed.get(grain) && !works
    };
    grains.into_iter().filter(differs).collect()
}

fn guids(snapshots: &[Snapshot]) -> BTreeSet<Guid> {
    snapshots.iter().map(|snapshot| snapshot.guid).collect()
}

/// Whether work in this lane changes the grain's dataset.
fn touches(lane: &Lane, grain: GrainId) -> bool {
    match lane {
        Lane::Shape(of) | Lane::Snap(of) | Lane::Run(of) | Lane::Copy(of, _) => *of == grain,
        Lane::Describe(_) | Lane::Tell(_) | Lane::Lease | Lane::Template(_) => false,
    }
}

/// By whom what is missing may have been taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// By work of ours that did not come to its end.
    Us,
    /// By nobody here: people are told of it.
    Somebody,
}

/// Reads anew what is on the disk of one grain, whose lane is held.
pub(crate) async fn look_again(daemon: &Daemon, grain: GrainId, by: By) {
    let (before, alone) =
        daemon.agent.with(|state| (believed(state, grain), is_alone(state, grain)));
    match execute::look_at(&daemon.host, grain).await {
        Ok(seen) => daemon.agent.update(seen),
        Err(error) => {
            let error = crate::logging::chain(error.as_ref());
            debug!(%grain, error, "cannot look at its dataset");
            return;
        }
    }
    let (after, still) =
        daemon.agent.with(|state| (believed(state, grain), is_alone(state, grain)));
    // Other work of ours takes things away too, and says so when it has ended: then the next survey knows more.
    if by == By::Us || !(alone && still) {
        return;
    }
    if let Some(lost) = taken_away(before.as_ref(), after.as_ref()) {
        let name = daemon.consensus.read(|cluster| cluster.grain_name(grain));
        let what = format!("somebody else has {lost} of grain {name}");
        warn!(%grain, what, "its dataset is not as it was left");
        alarm(daemon, &format!("data of {grain}"), what).await;
    } else if before != after {
        // The listing may have been older than work that has ended meanwhile.
        warn!(%grain, "its dataset is not as it was left: somebody else has changed it");
    }
}

/// Whether nothing but the caller works on what a grain has here.
fn is_alone(state: &State, grain: GrainId) -> bool {
    state.facts.busy.iter().filter(|lane| touches(lane, grain)).count() <= 1
}

/// What is missing of the snapshots that were here, in words.
fn taken_away(before: Option<&BTreeSet<Guid>>, after: Option<&BTreeSet<Guid>>) -> Option<String> {
    let Some(after) = after else {
        return before.map(|_| "destroyed or renamed the data".to_owned());
    };
    match before?.difference(after).count() {
        0 => None,
        1 => Some("destroyed a snapshot".to_owned()),
        lost => Some(format!("destroyed {lost} snapshots")),
    }
}

#[cfg(test)]
mod tests {
    use scrap_decide::obey::OrphanFacts;
    use scrap_host::datasets::{Datasets as _, Shape};
    use scrap_host::mem::MemDatasets;
    use scrap_schema::snapshot::{Purpose, SnapshotName};
    use scrap_schema::time::Timestamp;
    use scrap_schema::unit::Bytes;

    use super::*;

    const WEB: GrainId = GrainId(7);

    /// What a pool lists after so many snapshots of one grain.
    async fn listed(snapshots: u64) -> Vec<Dataset> {
        let datasets = MemDatasets::new(1);
        datasets.create(WEB, Epoch(1), Shape::default()).await.unwrap();
        for seq in 1..=snapshots {
            let name = SnapshotName { epoch: Epoch(1), seq, purpose: Purpose::Replication };
            datasets.snapshot(WEB, &name, Timestamp(1)).await.unwrap();
        }
        datasets.list().await.unwrap()
    }

    #[tokio::test]
    async fn what_came_went_or_has_other_snapshots_is_looked_at_unless_somebody_works_on_it() {
        let (one, two) = (listed(1).await, listed(2).await);
        let mut state = State::default();
        assert_eq!(changed(&state, &[]), []);
        assert_eq!(changed(&state, &one), [WEB], "it came");
        state.take(Update::Data(WEB, Some(one[0].clone())));
        assert_eq!(changed(&state, &one), []);
        assert_eq!(changed(&state, &two), [WEB], "it has another one");
        assert_eq!(changed(&state, &[]), [WEB], "it went");
        for lane in [Lane::Shape(WEB), Lane::Snap(WEB), Lane::Run(WEB)] {
            state.facts.busy.insert(lane);
            assert_eq!(changed(&state, &[]), [], "{lane:?}");
            state.facts.busy.remove(&lane);
        }
        state.facts.busy.insert(Lane::Describe(WEB));
        assert_eq!(changed(&state, &[]), [WEB]);
    }

    #[test]
    fn what_somebody_took_away_is_said() {
        let snapshots =
            |guids: &[u64]| Some(guids.iter().copied().map(Guid).collect::<BTreeSet<_>>());
        for (before, after, lost) in [
            (None, None, None),
            (None, snapshots(&[1]), None),
            (snapshots(&[1]), snapshots(&[1, 2]), None),
            (snapshots(&[1, 2]), snapshots(&[2, 3]), Some("destroyed a snapshot")),
            (snapshots(&[1, 2]), snapshots(&[]), Some("destroyed 2 snapshots")),
            (snapshots(&[]), None, Some("destroyed or renamed the data")),
        ] {
            let found = taken_away(before.as_ref(), after.as_ref());
            assert_eq!(found.as_deref(), lost, "{before:?} {after:?}");
        }
    }

    #[tokio::test]
    async fn a_template_that_came_or_went_is_looked_at() {
        let (datasets, template) = (MemDatasets::new(1), TemplateId(3));
        datasets.begin_template(template).await.unwrap();
        let mut state = State::default();
        let begun = datasets.list().await.unwrap();
        assert_eq!(changed_templates(&state, &begun), [], "half of one is none");
        let sealed = datasets.seal_template(template, Timestamp(1)).await.unwrap();
        let list = datasets.list().await.unwrap();
        assert_eq!(changed_templates(&state, &list), [template], "it came");
        state.take(Update::Template(template, Some(sealed.guid)));
        assert_eq!(changed_templates(&state, &list), []);
        assert_eq!(changed_templates(&state, &[]), [template], "it went");
    }

    #[test]
    fn what_could_not_be_measured_is_tried_again_after_longer_and_longer_pauses() {
        let (mut tries, mut now) = (Tries::default(), Instant::now());
        let (one, other) = ((WEB, Epoch(1)), (WEB, Epoch(2)));
        assert!(tries.is_due(one, now));
        assert!(!tries.is_due(one, now) && tries.is_due(other, now));
        for pause in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            now += Duration::from_secs(pause - 1);
            assert!(!tries.is_due(one, now), "before {pause} s");
            now += Duration::from_secs(1);
            assert!(tries.is_due(one, now), "after {pause} s");
        }
    }

    #[tokio::test]
    async fn an_orphan_is_measured_once() {
        let datasets = MemDatasets::new(1);
        datasets.create(WEB, Epoch(1), Shape::default()).await.unwrap();
        let name = SnapshotName { epoch: Epoch(1), seq: 1, purpose: Purpose::Orphan };
        datasets.set_aside(WEB, None, &name, Timestamp(1)).await.unwrap();
        let list = datasets.list().await.unwrap();
        let mut state = State::default();
        let new = new_orphans(&state, list.clone());
        let keys: Vec<_> = new.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [(WEB, Epoch(1))]);
        let head = list[0].snapshots[0].clone();
        let line = vec![head.guid];
        let mut facts = OrphanFacts { head, base: None, line, newer: None, used: Bytes(0) };
        state.take(Update::Aside(WEB, Epoch(1), Some(facts.clone())));
        assert_eq!(
            new_orphans(&state, list.clone()).len(),
            1,
            "it is known, and not what it is worth"
        );
        facts.newer = Some(Bytes(0));
        state.take(Update::Measured(WEB, Epoch(1), facts.clone()));
        assert!(new_orphans(&state, list).is_empty());
        // What was measured while it went is not there again.
        state.take(Update::Aside(WEB, Epoch(1), None));
        state.take(Update::Measured(WEB, Epoch(1), facts.clone()));
        assert!(state.facts.orphans.is_empty());
        state.take(Update::Aside(WEB, Epoch(1), Some(facts)));
        assert_eq!(state.facts.orphans.len(), 1, "other data can lie in its place later");
    }
}
