//! Random worlds under random faults: safety after every step, liveness when everything is healed. A failing case prints a ready
//! scenario. `PROPTEST_CASES=5000` for a long run.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use scrap_tests::sim::random::{aside_case, case};

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(24),
        max_shrink_iters: 150,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_history_breaks_a_promise(case in case()) {
        let fail = |why| TestCaseError::fail(format!("{why:#}"));
        let report = case.play().map_err(fail)?;
        // The same again is the same: a seed says everything.
        if case.seed.is_multiple_of(4) {
            prop_assert_eq!(case.play().map_err(fail)?, report);
        }
    }

    #[test]
    fn whatever_becomes_of_what_was_set_aside_loses_nothing(case in aside_case()) {
        case.play().map_err(|why| TestCaseError::fail(format!("{why:#}")))?;
    }
}
