//! Tests of units.

use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::*;

/// Read by serde, the text gives a value that prints as `printed`, or the error.
fn check<T: TextForm + DeserializeOwned + Debug + PartialEq>(
    text: &str,
    expected: Result<&str, &str>,
) {
    let found = serde_json::from_value::<T>(text.into()).map_err(|error| error.to_string());
    let printed = found
        .as_ref()
        .map(ToString::to_string)
        .map_err(String::clone);
    assert_eq!(
        printed.as_deref().map_err(|error| &**error),
        expected,
        "{text}"
    );
    if let (Ok(value), Ok(printed)) = (found, printed) {
        assert_eq!(
            printed.parse::<T>().as_ref(),
            Ok(&value),
            "{text} printed as {printed}"
        );
    }
}

fn check_all<T: TextForm + DeserializeOwned + Debug + PartialEq>(
    cases: &[(&str, Result<&str, &str>)],
) {
    for (text, expected) in cases {
        check::<T>(text, *expected);
    }
    check::<T>(T::EXAMPLE, Ok(T::EXAMPLE));
}

#[test]
fn spans_have_one_number_and_one_unit() {
    check_all::<Span>(&[
        ("300ms", Ok("300ms")),
        ("5s", Ok("5s")),
        ("60s", Ok("1m")),
        ("90s", Ok("90s")),
        ("1.5s", Ok("1500ms")),
        ("1.5h", Ok("90m")),
        ("0.25ms", Ok("0.25ms")),
        ("2h", Ok("2h")),
        ("24h", Ok("1d")),
        ("30d", Ok("30d")),
        ("0s", Ok("0s")),
        ("3650d", Ok("3650d")),
        ("5", Err("bare number `5` has no unit: write e.g. `5s`")),
        ("-5", Err("bare number `-5` has no unit: write e.g. `5s`")),
        (
            "5sec",
            Err("unknown unit `sec` in `5sec`: use `ms`, `s`, `m`, `h` or `d`"),
        ),
        ("5 s", Err("`5 s` is not a duration: write e.g. `5s`")),
        ("", Err("`` is not a duration: write e.g. `5s`")),
        ("s", Err("`s` is not a duration: write e.g. `5s`")),
        ("-5s", Err("`-5s` is not a duration: write e.g. `5s`")),
        (".5s", Err("`.5s` is not a duration: write e.g. `5s`")),
        ("5.s", Err("`5.s` is not a duration: write e.g. `5s`")),
        ("1.2.3s", Err("`1.2.3s` is not a duration: write e.g. `5s`")),
        ("1h30m", Err("`1h30m` is not a duration: write e.g. `5s`")),
        (
            "1.0000001s",
            Err("`1.0000001s` is too fine: at most 6 digits after the point"),
        ),
        ("3651d", Err("`3651d` is too long: at most `3650d`")),
        (
            "99999999999999999999d",
            Err("`99999999999999999999d` is too long: at most `3650d`"),
        ),
    ]);
    assert_eq!(
        "1.5s".parse::<Span>().unwrap().duration(),
        Duration::from_millis(1500)
    );
    assert_eq!(Span::from_secs(90), "1.5m".parse().unwrap());
}

#[test]
fn bare_numbers_say_what_is_missing() {
    fn check_number<T: DeserializeOwned + Debug>(number: serde_json::Value, expected: &str) {
        assert_eq!(
            serde_json::from_value::<T>(number).unwrap_err().to_string(),
            expected
        );
    }
    check_number::<Span>(5.into(), "bare number `5` has no unit: write e.g. `5s`");
    check_number::<Span>(0.5.into(), "bare number `0.5` has no unit: write e.g. `5s`");
    check_number::<ByteSize>(
        (-1).into(),
        "bare number `-1` has no unit: write e.g. `10MiB`",
    );
    check_number::<ByteRate>(
        256.into(),
        "bare number `256` has no unit: write e.g. `256B/s`",
    );
    check_number::<Rate>(50.into(), "bare number `50` has no unit: write e.g. `50/s`");
    check_number::<Allowance>(
        50.into(),
        "bare number `50` has no unit: write e.g. `10000/month`",
    );
    check_number::<Share>(
        0.05.into(),
        "bare number `0.05` has no unit: write e.g. `5%`",
    );
    check_number::<Ratio>(2.into(), "bare number `2` has no unit: write e.g. `125%`");
    check_number::<Date>(
        2026.into(),
        "`2026` is not a date: write e.g. `2026-09-01` or `2026-09-01T12:00:00Z`",
    );
    check_number::<Span>(
        true.into(),
        "invalid type: boolean `true`, expected a duration, e.g. `5s`",
    );
}

