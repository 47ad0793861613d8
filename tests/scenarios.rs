//! What the cluster does, in order and in words: every folder of `tests/scenarios` is played and its log compared.
//! `UPDATE_EXPECT=1` writes the logs anew; a changed log is reviewed like code.

use std::path::Path;

use expect_test::expect_file;

fn scenario(script: &Path) -> datatest_stable::Result<()> {
    let folder = script.parent().ok_or("a script lies in a folder")?;
    let log = scrap_tests::sim::scenario::run(folder).map_err(|why| format!("{why:#}"))?;
    let expected = folder.join("expect.log").canonicalize().or_else(|_| {
        std::fs::write(folder.join("expect.log"), "")?;
        folder.join("expect.log").canonicalize()
    })?;
    expect_file![expected].assert_eq(&log);
    Ok(())
}

datatest_stable::harness! {
    { test = scenario, root = "scenarios", pattern = r"/script$" },
}
