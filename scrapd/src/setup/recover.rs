//! `scrapd recover`: the majority is gone for good, and the cluster begins anew from this node. Offline, step by step, each of which
//! can be done again; the databases as they were are kept beside.
//!
//! What becomes of grains is not decided here: the dry run applies the same command to a copy of the state.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use scrap_decide::cluster::{Cluster, Outcome};
use scrap_decide::preview;
use scrap_host::clock;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::{Name, NodeId};
use scrap_schema::problem::Exit;

use super::{Refused, refused};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::front::say;
use crate::identity::{Identity, IdentityError, LEFT_BEHIND, RECOVERING};
use crate::raft::{self, Consensus, Known, Settings, Survivor};

/// Limit for this node's own election: it is the only voter.
const ELECTION: Duration = Duration::from_secs(60);

/// What somebody asks `scrapd recover` for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Only print what this node has.
    pub show: bool,
    /// What the other survivors have printed.
    pub others: Vec<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The name of the cluster, typed by a person.
    pub confirm: Option<Name>,
}

/// Begins the cluster anew from this node.
///
/// # Errors
/// If this is not the node to do it from, nobody has confirmed it, or the folder cannot be read or written.
pub async fn recover(config: &Config, wish: &Wish) -> anyhow::Result<()> {
    let data_dir = DataDir::take(&config.data_dir)?;
    let missing = || IdentityError::None { data_dir: config.data_dir.clone() };
    let identity = Identity::find(data_dir.path())?.ok_or_else(missing)?;
    has_log(config, &identity)?;
    let begun = began(&data_dir)?;
    let generation = begun.unwrap_or(identity.generation + 1);
    let settings = config.raft_settings(identity.node, identity.cluster_id);
    let settings = settings.of_generation(identity.generation);
    let survivor = raft::look(&settings).await?;
    if wish.show {
        say(survivor.to_string().trim_end());
        return Ok(());
    }
    if begun.is_none() {
        is_the_right_one(&survivor, &known(&wish.others)?)?;
    }
    nobody_answers(&survivor)?;
    say(survivor.to_string().trim_end());
    plan(&survivor, generation)?;
    if wish.dry_run {
        say("nothing was changed: this was a dry run");
        return Ok(());
    }
    confirmed(&survivor, wish)?;
    if begun.is_none() {
        keep(&data_dir, generation)?;
    }
    data_dir.write(RECOVERING, &format!("{generation}\n"))?;
    raft::alone(&settings, &config.advertise.peer).await?;
    begin(settings.of_generation(generation), &identity).await?;
    Identity { generation, ..identity }.write(&data_dir)?;
    let mark = data_dir.path().join(RECOVERING);
    std::fs::remove_file(&mark).with_context(|| format!("cannot remove `{}`", mark.display()))?;
    say(format!(
        "the cluster begins anew as generation {generation}; start this node: `scrapd run`"
    ));
    say("then follow the rest of docs/reference/the-majority-is-gone.md");
    Ok(())
}

fn has_log(config: &Config, identity: &Identity) -> anyhow::Result<()> {
    if config.data_dir.join(LEFT_BEHIND).exists() {
        let what = format!("node `{}` was left behind by a newer generation itself", identity.name);
        return Err(refused(what, "recover from a node of the newer one; this one joins again"));
    }
    if !config.raft_db_path().exists() {
        let (name, log) = (identity.name.clone(), config.raft_db_path());
        return Err(IdentityError::LogMissing { name, log }.into());
    }
    Ok(())
}

