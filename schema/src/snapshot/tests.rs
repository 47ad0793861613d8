//! One name for one snapshot, one snapshot for one name.

use proptest::prelude::*;

use super::*;

fn refused(text: &str, reason: &str) {
    let error = text.parse::<SnapshotName>().unwrap_err();
    assert_eq!(error.reason, reason, "{text}");
}

fn purpose() -> impl Strategy<Value = Purpose> {
    prop_oneof![
        Just(Purpose::Replication),
        Just(Purpose::Orphan),
        Just(Purpose::Template),
        any::<u128>().prop_map(|id| Purpose::Final(OperationId(id))),
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|name| Purpose::User(name.parse().unwrap())),
    ]
}

prop_compose! {
    fn name()(epoch: u64, seq: u64, purpose in purpose()) -> SnapshotName {
        SnapshotName { epoch: Epoch(epoch), seq, purpose }
    }
}

#[test]
fn names_look_like_this() {
    let name = |purpose| SnapshotName { epoch: Epoch(2), seq: 255, purpose }.to_string();
    assert_eq!(name(Purpose::Replication), "scrap.0000000000000002.00000000000000ff");
    assert_eq!(name(Purpose::Orphan), "scrap.0000000000000002.00000000000000ff.orphan");
    assert_eq!(name(Purpose::Template), "scrap.0000000000000002.00000000000000ff.template");
    assert_eq!(
        name(Purpose::User("before-upgrade".parse().unwrap())),
        "scrap.0000000000000002.00000000000000ff.user.before-upgrade"
    );
    assert_eq!(
        name(Purpose::Final(OperationId(1))),
        "scrap.0000000000000002.00000000000000ff.final.00000000000000000000000001"
    );
}

#[test]
fn what_is_not_ours_is_refused() {
    const FRONT: &str = "scrap.0000000000000002.0000000000000007";
    let numbers = "epoch and number need 16 hex digits";
    refused("", "it does not begin with `scrap.`");
    refused("zfs-auto-snap_daily-2026-01-01", "it does not begin with `scrap.`");
    refused("scrap", numbers);
    refused("scrap.2.7", numbers);
    refused("scrap.000000000000000A.0000000000000007", numbers);
    refused("scrap.+000000000000002.0000000000000007", numbers);
    for (tail, reason) in [
        (".", "its purpose is unknown"),
        (".user", "its purpose is unknown"),
        (".orphan.x", "its purpose is unknown"),
        (".template.x", "its purpose is unknown"),
        (".other.x", "its purpose is unknown"),
        (".user.", "its name is not one"),
        (".user.a.b", "its name is not one"),
        (".user.../x", "its name is not one"),
        (".final.x", "its operation is not one"),
    ] {
        refused(&format!("{FRONT}{tail}"), reason);
    }
}

proptest! {
    #[test]
    fn names_read_back(name in name()) {
        let text = name.to_string();
        prop_assert_eq!(text.parse::<SnapshotName>().unwrap(), name.clone());
        let json = serde_json::to_string(&name).unwrap();
        prop_assert_eq!(serde_json::from_str::<SnapshotName>(&json).unwrap(), name);
        // Fits into a dataset's name and needs no quoting anywhere.
        prop_assert!(text.len() <= 108, "{}", text);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')));
    }

    #[test]
    fn text_orders_as_epoch_and_number_do(a in name(), b in name()) {
        let texts = (a.to_string(), b.to_string());
        if (a.epoch, a.seq) < (b.epoch, b.seq) {
            prop_assert!(texts.0 < texts.1);
        }
    }

    #[test]
    fn only_one_text_names_a_snapshot(text in "scrap\\.[0-9a-fA-F]{15,17}\\.[0-9a-f]{16}(\\.(orphan|template|user\\.[a-z.-]{0,4}))?") {
        if let Ok(name) = text.parse::<SnapshotName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn guids_read_back(guid: u64) {
        let guid = Guid(guid);
        prop_assert_eq!(guid.to_string().parse::<Guid>().unwrap(), guid);
        let json = serde_json::to_string(&guid).unwrap();
        prop_assert_eq!(serde_json::from_str::<Guid>(&json).unwrap(), guid);
    }
}