#[test]
fn sizes_are_in_binary_units() {
    check_all::<ByteSize>(&[
        ("512B", Ok("512B")),
        ("1024B", Ok("1KiB")),
        ("1536KiB", Ok("1536KiB")),
        ("20GiB", Ok("20GiB")),
        ("0B", Ok("0B")),
        ("0KiB", Ok("0B")),
        ("8388607TiB", Ok("8388607TiB")),
        ("10MB", Err("unknown unit `MB` in `10MB`: write `10MiB`")),
        ("10kb", Err("unknown unit `kb` in `10kb`: write `10KiB`")),
        ("10G", Err("unknown unit `G` in `10G`: write `10GiB`")),
        ("10mib", Err("unknown unit `mib` in `10mib`: write `10MiB`")),
        ("10b", Err("unknown unit `b` in `10b`: write `10B`")),
        (
            "10",
            Err("bare number `10` has no unit: write e.g. `10MiB`"),
        ),
        (
            "10XiB",
            Err("unknown unit `XiB` in `10XiB`: use `B`, `KiB`, `MiB`, `GiB` or `TiB`"),
        ),
        ("MiB", Err("`MiB` is not a size: write e.g. `10MiB`")),
        ("MB", Err("`MB` is not a size: write e.g. `10MiB`")),
        ("10 MiB", Err("`10 MiB` is not a size: write e.g. `10MiB`")),
        (
            "1.5MiB",
            Err("`1.5MiB` is not a whole number: use a smaller unit"),
        ),
        (
            "8388608TiB",
            Err("`8388608TiB` is too large: at most `8388607TiB`"),
        ),
    ]);
    assert_eq!("10MiB".parse::<ByteSize>().unwrap().bytes(), 10 << 20);
    assert_eq!(ByteSize::from_mib(10), "10MiB".parse().unwrap());
    check_all::<ByteRate>(&[
        ("1KiB/s", Ok("1KiB/s")),
        (
            "0B/s",
            Err("`0B/s` would let nothing through: at least 1 is needed"),
        ),
        (
            "256/s",
            Err("bare number `256` has no unit: write e.g. `256B/s`"),
        ),
        (
            "256B",
            Err("`256B` is not a number of bytes in a second: write e.g. `256B/s`"),
        ),
        (
            "256KB/s",
            Err("unknown unit `KB` in `256KB`: write `256KiB`"),
        ),
    ]);
}

#[test]
fn rates_are_never_zero() {
    check_all::<Rate>(&[
        ("100/min", Ok("100/min")),
        ("1000/h", Ok("1000/h")),
        ("10/d", Ok("10/d")),
        ("4294967295/s", Ok("4294967295/s")),
        (
            "0/s",
            Err("`0/s` would let nothing through: at least 1 is needed"),
        ),
        (
            "0.5/s",
            Err("`0.5/s` is not whole: use a longer unit, e.g. `30/min` for one every 2s"),
        ),
        (
            "50/m",
            Err("unknown unit `m` in `50/m`: use `s`, `min`, `h` or `d`"),
        ),
        (
            "50/month",
            Err("unknown unit `month` in `50/month`: use `s`, `min`, `h` or `d`"),
        ),
        ("50/", Err("`50/` is not a rate: write e.g. `50/s`")),
        ("/s", Err("`/s` is not a rate: write e.g. `50/s`")),
        ("50/2s", Err("`50/2s` is not a rate: write e.g. `50/s`")),
        ("-1/s", Err("`-1/s` is not a rate: write e.g. `50/s`")),
        ("+1/s", Err("`+1/s` is not a rate: write e.g. `50/s`")),
        ("1e3/s", Err("`1e3/s` is not a rate: write e.g. `50/s`")),
        (
            "4294967296/s",
            Err("`4294967296/s` is too much: at most `4294967295/s`"),
        ),
    ]);
    let rate: Rate = "120/min".parse().unwrap();
    assert_eq!(
        (rate.count(), rate.per(), rate.period()),
        (120, Per::Minute, Duration::from_secs(60))
    );
    assert_eq!(rate.interval(), Duration::from_millis(500));
    assert!((rate.per_second() - 2.0).abs() < 1e-9);
    check_all::<Allowance>(&[
        ("50000000/month", Ok("50000000/month")),
        ("5/d", Ok("5/d")),
        (
            "0/month",
            Err("`0/month` would let nothing through: at least 1 is needed"),
        ),
        (
            "5/s",
            Err("unknown unit `s` in `5/s`: use `h`, `d`, `week`, `month` or `year`"),
        ),
    ]);
}

#[test]
fn shares_end_at_a_hundred_and_ratios_do_not() {
    check_all::<Share>(&[
        ("0%", Ok("0%")),
        ("0.5%", Ok("0.5%")),
        ("100%", Ok("100%")),
        ("100.0%", Ok("100%")),
        ("33.3333%", Ok("33.3333%")),
        ("100.0001%", Err("`100.0001%` is too much: at most `100%`")),
        ("5", Err("bare number `5` has no unit: write e.g. `5%`")),
        ("-5%", Err("`-5%` is not a share: write e.g. `5%`")),
        ("%", Err("`%` is not a share: write e.g. `5%`")),
        (
            "0.00001%",
            Err("`0.00001%` is too fine: at most 4 digits after the point"),
        ),
        ("five%", Err("`five%` is not a share: write e.g. `5%`")),
    ]);
    check_all::<Ratio>(&[
        ("1000%", Ok("1000%")),
        ("1001%", Err("`1001%` is too much: at most `1000%`")),
    ]);
    assert_eq!("0.5%".parse::<Share>().unwrap().parts(), 5_000);
    assert!((Share::from_percent(20).fraction() - 0.2).abs() < 1e-9);
    assert!(("125%".parse::<Ratio>().unwrap().factor() - 1.25).abs() < 1e-9);
}