/// The generation that an interrupted recovery was on its way to.
fn began(data_dir: &DataDir) -> anyhow::Result<Option<u64>> {
    let path = data_dir.path().join(RECOVERING);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let generation = text.trim().parse();
            Ok(Some(generation.with_context(|| format!("`{}` makes no sense", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// What the other survivors have said of themselves.
fn known(files: &[PathBuf]) -> anyhow::Result<Vec<Known>> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let hint = "it should hold what `scrapd recover --show` has printed there";
        let what = || refused(format!("`{}` makes no sense", path.display()), hint);
        Known::parse(&text).ok_or_else(what)
    };
    files.iter().map(read).collect()
}

/// Of all survivors the one with the highest last entry has everything that was ever promised, if any of them has.
fn is_the_right_one(survivor: &Survivor, others: &[Known]) -> anyhow::Result<()> {
    for other in others {
        if other.cluster != survivor.cluster.to_string() || other.generation != survivor.generation
        {
            let what = format!("node {} is of another cluster or generation", other.node);
            return Err(refused(what, "compare survivors of one cluster and generation only"));
        }
        if survivor.is_behind(other) {
            let (term, index) = other.last;
            let what = format!(
                "node {} has more of the log than this one: term {term} index {index}",
                other.node
            );
            return Err(refused(what, "recover from that node: what it has more would be lost"));
        }
    }
    if survivor.voters == BTreeSet::from([survivor.node]) {
        let what = "this node is the only voter: it is a majority by itself".to_owned();
        return Err(refused(what, "start it with `scrapd run`"));
    }
    Ok(())
}

/// Two clusters that go on from the same past would both run its grains.
fn nobody_answers(survivor: &Survivor) -> anyhow::Result<()> {
    if survivor.answering.is_empty() {
        return Ok(());
    }
    let name = |node: &NodeId| survivor.state.node_name(*node);
    let names: Vec<String> = survivor.answering.iter().map(name).collect();
    let names = names.join(", ");
    let hint = format!(
        "if a majority of the voters can still answer, nothing needs to be recovered; else stop the daemon of {names} first and compare with `--show`"
    );
    Err(refused(format!("{names} still answers"), hint))
}

/// Says what will be done, by doing it to a copy of the state.
fn plan(survivor: &Survivor, generation: u64) -> anyhow::Result<()> {
    let command = Command::RecoverCluster { generation, node: survivor.node };
    let before = &survivor.state;
    let after = preview::tried(before, clock::now(), command).context("it cannot begin anew")?;
    for line in sentences(before, &after, survivor.node) {
        say(line);
    }
    Ok(())
}

fn sentences(before: &Cluster, after: &Cluster, me: NodeId) -> Vec<String> {
    let mut lines = vec![String::new(), format!("generation {}:", after.generation())];
    let left = after.nodes.values().filter(|node| after.left_behind(node));
    lines.extend(left.map(|node| format!("  node {} is left behind, for good", node.name)));
    let running = before.operations.values().filter(|operation| !operation.state.is_final());
    lines.extend(running.map(|it| format!("  {} {} is given up", it.work.word(), it.target)));
    for grain in after.grains.values().filter(|grain| grain.trashed_until.is_none()) {
        let (name, epoch) = (&grain.name, grain.epoch);
        let Some(owner) = grain.owner else { continue };
        let was = before.grains.get(&grain.id);
        let copy = was.is_some_and(|was| was.standbys.contains(&me));
        lines.push(match (owner == me, copy) {
            (true, _) => format!("  grain {name} goes on here, epoch {epoch}"),
            (false, true) => format!(
                "  grain {name} waits for your word; it has a copy here: scrapctl failover {name} --owner-is-off"
            ),
            (false, false) => format!(
                "  grain {name} waits until a machine that has its data joins again: {}",
                before.node_name(owner)
            ),
        });
    }
    lines.push("  what was promised to the others and never reached this node is lost".to_owned());
    lines.push("  the others can never take part again as they are: they join again".to_owned());
    lines
}

/// A person types the name of the cluster.
fn confirmed(survivor: &Survivor, wish: &Wish) -> anyhow::Result<()> {
    let identity = survivor.state.identity.as_ref().context("its state has no cluster")?;
    let typed = match &wish.confirm {
        Some(name) => name.to_string(),
        None if std::io::stdin().is_terminal() => {
            say(format!("\nThis cannot be undone. Type the cluster's name ({}):", identity.name));
            std::io::stdout().flush()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim().to_owned()
        }
        None => String::new(),
    };
    if typed == identity.name.as_str() {
        return Ok(());
    }
    let what = match typed.as_str() {
        "" => "nobody has confirmed it".to_owned(),
        other => format!("`{other}` is not the name of this cluster"),
    };
    let hint = format!("look at `scrapd recover --dry-run`, then `--confirm {}`", identity.name);
    Err(Refused { what, hint, exit: Exit::Usage }.into())
}

/// Keeps the databases as they were before the first change. They are of no use for going on, only for looking back.
fn keep(data_dir: &DataDir, generation: u64) -> anyhow::Result<()> {
    let kept = data_dir.path().join(format!("before-recovery-{generation}"));
    let half = data_dir.path().join(format!("before-recovery-{generation}.unfinished"));
    let fail = || format!("cannot keep what was in `{}`", half.display());
    if half.exists() {
        std::fs::remove_dir_all(&half).with_context(fail)?;
    }
    std::fs::create_dir(&half).with_context(fail)?;
    let parts = ["node.json", "raft.db", "state.db", "snapshot-"];
    for name in data_dir.entries()? {
        let from = data_dir.path().join(&name);
        if parts.iter().any(|part| name.starts_with(part)) && from.is_file() {
            copy(&from, &half.join(&name)).with_context(fail)?;
        }
    }
    if kept.exists() {
        // Of a recovery that was cut off before its first change: what is here now is as old or newer.
        std::fs::remove_dir_all(&kept).with_context(fail)?;
    }
    std::fs::rename(&half, &kept).with_context(fail)?;
    std::fs::File::open(data_dir.path()).and_then(|folder| folder.sync_all()).with_context(fail)?;
    say(format!("what was here is kept in `{}`", kept.display()));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to)?;
    std::fs::File::open(to)?.sync_all()
}

/// The first entry of the new generation.
async fn begin(settings: Settings, identity: &Identity) -> anyhow::Result<()> {
    let generation = settings.generation;
    let consensus = Consensus::open(settings).await?;
    let proposed = propose(&consensus, generation, identity.node).await;
    consensus.close().await;
    proposed
}

async fn propose(consensus: &Consensus, generation: u64, node: NodeId) -> anyhow::Result<()> {
    let mut leadership = consensus.leadership();
    let elected = leadership.wait_for(|leadership| leadership.me);
    tokio::time::timeout(ELECTION, elected)
        .await
        .context("this node was not elected by itself in time; run `scrapd recover` again")??;
    let command = Command::RecoverCluster { generation, node };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let committed = consensus.propose(proposal).await.context("it cannot begin anew")?;
    match committed.outcome.context("it cannot begin anew")? {
        Outcome::Done | Outcome::Unchanged => Ok(()),
        other => bail!("it cannot begin anew: {other:?}"),
    }
}
