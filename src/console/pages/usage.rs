//! What buckets held by day, as charts.

use std::time::Duration;

use crate::base::Timestamp;
use crate::console::chart::{Chart, Drawing, Kind, Series, Unit};
use crate::console::{Console, Fault};
use crate::objects::usage_days::Held;
use crate::objects::{BucketName, ObjectError};

/// Days that are shown.
const DAYS: u32 = 90;

/// Bytes and objects of `bucket`, or of all buckets together.
pub(super) async fn charts(console: &Console, bucket: Option<&BucketName>) -> Result<[Drawing; 2], Fault> {
    let world = console.world();
    let days = match world.objects.usage_days(bucket, DAYS).await {
        // It went away meanwhile: nothing is known.
        Err(ObjectError::NoSuchBucket) => Vec::new(),
        days => days.map_err(|error| Fault::failed("usage of buckets", &error))?,
    };
    let end = world.clock.now();
    let bytes = chart("Bytes by day (UTC)", Unit::Bytes, &days, end, |held| held.bytes);
    Ok([bytes, chart("Objects by day (UTC)", Unit::Count, &days, end, |held| held.objects)])
}

fn chart(title: &str, unit: Unit, days: &[Option<Held>], end: Timestamp, value: fn(&Held) -> u64) -> Drawing {
    let values = days.iter().map(|day| day.as_ref().map(|held| value(held) as f64)).collect();
    let series = vec![Series { name: String::new(), values }];
    Chart { title: title.to_owned(), kind: Kind::Area, unit, series, end, step: Duration::from_hours(24) }.draw()
}
