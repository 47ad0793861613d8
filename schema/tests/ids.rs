//! Identities read back as themselves, and every identity has exactly one text.

use proptest::prelude::*;
use scrap_schema::id::{ClusterId, GrainId, Name, OperationId};

fn refused(text: &str, reason: &str) {
    let error = text.parse::<GrainId>().err();
    assert_eq!(
        error.map(|error| (error.what, error.reason)),
        Some(("a grain id", reason)),
        "{text}"
    );
}

#[test]
fn ids_that_are_refused() {
    refused("", "it must have 26 characters");
    refused("01k2x4f7m8n9p0q1r2s3t4v5w", "it must have 26 characters");
    refused("01k2x4f7m8n9p0q1r2s3t4v5w67", "it must have 26 characters");
    refused("01K2X4F7M8N9P0Q1R2S3T4V5W6", "only 0-9 and a-z without i, l, o, u are allowed");
    refused("01k2x4f7m8n9p0q1r2s3t4v5wu", "only 0-9 and a-z without i, l, o, u are allowed");
    refused("81k2x4f7m8n9p0q1r2s3t4v5w6", "it is larger than 128 bits");
    refused("../../../../../../etc/pass", "only 0-9 and a-z without i, l, o, u are allowed");
}

#[test]
fn names_that_are_refused() {
    let refused = |text: &str, reason: &str| {
        assert_eq!(text.parse::<Name>().unwrap_err().reason, reason, "{text}");
    };
    refused("", "it is empty");
    refused(&"x".repeat(64), "it is longer than 63 characters");
    refused("My-Blog", "only a-z, 0-9 and - are allowed");
    refused("a.b", "only a-z, 0-9 and - are allowed");
    refused("ä", "only a-z, 0-9 and - are allowed");
    refused("-a", "it must begin and end with a letter or digit");
    refused("a-", "it must begin and end with a letter or digit");
}

#[test]
fn the_ends_of_the_range() {
    assert_eq!(GrainId(0).to_string(), "00000000000000000000000000");
    assert_eq!(GrainId(u128::MAX).to_string(), "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    assert_eq!("7zzzzzzzzzzzzzzzzzzzzzzzzz".parse(), Ok(GrainId(u128::MAX)));
}

proptest! {
    #[test]
    fn ids_read_back(number: u128, other: u128) {
        let (grain, operation, cluster) = (GrainId(number), OperationId(number), ClusterId(number));
        prop_assert_eq!(grain.to_string().parse::<GrainId>().unwrap(), grain);
        prop_assert_eq!(operation.to_string().parse::<OperationId>().unwrap(), operation);
        prop_assert_eq!(cluster.to_string().parse::<ClusterId>().unwrap(), cluster);
        let json = serde_json::to_string(&grain).unwrap();
        prop_assert_eq!(serde_json::from_str::<GrainId>(&json).unwrap(), grain);
        // As text they sort as numbers do.
        prop_assert_eq!(grain.to_string() < GrainId(other).to_string(), number < other);
    }

    #[test]
    fn only_one_text_names_an_id(text in "[0-7][0-9a-z]{25}") {
        if let Ok(id) = text.parse::<GrainId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn names_read_back(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
        let name: Name = text.parse().unwrap();
        prop_assert_eq!(name.as_str(), text.as_str());
        let json = serde_json::to_string(&name).unwrap();
        prop_assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
    }
}