#[test]
fn dates_are_days_or_instants() {
    const FORMS: &str = "write e.g. `2026-09-01` or `2026-09-01T12:00:00Z`";
    check_all::<Date>(&[
        ("2026-12-01T00:00:00Z", Ok("2026-12-01")),
        ("2026-11-22T12:00:00Z", Ok("2026-11-22T12:00:00Z")),
        ("2026-11-22T12:00:00+02:00", Ok("2026-11-22T10:00:00Z")),
        ("2026-11-22T12:00:00.25Z", Ok("2026-11-22T12:00:00.250Z")),
        (
            "2026-11-22T12:00:00",
            Err(
                "`2026-11-22T12:00:00` does not say its offset: write `2026-11-22T12:00:00Z` for UTC",
            ),
        ),
        (
            "2026-02-30",
            Err(&format!("`2026-02-30` is not a date: {FORMS}")),
        ),
        (
            "2026-9-1",
            Err(&format!("`2026-9-1` is not a date: {FORMS}")),
        ),
        (
            "01.09.2026",
            Err(&format!("`01.09.2026` is not a date: {FORMS}")),
        ),
        (
            "2026-11-22 12:00:00Z",
            Err(&format!("`2026-11-22 12:00:00Z` is not a date: {FORMS}")),
        ),
        (
            "tomorrow",
            Err(&format!("`tomorrow` is not a date: {FORMS}")),
        ),
    ]);
    let date: Date = "2026-09-01".parse().unwrap();
    assert_eq!(
        (date.unix_millis(), date.unix_secs()),
        (1_788_220_800_000, 1_788_220_800)
    );
}

#[test]
fn dates_in_headers() {
    assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(http_date(1_788_220_800), "Tue, 01 Sep 2026 00:00:00 GMT");
    assert_eq!(http_date(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(http_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(structured_date(1_688_169_599), "@1688169599");
}

#[test]
fn a_schema_is_a_string_with_a_pattern() {
    #[derive(Deserialize, schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Spec {
        /// How long.
        wait: Span,
    }
    let schema = schemars::schema_for!(Spec).to_value();
    let wait = schema.pointer("/properties/wait").unwrap();
    let expected = serde_json::json!({
        "description": "How long.",
        "type": "string",
        "pattern": r"^(?:[0-9]+(?:\.[0-9]{1,6})?(?:ms|s|m|h|d))$|\$\{",
        "examples": ["5s"],
    });
    assert_eq!(*wait, expected);
    assert_eq!(serde_json::to_value(Span::from_secs(5)).unwrap(), "5s");
}

proptest! {
    #[test]
    fn spans_print_what_they_read(millis in 0..=315_360_000_000_u64, digits in 0..1_000_000_u32) {
        for span in [Span::from_millis(millis), format!("{}.{digits:06}s", millis / 1000).parse().unwrap()] {
            if span.duration() <= Span::from_secs(3650 * 86_400).duration() {
                prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
            }
        }
    }

    #[test]
    fn sizes_and_shares_print_what_they_read(bytes in 0..=i64::MAX as u64, parts in 0..=1_000_000_u32) {
        let size = ByteSize::from_bytes(bytes);
        prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        let share: Share = format!("{}.{:04}%", parts / 10_000, parts % 10_000).parse().unwrap();
        prop_assert_eq!(share.parts(), parts);
        prop_assert_eq!(share.to_string().parse::<Share>(), Ok(share));
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,12}|[0-9.]{0,24}(ms|s|m|d|B|TiB|%|/s|/month|-01-01)?") {
        let errors = [
            text.parse::<Span>().err(),
            text.parse::<ByteSize>().err(),
            text.parse::<ByteRate>().err(),
            text.parse::<Rate>().err(),
            text.parse::<Allowance>().err(),
            text.parse::<Share>().err(),
            text.parse::<Ratio>().err(),
            text.parse::<Date>().err(),
        ];
        // No text is a value of more than one type, but shares are ratios.
        prop_assert!(errors.iter().flatten().count() >= errors.len() - 2, "{errors:?}");
    }
}

proptest::proptest! {
    #[test]
    fn the_date_of_logs_is_that_of_the_calendar(millis in 0i64..253_402_300_799_999) {
        let instant = chrono::DateTime::from_timestamp_millis(millis).unwrap();
        let expected = instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        proptest::prop_assert_eq!(log_date(millis), expected);
        let mut clf = Vec::new();
        push_clf_date(&mut clf, millis);
        let clf = String::from_utf8(clf).unwrap();
        proptest::prop_assert_eq!(clf, instant.format("%d/%b/%Y:%H:%M:%S +0000").to_string());
    }
}
