//! The times of the week that have rows, where nights, weekends or other times never have.

use super::{DAY, SECOND, most_frequent};

const WEEK: i128 = 7 * DAY;

/// Days of a week that begins as 1970 did.
const SATURDAY: usize = 2;
const SUNDAY: usize = 3;

/// The longest time from one row to the next over holidays.
const LONGEST_HOLIDAYS: i128 = 10 * DAY;

/// How long the last rows run that tell at which times of the week there are rows.
const RECENT_WEEKS: i128 = 8 * WEEK;

/// How often a time must be passed over before it counts as one that has no rows.
const MIN_PASSES: usize = 4;

/// The times of the week that have rows, in slots as long as the step.
pub(super) struct Week {
    slot: i128,
    /// Where slots begin, from midnight.
    phase: i128,
    /// Slots up to each of the week that have rows, from Thursday midnight, as 1970 began.
    n_open: Vec<i128>,
}

impl Week {
    /// Of rows at `clocks`, most of which are `usual` apart; none where the gaps between them are no such times.
    pub(super) fn new(clocks: &[i128], usual: i128) -> Option<Self> {
        let recent = recent(clocks);
        let slot = slot(recent, usual)?;
        let phases: Vec<i128> = recent.iter().map(|row| row.rem_euclid(slot)).collect();
        let mut week = Week { slot, phase: most_frequent(&phases)?.0, n_open: Vec::new() };
        let counts = Counts::new(recent, &week);
        let is_open = counts.are_open();
        let count = |n_open: &mut i128, &is_open: &bool| {
            *n_open += i128::from(is_open);
            Some(*n_open)
        };
        week.n_open = is_open.iter().scan(0, count).collect();
        counts.are_clear(&is_open).then_some(week)
    }

    /// The slot, since 1970, that a time is in or next to.
    fn number(&self, clock: i128) -> i128 {
        (clock - self.phase + self.slot / 2).div_euclid(self.slot)
    }

    /// Slots with rows from a week long ago to a slot.
    fn n_until(&self, number: i128) -> i128 {
        let n_slot = self.n_open.len() as i128;
        number.div_euclid(n_slot) * self.n_open[self.n_open.len() - 1] + self.n_open[number.rem_euclid(n_slot) as usize]
    }

    /// Whether nothing is missing between two rows that follow each other, or no more than holidays.
    pub(super) fn is_regular(&self, before: i128, row: i128) -> bool {
        let [first, last] = [before, row].map(|clock| self.number(clock));
        let n_missed = |from: i128, to: i128| self.n_until(to - 1) - self.n_until(from);
        let day = |number: i128| number.div_euclid(DAY / self.slot) * (DAY / self.slot);
        n_missed(first, last) <= 0
            || row - before <= LONGEST_HOLIDAYS && n_missed(first, day(first) + DAY / self.slot) <= 0 && n_missed(day(last) - 1, last) <= 0
    }

    /// The next `n` times that have rows.
    pub(super) fn continued(&self, last: i128, n: usize) -> Vec<i128> {
        let is_open = |&number: &i128| self.n_until(number) > self.n_until(number - 1);
        (self.number(last) + 1..).filter(is_open).map(|number| number * self.slot + self.phase).take(n).collect()
    }
}

/// The last rows, which tell the times of the week. Gaps of a week and more are none of a week's, and count neither as time nor as passes.
fn recent(clocks: &[i128]) -> &[i128] {
    let mut length = 0;
    let is_recent = |pair: &&[i128]| {
        length += Some(pair[1] - pair[0]).filter(is_short).unwrap_or(0);
        length <= RECENT_WEEKS
    };
    let n_recent = clocks.windows(2).rev().take_while(is_recent).count();
    &clocks[clocks.len() - 1 - n_recent..]
}

fn is_short(gap: &i128) -> bool {
    (1..WEEK).contains(gap)
}

/// The short gaps between rows: the rows before and behind each.
fn gaps(rows: &[i128]) -> impl Iterator<Item = (i128, i128)> {
    rows.windows(2).map(|pair| (pair[0], pair[1])).filter(|(before, row)| is_short(&(row - before)))
}

