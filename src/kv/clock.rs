//! When and how often a value was used, in four bytes of its entry.
//!
//! The low 24 bits are seconds (they wrap after 194 days, as in Redis), the high 8 a logarithmic count of uses: the
//! higher it is, the less likely one more use raises it, and it falls by one for every minute without a use. A value
//! starts at [`START`], so that it is not the first to go before it had a chance. The count is kept in databases whose
//! policy asks for it only (`allkeys-lfu`, `volatile-lfu`).
//!
//! The rule of the counter is that of Redis (`LFULogIncr`, `lfu-log-factor 10`, `lfu-decay-time 1`), so that `OBJECT
//! FREQ` means the same.

/// What the count of a new value is.
pub const START: u8 = 5;

/// Uses it takes to raise the count grow by this with every step.
const FACTOR: u32 = 10;

const SECONDS: u32 = 0xff_ffff;

/// The stamp of a value made or used at `second`.
pub const fn stamp(second: u64) -> u32 {
    (second as u32 & SECONDS) | (START as u32) << 24
}

/// Seconds since the use that `access` tells of.
pub const fn idle(access: u32, second: u64) -> u32 {
    (second as u32).wrapping_sub(access) & SECONDS
}

/// How often it was used, on the logarithmic scale.
pub const fn frequency(access: u32, second: u64) -> u8 {
    let minutes = idle(access, second) / 60;
    let count = access >> 24;
    count.saturating_sub(minutes) as u8
}

/// `access` with its time moved to `second`; its count stays.
pub const fn used(access: u32, second: u64) -> u32 {
    access & !SECONDS | (second as u32 & SECONDS)
}

/// `access` after one more use; `draw` is any number, drawn afresh.
pub const fn counted(access: u32, second: u64, draw: u32) -> u32 {
    let count = frequency(access, second) as u32;
    let odds = count.saturating_sub(START as u32) * FACTOR + 1;
    let raised = if count < 255 && draw.is_multiple_of(odds) { count + 1 } else { count };
    (second as u32 & SECONDS) | raised << 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_survives_the_wrap() {
        let before = stamp(0xff_fff0);
        assert_eq!(idle(before, 0x100_0010), 0x20);
        assert_eq!(idle(stamp(7), 7), 0);
    }

    #[test]
    fn a_count_rises_with_uses_ever_more_slowly_and_falls_by_the_minute() {
        let mut access = stamp(100);
        let mut draw = 1_u32;
        let mut after_a_hundred = 0;
        for use_number in 0..10_000 {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            access = counted(access, 100, draw >> 8);
            if use_number == 99 {
                after_a_hundred = frequency(access, 100);
            }
        }
        assert!((6..20).contains(&after_a_hundred), "{after_a_hundred}");
        let count = frequency(access, 100);
        assert!(count > after_a_hundred && count < 120, "{count}");
        assert_eq!(frequency(access, 100 + 3 * 60), count - 3);
        assert_eq!(frequency(access, 100 + 300 * 60), 0);
    }
}
