//! The words of both implementations, as they were seen.

use super::*;

fn said(text: &str) -> Cause {
    cause("zfs test", text, "tank/scrap")
}

macro_rules! assert_said {
    ($text:expr, $pattern:pat) => {
        let cause = said($text);
        assert!(matches!(cause, $pattern), "{}: {cause:?}", $text);
    };
}

#[test]
fn refusals_have_names() {
    assert_said!("cannot open 'nope': no such pool", Cause::PoolMissing { .. });
    assert_said!("cannot create 'nope/a': no such pool 'nope'", Cause::PoolMissing { .. });
    assert_said!("cannot open 'ta/nope': dataset does not exist", Cause::Missing);
    assert_said!("could not find any snapshots to destroy; check snapshot names.", Cause::Missing);
    assert_said!("cannot create 'ta/a': dataset already exists", Cause::Exists);
    assert_said!("cannot create snapshot 'ta/a@s1': dataset already exists", Cause::Exists);
    assert_said!("cannot destroy 'ta/a@s': dataset is busy", Cause::Busy(_));
    assert_said!("cannot unmount 'W/mnt/a': pool or dataset is busy", Cause::Busy(_));
    assert_said!(
        "cannot destroy snapshot ta/a@s1: it's being held. Run 'zfs holds -r ta/a@s1' to see holders.",
        Cause::Held(_)
    );
    assert_said!(
        "cannot destroy 'ta/a': filesystem has dependent clones\nuse '-R' to destroy the following datasets:\nta/cl",
        Cause::Held(_)
    );
    assert_said!("cannot receive new filesystem stream: out of space", Cause::NoSpace);
    assert_said!(
        "cannot receive new filesystem stream: destination pb/qq space quota exceeded.",
        Cause::NoSpace
    );
    assert_said!("cannot receive new filesystem stream: incomplete stream", Cause::BadStream(_));
    assert_said!("cannot receive: invalid stream (bad magic number)", Cause::BadStream(_));
    assert_said!("cannot receive: invalid backup stream", Cause::BadStream(_));
    assert_said!("cannot receive: failed to read from stream", Cause::BadStream(_));
    assert_said!(
        "cannot receive new filesystem stream: checksum mismatch or incomplete stream.\nPartially received snapshot is saved.",
        Cause::BadStream(_)
    );
    assert_said!(
        "cannot receive incremental stream: destination pb/s has been modified\nsince most recent snapshot",
        Cause::Diverged { .. }
    );
    assert_said!(
        "cannot receive incremental stream: most recent snapshot of pb/s does not\nmatch incremental source",
        Cause::Diverged { .. }
    );
    assert_said!("cannot create 'tank/a': permission denied", Cause::Permission(_));
    assert_said!("cannot create 'tank/a': pool is read-only", Cause::ReadOnly(_));
    assert_said!("cannot open 'tank': pool I/O is currently suspended", Cause::Suspended(_));
}

#[test]
fn a_usage_text_is_not_repeated() {
    let text = "bad property list: invalid property 'clones'\nusage:\n\tget [-rHp]\n\nmany lines";
    let Cause::Program { program, said } = said(text) else { panic!() };
    assert_eq!(program, "zfs test");
    assert_eq!(said, "bad property list: invalid property 'clones'");
}

#[test]
fn tables_are_read() {
    let out = "ta/a\tguid\t10333124164705536841\t-\nta/a\tquota\t0\tdefault\n\
               ta/a\tscrap:z\tsecond\nline\tlocal\nta/a\tscrap:role\towner\tlocal\n\
               ta/a@1\tscrap:role\towner\tinherited from ta/a\n";
    let all = properties(out);
    assert_eq!(all["ta/a"]["guid"].value, "10333124164705536841");
    assert!(all["ta/a"]["scrap:role"].own && !all["ta/a@1"]["scrap:role"].own);
    assert!(!all["ta/a"].contains_key("scrap:z"), "half a row is none");
    assert_eq!((number("294912"), number("-"), number("none")), (Some(294_912), None, None));
}

#[test]
fn announced_sizes_are_read() {
    assert_eq!(estimate("full\tta/a@1\t13650376\nsize\t13650376\n"), Some(13_650_376));
    assert_eq!(estimate("incremental\tta/a@1\tta/a@2\t3156120\nsize\t3156120\n"), Some(3_156_120));
    assert_eq!(estimate("nothing"), None);
}

#[test]
fn tokens_say_what_they_are_for() {
    let out = "resume token contents:\nnvlist version: 0\n\tobject = 0x7\n\toffset = 0x3a0000\n\
               \tbytes = 0x3c4688\n\ttoguid = 0x8a34001cb1cfc087\n\ttoname = ta/a@1\n";
    assert_eq!(token_guids(out), (None, Some(0x8a34_001c_b1cf_c087)));
    let more = format!("{out}\tfromguid = 0x1\n");
    assert_eq!(token_guids(&more).0, Some(1));
}