/// How long slots are: what all gaps are multiples of, where that is not much shorter than the usual one. A day has a whole number of them.
fn slot(rows: &[i128], usual: i128) -> Option<i128> {
    let shared = gaps(rows).fold(usual, |shared, (before, row)| gcd(shared, row - before));
    let slot = if 4 * shared >= usual { shared } else { usual };
    (slot >= SECOND && DAY % slot == 0).then_some(slot)
}

/// How often a time had a row, and how often it was passed over.
#[derive(Clone, Copy, Default)]
struct Count {
    n_row: usize,
    n_pass: usize,
}

impl Count {
    /// Whether the time never had a row, though it was passed over `min` times.
    fn is_never(self, min: usize) -> bool {
        self.n_row == 0 && self.n_pass >= min
    }
}

/// Rows and passes at the times of the week.
struct Counts {
    /// Of each slot of the week.
    slots: Vec<Count>,
    /// Of each slot of the day.
    times: Vec<Count>,
    /// Of each day of the week.
    days: [Count; 7],
}

impl Counts {
    fn new(rows: &[i128], week: &Week) -> Self {
        let (n_slot, n_a_day) = ((WEEK / week.slot) as usize, (DAY / week.slot) as usize);
        let place = |number: i128| number.rem_euclid(n_slot as i128) as usize;
        let day = |number: i128| number.div_euclid(n_a_day as i128);
        let mut counts = Counts { slots: vec![Count::default(); n_slot], times: vec![Count::default(); n_a_day], days: Default::default() };
        for &row in rows {
            let at = place(week.number(row));
            counts.slots[at].n_row += 1;
            counts.times[at % n_a_day].n_row += 1;
            counts.days[at / n_a_day].n_row += 1;
        }
        for (before, row) in gaps(rows) {
            let [before, row] = [before, row].map(|clock| week.number(clock));
            (before + 1..row).for_each(|number| counts.slots[place(number)].n_pass += 1);
            // once a gap
            (before + 1..row).take(n_a_day).for_each(|number| counts.times[place(number) % n_a_day].n_pass += 1);
            (day(before) + 1..day(row)).for_each(|day| counts.days[day.rem_euclid(7) as usize].n_pass += 1);
        }
        counts
    }

    /// Whether each slot of the week is one that has rows.
    fn are_open(&self) -> Vec<bool> {
        let n_a_day = self.times.len();
        let has_weekend = [SATURDAY, SUNDAY].iter().all(|&day| self.days[day].is_never(1));
        let is_open = |(at, slot): (usize, &Count)| {
            let day = at / n_a_day;
            let is_seldom = slot.n_pass >= MIN_PASSES && 7 * slot.n_row <= slot.n_pass;
            let is_free = self.days[day].is_never(MIN_PASSES) || has_weekend && matches!(day, SATURDAY | SUNDAY);
            !(is_seldom || is_free || self.times[at % n_a_day].is_never(MIN_PASSES))
        };
        self.slots.iter().enumerate().map(is_open).collect()
    }

