//! Who votes, and what the loss of one more node would mean.

use scrap_schema::api::{MemberView, NodeState, QuorumView};

use super::grid::{Cell, Column, Grid};
use super::nodes::role;
use super::text::{Theme, Tone, clean, count, hint};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("STATE", "state"),
    Column::new("ROLE", "role"),
    Column::new("RAFT", "raft"),
    Column::new("BEHIND", "behind").right(),
    Column::new("IF-LOST", "if_lost"),
];

fn state(state: NodeState) -> (&'static str, Tone) {
    match state {
        NodeState::Online => ("online", Tone::Good),
        NodeState::Suspect => ("suspect", Tone::Warn),
        NodeState::Fenced => ("fenced", Tone::Bad),
        NodeState::Away => ("away", Tone::Dim),
    }
}

/// The answer of `cluster`. An old one must not look like the present.
pub(crate) fn text(view: &QuorumView, old: bool, theme: Theme) -> String {
    let name = theme.paint(Tone::Strong, view.name.as_str());
    let voters = count(usize::try_from(view.voters).unwrap_or(usize::MAX), "voter");
    let (answering, tone) = match view.answering {
        None => ("?".to_owned(), Tone::Bad),
        Some(number) if number < view.needed => (number.to_string(), Tone::Bad),
        Some(number) if number < view.voters => (number.to_string(), Tone::Warn),
        Some(number) => (number.to_string(), Tone::Good),
    };
    let was = if old { "NOT ANSWERING, " } else { "" };
    let votes = theme.paint(tone, &format!("{was}{answering} of {voters}"));
    let leader = view.leader.as_ref().map_or("no leader", |leader| leader.as_str());
    let leader = if view.leader.is_some() { format!("leader {leader}") } else { leader.to_owned() };
    let mut text = format!("{name}   {votes}   {} needed   {leader}\n", view.needed);
    if view.generation > 0 {
        text.push_str(&format!("  generation {}\n", view.generation));
    }
    if view.changing {
        text.push_str("  a change of the voters is half done: the leader finishes it\n");
    }
    text.push_str(&format!("  {}\n", clean(&view.next_loss)));
    if let Some(words) = &view.hint {
        text.push_str(&hint(words, theme));
    }
    text.push('\n');
    for member in &view.members {
        text.push_str(&line(member, view.answering.is_some(), theme));
    }
    text
}

/// `ada  online  voter, data   if lost: control goes on`.
fn line(member: &MemberView, known: bool, theme: Theme) -> String {
    // What was so when there was a leader is not what is so now.
    let (word, tone) = if known { state(member.state) } else { ("unknown", Tone::Dim) };
    let name = theme.paint(Tone::Strong, &format!("{:<10}", member.name.as_str()));
    let word = theme.paint(tone, &format!("{word:<8}"));
    let part = format!("{}, {}", clean(&member.raft), role(member.role));
    let mut notes = Vec::new();
    if let Some(behind) = member.behind.filter(|behind| *behind > 0) {
        let entries = usize::try_from(behind).unwrap_or(usize::MAX);
        let word = if entries == 1 { "entry" } else { "entries" };
        notes.push(format!("{entries} {word} behind"));
    }
    notes.extend(member.if_lost.as_ref().map(|words| format!("if lost: {}", clean(words))));
    let line = format!("{name} {word} {part:<16} {}", notes.join("; "));
    format!("{}\n", line.trim_end())
}

/// One row a node.
pub(crate) fn grid(view: &QuorumView, theme: Theme) -> Grid {
    let row = |member: &MemberView| {
        let (word, tone) = state(member.state);
        vec![
            Cell::new(member.name.as_str()).tone(Tone::Strong),
            Cell::new(word).tone(tone),
            Cell::new(role(member.role)),
            Cell::new(&member.raft),
            member.behind.map_or_else(|| Cell::none(theme), |number| Cell::new(number.to_string())),
            member.if_lost.as_ref().map_or_else(|| Cell::none(theme), Cell::new),
        ]
    };
    Grid::new(COLUMNS, view.members.iter().map(row).collect())
}
