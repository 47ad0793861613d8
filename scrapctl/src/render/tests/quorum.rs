//! The answer of `cluster` in the situations that people look at it in.

use expect_test::expect;
use scrap_schema::api::{MemberView, NodeState, QuorumView};
use scrap_schema::node::NodeRole;

use super::{PLAIN, table};
use crate::render::quorum;
use crate::values::name;

fn member(of: &str, raft: &str, if_lost: &str) -> MemberView {
    let (role, state) = (NodeRole::Data, NodeState::Online);
    let (raft, if_lost) = (raft.to_owned(), Some(if_lost.to_owned()));
    MemberView { name: name(of), role, state, raft, behind: Some(0), if_lost }
}

fn dead(of: &str, raft: &str, behind: u64) -> MemberView {
    let (state, behind) = (NodeState::Fenced, Some(behind));
    MemberView { state, behind, if_lost: None, ..member(of, raft, "") }
}

fn view(votes: (u32, u32), next_loss: &str, members: Vec<MemberView>) -> QuorumView {
    QuorumView {
        name: name("home"),
        cluster_id: "4".to_owned(),
        generation: 0,
        leader: Some(name("ada")),
        voters: votes.1,
        answering: Some(votes.0),
        needed: votes.1 / 2 + 1,
        changing: false,
        next_loss: next_loss.to_owned(),
        hint: None,
        members,
    }
}

/// Three nodes, one of them dead.
pub(super) fn three() -> QuorumView {
    let next = "if one more voter is lost, nothing can be changed until it is back; 2 grains that need the lease stop, the others go on";
    let members = vec![
        member(
            "ada",
            "leader",
            "nothing can be changed until it is back; web is down until it is back; mail stops too: nobody renews its lease",
        ),
        member(
            "bob",
            "voter",
            "nothing can be changed until it is back; mail is down until it is back; web stops too: nobody renews its lease",
        ),
        dead("cy", "voter", 17),
    ];
    let hint = "bring cy back; if it never comes back: `scrapctl node rm cy`, and let another machine join";
    QuorumView { hint: Some(hint.to_owned()), ..view((2, 3), next, members) }
}