    /// Whether nearly all rows are at open times, these have rows but for one in four, and a good part of the gaps is elsewhere.
    fn are_clear(&self, is_open: &[bool]) -> bool {
        let [mut open, mut closed] = [Count::default(); 2];
        for (slot, &is_open) in self.slots.iter().zip(is_open) {
            let sum = if is_open { &mut open } else { &mut closed };
            sum.n_row += slot.n_row;
            sum.n_pass += slot.n_pass;
        }
        8 * closed.n_row <= open.n_row && 3 * open.n_pass <= open.n_row && open.n_pass <= 2 * closed.n_pass && closed.n_pass > 0
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use jiff::civil::{DateTime, Weekday, date};

    use crate::dataset::Dates;

    /// Every so many minutes from Monday, 2024-01-01, for so many days, where `has_row`.
    fn dates(minutes: i64, n_day: i64, has_row: impl Fn(DateTime) -> bool) -> Dates {
        let first = date(2024, 1, 1).at(0, 0, 0, 0);
        let times = (0..n_day * 1440 / minutes).map(|step| first.saturating_add((step * minutes).minutes()));
        Dates {
            name: "date".into(),
            text: times.filter(|&time| has_row(time)).map(|time| time.strftime("%Y-%m-%d %H:%M").to_string()).collect(),
        }
    }

    fn is_weekend(time: DateTime) -> bool {
        matches!(time.weekday(), Weekday::Saturday | Weekday::Sunday)
    }

    /// Step, irregular rows and the dates to come, without the year.
    fn ahead(dates: &Dates, n: usize) -> (String, usize, Vec<String>) {
        let spacing = dates.spacing().expect("a step");
        let next = dates.continued(n).expect("dates");
        (spacing.step.to_string(), spacing.n_irregular, next.iter().map(|date| date[5..].to_string()).collect())
    }

    fn owned<const N: usize>(next: [&str; N]) -> Vec<String> {
        next.map(String::from).to_vec()
    }

    #[test]
    fn hours_of_a_market_go_on_over_nights_and_weekends() {
        // a half past, seven a day, and a holiday
        let is_open = |time: DateTime| !is_weekend(time) && (9..16).contains(&time.hour()) && time.minute() == 30 && time.day() != 15;
        let next = ["02-09 15:30", "02-12 09:30"];
        let history = |n_day| {
            let mut dates = dates(30, n_day, is_open);
            dates.text.pop();
            dates
        };
        assert_eq!(ahead(&history(40), 2), ("1 hour of business".into(), 0, owned(next)));
        assert_eq!(ahead(&history(12), 3).2, ["01-12 15:30", "01-15 09:30", "01-15 10:30"]);
        // four nights and a weekend are enough
        let short = Dates { name: "date".into(), text: dates(30, 10, is_open).text.split_off(21) };
        assert_eq!(short.text[0], "2024-01-04 09:30");
        assert_eq!(ahead(&short, 8).2[6..], ["01-11 15:30", "01-12 09:30"]);
        // one is not
        assert_eq!(ahead(&dates(30, 2, is_open), 1), ("1 hour".into(), 1, owned(["01-02 16:30"])));

        // a lost hour and an early close are counted
        let holes =
            dates(30, 40, |time| is_open(time) && !(time.day() == 10 && time.hour() == 11) && !(time.day() == 17 && time.hour() > 12));
        assert_eq!(ahead(&holes, 1), ("1 hour of business".into(), 2, owned(["02-12 09:30"])));
    }

    #[test]
    fn sessions_may_have_a_break_or_begin_on_an_evening() {
        let half_hours = dates(30, 30, |time| {
            let minute = i16::from(time.hour()) * 60 + i16::from(time.minute());
            !is_weekend(time) && ((600..=690).contains(&minute) || (810..=900).contains(&minute))
        });
        let next = ["01-31 10:00", "01-31 10:30", "01-31 11:00", "01-31 11:30", "01-31 13:30"];
        assert_eq!(ahead(&half_hours, 5), ("30 minutes of business".into(), 0, owned(next)));
        // four hours, of which none is on the clock of the others
        let hours = dates(30, 30, |time| !is_weekend(time) && matches!((time.hour(), time.minute()), (10 | 11, 30) | (14 | 15, 0)));
        let next = ["01-31 10:30", "01-31 11:30", "01-31 14:00", "01-31 15:00", "02-01 10:30"];
        assert_eq!(ahead(&hours, 5), ("1 hour of business".into(), 0, owned(next)));
        let week = |time: DateTime| match time.weekday() {
            Weekday::Saturday => false,
            Weekday::Sunday => time.hour() >= 22,
            Weekday::Friday => time.hour() < 22,
            _ => true,
        };
        assert_eq!(ahead(&dates(60, 46, week), 25).2[21..], ["02-16 21:00", "02-18 22:00", "02-18 23:00", "02-19 00:00"]);
    }

    #[test]
    fn summer_time_moves_no_session() {
        let mut hours = dates(30, 90, |time| !is_weekend(time) && (9..16).contains(&time.hour()) && time.minute() == 30);
        for text in &mut hours.text {
            *text += if text.as_str() < "2024-03-10" { ":00-05:00" } else { ":00-04:00" };
        }
        let next = ["04-01 09:30:00-04:00", "04-01 10:30:00-04:00"];
        assert_eq!(ahead(&hours, 2), ("1 hour of business".into(), 0, owned(next)));
        hours.text.retain(|text| text.as_str() < "2024-03-13");
        assert_eq!(ahead(&hours, 2), ("1 hour of business".into(), 0, owned(["03-13 09:30:00-04:00", "03-13 10:30:00-04:00"])));
    }

    #[test]
    fn days_of_the_week_without_rows_stay_without() {
        let days = |n_day, is_open: &dyn Fn(DateTime) -> bool| {
            let mut dates = dates(1440, n_day, is_open);
            dates.text.iter_mut().for_each(|text| text.truncate(10));
            dates
        };
        let six = |time: DateTime| time.weekday() != Weekday::Sunday && !matches!(time.day(), 4 | 5);
        assert_eq!(ahead(&days(55, &six), 4), ("1 business day".into(), 0, owned(["02-26", "02-27", "02-28", "02-29"])));
        assert_eq!(ahead(&days(55, &six), 7).2[5..], ["03-02", "03-04"]);
        let from_sunday = |time: DateTime| !matches!(time.weekday(), Weekday::Friday | Weekday::Saturday) && time.day() != 10;
        assert_eq!(ahead(&days(39, &from_sunday), 2), ("1 business day".into(), 0, owned(["02-11", "02-12"])));
        let twice = |time: DateTime| matches!(time.weekday(), Weekday::Monday | Weekday::Thursday);
        assert_eq!(ahead(&days(40, &twice), 3).2, ["02-12", "02-15", "02-19"]);
        // one Saturday of many, and one long ago
        let extra = |time: DateTime| !is_weekend(time) || time.date() == date(2024, 2, 3);
        assert_eq!(ahead(&days(68, &extra), 1), ("1 business day".into(), 0, owned(["03-11"])));
        let long_ago = |time: DateTime| time.weekday() != Weekday::Sunday && (!is_weekend(time) || time.month() == 1);
        assert_eq!(ahead(&days(110, &long_ago), 3).2, ["04-22", "04-23", "04-24"]);
        // too few weeks to tell, but for weekends
        assert_eq!(ahead(&days(13, &six), 2).2, ["01-14", "01-15"]);
        assert_eq!(ahead(&days(12, &|time| !is_weekend(time)), 1), ("1 business day".into(), 0, owned(["01-15"])));
        // weeks of which one begins on a Tuesday
        let shifted =
            |time: DateTime| if time.day() == 22 || time.day() == 23 { time.day() == 23 } else { time.weekday() == Weekday::Monday };
        assert_eq!(ahead(&days(60, &shifted), 1).0, "1 week");
    }

    /// A number below 1000 that hardly repeats.
    fn chance(seed: i64, time: DateTime) -> u64 {
        let hour = time.day_of_year() as u64 * 24 + time.hour() as u64 + 100_000 * seed as u64;
        let mixed = (hour ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40 & 1023
    }

    #[test]
    fn gaps_by_chance_are_no_pattern() {
        for minutes in [60, 1440] {
            for n_day in [3, 8, 17, 25, 32, 60, 120] {
                for rate in [5, 20, 50, 100] {
                    for seed in 0..40 {
                        let dates = dates(minutes, n_day, |time| chance(seed, time) >= rate);
                        let step = dates.spacing().map(|spacing| spacing.step.to_string()).unwrap_or_default();
                        assert!(!step.contains("business"), "{minutes} minutes, {n_day} days, rate {rate}, seed {seed}: {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_outage_is_no_pattern() {
        let hours = dates(60, 60, |time| !(time.month() == 2 && (3..25).contains(&time.day())));
        assert_eq!(ahead(&hours, 1), ("1 hour".into(), 1, owned(["03-01 00:00"])));
        let sessions = dates(60, 60, |time| !is_weekend(time) && time.hour() < 8 && !(time.month() == 2 && (3..25).contains(&time.day())));
        assert_eq!(ahead(&sessions, 9).2[7..], ["03-01 07:00", "03-04 00:00"]);
        // the last row at another time than the others
        let mut live = dates(30, 40, |time| !is_weekend(time) && (9..16).contains(&time.hour()) && time.minute() == 30);
        live.text.push("2024-02-09 15:47".into());
        assert_eq!(ahead(&live, 1).2, ["02-12 09:30"]);
    }
}
