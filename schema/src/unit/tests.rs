//! What is written reads back as the same value; what is refused says what to write.

use std::fmt::{Debug, Display};

use proptest::prelude::*;

use super::*;

fn good<T: FromStr<Err: Debug> + PartialEq + Debug>(text: &str, expected: T) {
    assert_eq!(text.parse::<T>().unwrap(), expected, "{text}");
}

fn refused<T: FromStr<Err = BadQuantity> + Debug>(text: &str, expected: &str) {
    assert_eq!(text.parse::<T>().unwrap_err().to_string(), expected);
}

fn written(value: impl Display, expected: &str) {
    assert_eq!(value.to_string(), expected);
}

#[test]
fn sizes() {
    good("0B", Bytes(0));
    good("1B", Bytes(1));
    good("256MiB", Bytes(256 << 20));
    good("1.5GiB", Bytes(3 << 29));
    good("0.001KiB", Bytes(1));
    good("18446744073709551615B", Bytes(u64::MAX));
    written(Bytes(0), "0B");
    written(Bytes(1023), "1023B");
    written(Bytes(1024), "1KiB");
    written(Bytes(3 << 29), "1536MiB");
    written(Bytes(u64::MAX), "18446744073709551615B");
}

#[test]
fn sizes_that_are_refused() {
    refused::<Bytes>("256", "`256` is not a size: it has no unit; write `256MiB` or `256GiB`");
    refused::<Bytes>("0", "`0` is not a size: it has no unit; write `0MiB` or `0GiB`");
    refused::<Bytes>("4GB", "`4GB` is not a size: `GB` is not a unit; did you mean `4GiB`?");
    refused::<Bytes>("64mib", "`64mib` is not a size: `mib` is not a unit; did you mean `64MiB`?");
    refused::<Bytes>("1Pi", "`1Pi` is not a size: `Pi` is not a unit; use B, KiB, MiB, GiB, TiB");
    refused::<Bytes>(
        "4 GiB",
        "`4 GiB` is not a size: number and unit stand together, without spaces",
    );
    refused::<Bytes>("", "`` is not a size: it must begin with a digit");
    refused::<Bytes>("GiB", "`GiB` is not a size: it must begin with a digit");
    refused::<Bytes>("-1GiB", "`-1GiB` is not a size: it must begin with a digit");
    refused::<Bytes>("1.GiB", "`1.GiB` is not a size: a digit must follow the point");
    refused::<Bytes>(
        "1.2345GiB",
        "`1.2345GiB` is not a size: at most three digits may follow the point",
    );
    refused::<Bytes>(
        "1.2.3GiB",
        "`1.2.3GiB` is not a size: at most three digits may follow the point",
    );
    refused::<Bytes>("0.5B", "`0.5B` is not a size: `B` is the smallest unit and has no parts");
    refused::<Bytes>(
        "18446744073709551616B",
        "`18446744073709551616B` is not a size: it is too large",
    );
    refused::<Bytes>("99999999TiB", "`99999999TiB` is not a size: it is too large");
    refused::<Bytes>(
        "9999999999999999999999999999999999999999999B",
        "`9999999999999999999999999999999999999999` is not a size: it is too large",
    );
}

#[test]
fn spans() {
    good("0s", Span::ZERO);
    good("250ms", Span::from_ms(250));
    good("1.5s", Span::from_ms(1500));
    good("2h", Span::from_secs(7200));
    good("0.5d", Span::from_secs(43_200));
    written(Span::ZERO, "0s");
    written(Span::from_ms(1), "1ms");
    written(Span::from_ms(1500), "1500ms");
    written(Span::from_secs(90), "90s");
    written(Span::from_secs(120), "2m");
    written(Span::from_ms(u64::MAX), "18446744073709551615ms");
}

