use proptest::prelude::*;

use super::*;

fn calendar(every: Every, zone: &str) -> Calendar {
    Calendar::new(every, zone).expect("a time zone")
}

/// A moment of UTC.
fn at(text: &str) -> Duration {
    let seconds = text.parse::<Timestamp>().unwrap().as_second();
    Duration::from_secs(seconds.try_into().unwrap())
}

/// Begin and end, in UTC.
fn window(every: Every, zone: &str, moment: &str) -> [String; 2] {
    let Window { start, end } = calendar(every, zone).window(at(moment));
    [start, end].map(|seconds| Timestamp::from_second(seconds).unwrap().to_string())
}

#[test]
fn a_day_of_berlin_has_23_hours_in_march_and_25_in_october() {
    let day = |moment| window(Every::Day, "Europe/Berlin", moment);
    assert_eq!(day("2026-03-29T12:00:00Z"), ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]);
    assert_eq!(day("2026-03-28T22:59:59Z")[1], "2026-03-28T23:00:00Z");
    assert_eq!(day("2026-10-25T00:30:00Z"), ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]);
    assert_eq!(day("2026-10-25T01:30:00Z"), day("2026-10-25T00:30:00Z"), "half past two, twice");
    assert_eq!(day("2026-10-25T23:00:00Z")[1], "2026-10-26T23:00:00Z");
}

#[test]
fn an_hour_that_comes_twice_is_two_hours() {
    let hour = |moment| window(Every::Hour, "Europe/Berlin", moment);
    assert_eq!(hour("2026-10-25T00:30:00Z"), ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]);
    assert_eq!(hour("2026-10-25T01:30:00Z"), ["2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]);
    let india = window(Every::Hour, "Asia/Kolkata", "2026-01-01T00:10:00Z");
    assert_eq!(india, ["2025-12-31T23:30:00Z", "2026-01-01T00:30:00Z"], "by the clock of the zone");
}

#[test]
fn a_week_begins_on_monday_whatever_happens_to_the_clock_in_it() {
    let week = |moment| window(Every::Week, "Europe/Berlin", moment);
    assert_eq!(week("2026-03-29T21:59:59Z"), ["2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"]);
    assert_eq!(week("2026-03-29T22:00:00Z"), ["2026-03-29T22:00:00Z", "2026-04-05T22:00:00Z"]);
    assert_eq!(week("2027-01-01T00:00:00Z"), ["2026-12-27T23:00:00Z", "2027-01-03T23:00:00Z"]);
}

#[test]
fn a_month_is_as_long_as_it_is() {
    let month = |moment| window(Every::Month, "UTC", moment);
    assert_eq!(month("2028-02-29T23:59:59Z"), ["2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"]);
    assert_eq!(month("2026-02-28T23:59:59Z")[1], "2026-03-01T00:00:00Z");
    assert_eq!(month("2026-12-31T23:59:59Z"), ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
    let berlin = window(Every::Month, "Europe/Berlin", "2026-10-31T22:59:59Z");
    assert_eq!(berlin, ["2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"], "an hour longer than others");
}

#[test]
fn a_day_without_midnight_begins_when_it_begins() {
    // Beirut puts its clock forward at midnight.
    let day = window(Every::Day, "Asia/Beirut", "2026-03-28T23:00:00Z");
    assert_eq!(day, ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"]);
    // Samoa left out the 30th of December.
    let day = window(Every::Day, "Pacific/Apia", "2011-12-30T09:00:00Z");
    assert_eq!(day, ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"]);
}

#[test]
fn the_end_of_all_dates_is_no_end_of_the_program() {
    for every in [Every::Hour, Every::Day, Every::Week, Every::Month] {
        let last = calendar(every, "Pacific/Kiritimati").window(Duration::MAX);
        assert!(last.start <= LAST && last.end > LAST, "{last:?}");
        assert!(calendar(every, "America/New_York").window(Duration::ZERO).end > 0);
    }
}

#[test]
fn names_of_zones_are_found_in_any_case_and_others_are_told_the_nearest() {
    let lower = calendar(Every::Day, "europe/berlin");
    assert_eq!(lower.describe(), calendar(Every::Day, "Europe/Berlin").describe());
    assert_eq!(Calendar::new(Every::Day, "Europe/Berlni").unwrap_err().as_deref(), Some("Europe/Berlin"));
    assert!(Calendar::new(Every::Day, "12345678").unwrap_err().is_none());
    assert!(Calendar::new(Every::Day, "").is_err());
}

proptest! {
    /// In zones with summer time by the hour and by the half, with midnights that do not exist, and with midnights twice.
    #[test]
    fn a_moment_is_in_its_window_and_the_end_of_one_is_the_begin_of_the_next(
        wall in 0_u64..4_102_444_800,
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "America/Havana", "Asia/Beirut",
            "Asia/Kathmandu", "Pacific/Apia", "America/Nuuk",
        ]),
        every in prop::sample::select(vec![Every::Hour, Every::Day, Every::Week, Every::Month]),
    ) {
        let calendar = calendar(every, zone);
        let of = |seconds: i64| calendar.window(Duration::from_secs(u64::try_from(seconds).unwrap()));
        let wall = i64::try_from(wall).unwrap();
        let window = of(wall);
        prop_assert!(window.start <= wall && wall < window.end, "{:?}", window);
        if every != Every::Hour {
            prop_assert_eq!(of(window.end).start, window.end);
            prop_assert_eq!(of(window.end - 1), window);
        }
    }
}
