//! Only a set of numbers whose sum holds is taken.

use proptest::prelude::*;

use super::*;

fn check(change: fn(&mut Timing), expected: &str) {
    let mut timing = Timing::default();
    change(&mut timing);
    let said = timing.check().map_or_else(|error| error.to_string(), |()| "safe".to_owned());
    assert_eq!(said, expected);
}

#[test]
fn the_default_is_safe_and_is_the_documented_one() {
    check(|_| {}, "safe");
    let json = serde_json::to_string(&Timing::default()).unwrap();
    assert_eq!(
        json,
        r#"{"renew":"1s","suspect":"3s","stop":"6s","lease":"9s","kill":"4s","tick":"2s","ticks":8}"#
    );
}

#[test]
fn every_preset_is_safe_and_keeps_its_time() {
    let fenced = |preset: Preset| {
        assert_eq!(preset.timing().check(), Ok(()), "{preset}");
        assert_eq!(preset.timing().preset(), Some(preset));
        assert_eq!(preset.word().parse(), Ok(preset));
        preset.timing().fenced_after().to_string()
    };
    assert_eq!(Preset::ALL.map(fenced), ["45s", "19s", "10s"]);
    assert_eq!(Timing { ticks: 9, ..Timing::default() }.preset(), None);
    assert_eq!(
        "fast".parse::<Preset>().map_err(|error| error.to_string()),
        Err("`fast` is not one of `calm`, `standard`, `swift`".to_owned())
    );
}

/// One tick less, or a lease that is longer by the margin, and the sum does not hold any more: the margins that are documented.
#[test]
fn the_margin_of_every_preset_is_the_documented_one() {
    let margin = |preset: Preset| {
        let timing = preset.timing();
        let countdown = timing.tick.ms() * u64::from(timing.ticks) * 100 / 101;
        countdown - timing.lease.ms() * 100 / 99 - timing.kill.ms()
    };
    assert_eq!(Preset::ALL.map(margin), [4391, 2751, 870]);
}

/// A leader is elected and a renewal answered by it before a node would stop its grains: `election` is 2 s when nobody says anything,
/// and takes up to a third more.
#[test]
fn no_preset_stops_grains_because_the_leader_died() {
    for preset in Preset::ALL {
        let timing = preset.timing();
        assert!(timing.renew.ms() + 2_667 < timing.stop.ms(), "{preset}");
    }
}

#[test]
fn each_bad_relation_is_refused() {
    check(|t| t.renew = Span::ZERO, "`renew` must not be zero");
    check(|t| t.tick = Span::ZERO, "`tick` must not be zero");
    for kill in [Span::ZERO, Span::from_ms(1), Span::from_ms(1999)] {
        let timing = Timing { kill, ..Timing::default() };
        assert_eq!(timing.check(), Err(UnsafeTiming::KillTooShort { is: kill }));
    }
    check(|t| t.kill = KILL_MIN, "safe");
    check(
        |t| t.kill = Span::from_ms(1),
        "`kill` (1ms) must be at least 2s: a grain is asked to end before it is killed",
    );
    check(|t| t.suspect = Span::from_secs(1), "`renew` (1s) must be less than `suspect` (1s)");
    check(
        |t| (t.renew, t.suspect) = (Span::from_secs(7), Span::from_secs(8)),
        "`renew` (7s) must be less than `stop` (6s)",
    );
    check(|t| t.stop = Span::from_secs(9), "`stop` (9s) must be less than `lease` (9s)");
    check(
        |t| t.ticks = 6,
        "the countdown of 6 × 2s must be longer than lease 9s + kill 4s at 1 % clock drift: \
         11881 ms is not more than 13090 ms",
    );
    check(
        |t| t.ticks = 0,
        "the countdown of 0 × 2s must be longer than lease 9s + kill 4s at 1 % clock drift: \
         0 ms is not more than 13090 ms",
    );
    check(|t| t.ticks = 7, "safe");
}

#[test]
fn drift_is_part_of_the_sum() {
    // 13 s are longer than 9 s + 4 s only as long as no clock drifts.
    let exact = Timing { tick: Span::from_secs(13), ticks: 1, ..Timing::default() };
    assert!(matches!(exact.check(), Err(UnsafeTiming::CountdownTooShort { .. })));
    let longer = Timing { tick: Span::from_ms(13_100), ..exact };
    assert!(matches!(longer.check(), Err(UnsafeTiming::CountdownTooShort { .. })));
    assert_eq!(Timing { tick: Span::from_ms(13_300), ..exact }.check(), Ok(()));
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![(0_u64..60_000).prop_map(Span::from_ms), any::<u64>().prop_map(Span::from_ms)]
}

proptest! {
    /// Whatever is accepted keeps the promise, computed here with exact arithmetic and the clocks at their worst.
    #[test]
    fn what_is_safe_keeps_the_promise(
        (renew, suspect, stop, lease) in (span(), span(), span(), span()),
        (kill, tick, ticks) in (span(), span(), any::<u32>()),
    ) {
        let timing = Timing { renew, suspect, stop, lease, kill, tick, ticks };
        if timing.check().is_ok() {
            prop_assert!(renew < suspect && renew < stop && stop < lease);
            // countdown / 1.01 ≥ lease / 0.99 + kill, without division.
            let countdown = u128::from(tick.ms()) * u128::from(ticks) * 9900;
            let dead = u128::from(lease.ms()) * 10_100 + u128::from(kill.ms()) * 9999;
            prop_assert!(countdown >= dead, "{:?}", timing);
        }
    }
}