#[test]
fn spans_that_are_refused() {
    refused::<Span>("30", "`30` is not a time span: it has no unit; write `30s` or `30m`");
    refused::<Span>("5min", "`5min` is not a time span: `min` is not a unit; did you mean `5m`?");
    refused::<Span>("5sec", "`5sec` is not a time span: `sec` is not a unit; did you mean `5s`?");
    refused::<Span>("2w", "`2w` is not a time span: `w` is not a unit; use ms, s, m, h, d");
    refused::<Span>("1h30m", "`1h30m` is not a time span: one number with one unit is wanted");
    refused::<Span>(
        "0.5ms",
        "`0.5ms` is not a time span: `ms` is the smallest unit and has no parts",
    );
    refused::<Span>("9999999999999999d", "`9999999999999999d` is not a time span: it is too large");
}

#[test]
fn cores() {
    good("2", MilliCpu(2000));
    good("1.5", MilliCpu(1500));
    good("0.001", MilliCpu(1));
    written(MilliCpu(0), "0");
    written(MilliCpu(1500), "1.5");
    written(MilliCpu(1), "0.001");
    refused::<MilliCpu>(
        "500m",
        "`500m` is not a number of cores: write cores without a unit: `0.5`",
    );
    refused::<MilliCpu>(
        "2cores",
        "`2cores` is not a number of cores: write cores without a unit, such as `1.5`",
    );
    refused::<MilliCpu>(
        "0.0001",
        "`0.0001` is not a number of cores: at most three digits may follow the point",
    );
}

#[test]
fn for_people() {
    assert_eq!(Bytes(1023).rounded(), "1023 B");
    assert_eq!(Bytes((6 << 30) / 5).rounded(), "1.2 GiB");
    assert_eq!(Bytes((1 << 30) - 1).rounded(), "1.0 GiB");
    assert_eq!(Span::from_ms(999).rounded(), "999 ms");
    assert_eq!(Span::from_ms(1_449).rounded(), "1.4 s");
    assert_eq!(Span::from_secs(12).rounded(), "12 s");
    assert_eq!(Span::from_secs(180).rounded(), "3 min");
    assert_eq!(Span::from_secs(7200).rounded(), "2 h");
    assert_eq!(Span::from_secs(5 * 86_400).rounded(), "5 d");
}

#[test]
fn json_numbers_are_refused_where_a_unit_is_meant() {
    let error = serde_json::from_str::<Bytes>("256").unwrap_err().to_string();
    assert!(error.starts_with("`256` is not a size: it has no unit"), "{error}");
    assert!(serde_json::from_str::<Span>("1.5").is_err());
    assert!(serde_json::from_str::<MilliCpu>("-1").is_err());
    assert_eq!(serde_json::from_str::<MilliCpu>("1.5").unwrap(), MilliCpu(1500));
    assert_eq!(serde_json::from_str::<MilliCpu>("\"1.5\"").unwrap(), MilliCpu(1500));
    assert_eq!(serde_json::to_string(&MilliCpu(1500)).unwrap(), "1.5");
    assert_eq!(serde_json::to_string(&MilliCpu(2000)).unwrap(), "2");
}

fn round_trip<T>(value: T) -> Result<(), TestCaseError>
where
    T: FromStr<Err: Debug> + Display + Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let text = value.to_string();
    prop_assert_eq!(&text.parse::<T>().unwrap(), &value, "{}", text);
    let json = serde_json::to_string(&value).unwrap();
    prop_assert_eq!(serde_json::from_str::<T>(&json).ok(), Some(value), "{}", json);
    Ok(())
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value: u64, shift in 0_u32..64) {
        // Shifted, because most uniform numbers are huge.
        let value = value >> shift;
        round_trip(Bytes(value))?;
        round_trip(Span::from_ms(value))?;
        round_trip(MilliCpu(value))?;
    }

    #[test]
    fn no_text_panics(text: String, number in "[0-9]{0,25}(\\.[0-9]{0,4})?[a-zA-Z]{0,4}") {
        for text in [text, number] {
            let _ = (text.parse::<Bytes>(), text.parse::<Span>(), text.parse::<MilliCpu>());
        }
    }
}