#[test]
fn one_node() {
    let next = "the one voter is all there is: if it is lost, nothing can be changed until it is back; what runs goes on";
    let lost = "nothing can be changed until it is back; web is down until it is back";
    let view = view((1, 1), next, vec![member("ada", "leader", lost)]);
    expect![[r#"
        home   1 of 1 voter   1 needed   leader ada
          the one voter is all there is: if it is lost, nothing can be changed until it is back; what runs goes on

        ada        online   leader, data     if lost: nothing can be changed until it is back; web is down until it is back
    "#]].assert_eq(&quorum::text(&view, false, PLAIN));
}

#[test]
fn two_nodes() {
    let next = "the one voter is all there is: if it is lost, nothing can be changed until it is back; what runs goes on";
    let mut view = view(
        (1, 1),
        next,
        vec![
            member(
                "ada",
                "leader",
                "nothing can be changed until it is back; web is down until it is back",
            ),
            member("bob", "learner", "control goes on; mail waits for your word"),
        ],
    );
    view.hint = Some("a third voter lets grains start elsewhere by themselves".to_owned());
    expect![[r#"
        home   1 of 1 voter   1 needed   leader ada
          the one voter is all there is: if it is lost, nothing can be changed until it is back; what runs goes on
          hint: a third voter lets grains start elsewhere by themselves

        ada        online   leader, data     if lost: nothing can be changed until it is back; web is down until it is back
        bob        online   learner, data    if lost: control goes on; mail waits for your word
    "#]].assert_eq(&quorum::text(&view, false, PLAIN));
}

#[test]
fn two_nodes_and_a_witness() {
    let mut view = view(
        (3, 3),
        "one more voter may be lost; then no other",
        vec![
            member("ada", "leader", "control goes on; web starts elsewhere by itself"),
            member("bob", "voter", "control goes on; mail starts elsewhere by itself"),
            MemberView { role: NodeRole::Witness, ..member("wit", "voter", "control goes on") },
        ],
    );
    expect![[r#"
        home   3 of 3 voters   2 needed   leader ada
          one more voter may be lost; then no other

        ada        online   leader, data     if lost: control goes on; web starts elsewhere by itself
        bob        online   voter, data      if lost: control goes on; mail starts elsewhere by itself
        wit        online   voter, witness   if lost: control goes on
    "#]].assert_eq(&quorum::text(&view, false, PLAIN));
    view.generation = 1;
    view.changing = true;
    expect![[r#"
        home   3 of 3 voters   2 needed   leader ada
          generation 1
          a change of the voters is half done: the leader finishes it
          one more voter may be lost; then no other

        ada        online   leader, data     if lost: control goes on; web starts elsewhere by itself
        bob        online   voter, data      if lost: control goes on; mail starts elsewhere by itself
        wit        online   voter, witness   if lost: control goes on
    "#]].assert_eq(&quorum::text(&view, false, PLAIN));
}

#[test]
fn three_nodes_one_of_them_dead() {
    expect![[r#"
        home   2 of 3 voters   2 needed   leader ada
          if one more voter is lost, nothing can be changed until it is back; 2 grains that need the lease stop, the others go on
          hint: bring cy back; if it never comes back: `scrapctl node rm cy`, and let another machine join

        ada        online   leader, data     if lost: nothing can be changed until it is back; web is down until it is back; mail stops too: nobody renews its lease
        bob        online   voter, data      if lost: nothing can be changed until it is back; mail is down until it is back; web stops too: nobody renews its lease
        cy         fenced   voter, data      17 entries behind
    "#]].assert_eq(&quorum::text(&three(), false, PLAIN));
    table(
        &quorum::grid(&three(), PLAIN),
        false,
        expect![[r#"
        NAME  STATE   ROLE  RAFT    BEHIND  IF-LOST
        ada   online  data  leader       0  nothing can be changed until it is back; web is down until it is back; mail stops too: nobody renews its lease
        bob   online  data  voter        0  nothing can be changed until it is back; mail is down until it is back; web stops too: nobody renews its lease
        cy    fenced  data  voter       17  –
    "#]],
    );
}

#[test]
fn five_nodes() {
    let members = ["ada", "bob", "cy", "dan", "eve"];
    let part = |of: &&str| if *of == "ada" { "leader" } else { "voter" };
    let members = members.iter().map(|of| member(of, part(of), "control goes on")).collect();
    let view = view((5, 5), "2 more voters may be lost", members);
    expect![[r#"
        home   5 of 5 voters   3 needed   leader ada
          2 more voters may be lost

        ada        online   leader, data     if lost: control goes on
        bob        online   voter, data      if lost: control goes on
        cy         online   voter, data      if lost: control goes on
        dan        online   voter, data      if lost: control goes on
        eve        online   voter, data      if lost: control goes on
    "#]]
    .assert_eq(&quorum::text(&view, false, PLAIN));
}

#[test]
fn an_old_answer_does_not_look_like_the_present() {
    let next =
        "no leader is known here: nothing can be changed, and which voters answer is unknown";
    let members = three().members.into_iter();
    let members =
        members.map(|member| MemberView { behind: None, if_lost: None, ..member }).collect();
    let view = QuorumView { leader: None, answering: None, ..view((1, 3), next, members) };
    expect![[r#"
        home   NOT ANSWERING, ? of 3 voters   2 needed   no leader
          no leader is known here: nothing can be changed, and which voters answer is unknown

        ada        unknown  leader, data
        bob        unknown  voter, data
        cy         unknown  voter, data
    "#]]
    .assert_eq(&quorum::text(&view, true, PLAIN));
}
