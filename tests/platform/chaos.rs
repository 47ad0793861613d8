//! A short piece of chaos: some of each family of faults over a real cluster, with the judgement of the long one.

use scrap_tests::chaos::nemesis::Kind;
use scrap_tests::chaos::run::{self, Options};
use scrap_tests::chaos::world;
use scrap_tests::platform::refusal;

#[tokio::test]
async fn nothing_runs_twice_and_nothing_acknowledged_is_lost_under_faults() -> anyhow::Result<()> {
    if let Some(why) = refusal() {
        eprintln!("SKIPPED: {why}");
        return Ok(());
    }
    let judgement = run::play(Options {
        minutes: 5,
        rounds: 0,
        seed: 4,
        kind: world::Kind::default(),
        faults: Kind::FEW.into(),
        // A machine that does more than this beside it is no reason to fail.
        least: 5,
        clients: 6,
        grains: 2,
        out: None,
    })
    .await?;
    assert_eq!(judgement.word(), "PASS", "{}", judgement.reasons());
    Ok(())
}
