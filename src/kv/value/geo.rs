//! Places on earth as scores of a sorted set: 52 bits that interleave latitude and longitude, as Redis has them.
//!
//! Neighbouring places mostly have neighbouring scores, so an area is a few ranges of scores: [`cover`] finds them by
//! halving the world until its pieces are about as large as the area.
//!
//! Source: the documentation of Redis' geospatial commands; great circles by the haversine formula on a sphere.

/// Highest latitude there is, that of the square Mercator map (EPSG:3857).
pub const LATITUDE: f64 = 85.051_128_78;
/// Highest longitude there is.
pub const LONGITUDE: f64 = 180.0;
/// Metres from the middle of the earth.
const RADIUS: f64 = 6_372_797.560_856;
/// Bits of each of both coordinates.
const STEPS: u32 = 26;

/// A place in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East of Greenwich, from -180 to 180.
    pub longitude: f64,
    /// North of the equator, from -85.05 to 85.05.
    pub latitude: f64,
}

/// What is looked for around a place, in metres.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Within a distance.
    Circle(f64),
    /// Within half a width to the sides and half a height up and down.
    Box(f64, f64),
}

/// Spreads 32 bits over every other of 64.
const fn spread(bits: u32) -> u64 {
    let mut word = bits as u64;
    word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    word = (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    word = (word | word << 2) & 0x3333_3333_3333_3333;
    (word | word << 1) & 0x5555_5555_5555_5555
}

/// Gathers every other of 64 bits.
const fn gather(word: u64) -> u32 {
    let mut word = word & 0x5555_5555_5555_5555;
    word = (word | word >> 1) & 0x3333_3333_3333_3333;
    word = (word | word >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    word = (word | word >> 4) & 0x00ff_00ff_00ff_00ff;
    word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
    (word | word >> 16) as u32
}

fn interleave(place: Place, latitude: f64) -> u64 {
    let cells = f64::from(1_u32 << STEPS);
    // The very edge of the world belongs to the last cell.
    let share = |value: f64, most: f64| ((value + most) / (2.0 * most) * cells).min(cells - 1.0) as u32;
    spread(share(place.latitude, latitude)) | spread(share(place.longitude, LONGITUDE)) << 1
}

impl Place {
    /// A place, if there is one of these coordinates.
    pub fn new(longitude: f64, latitude: f64) -> Option<Self> {
        let there = (-LONGITUDE..=LONGITUDE).contains(&longitude) && (-LATITUDE..=LATITUDE).contains(&latitude);
        there.then_some(Self { longitude, latitude })
    }

    /// Its score: a whole number below 2^52.
    pub fn score(self) -> u64 {
        interleave(self, LATITUDE)
    }

    /// The middle of the cell a score stands for.
    pub fn of_score(score: f64) -> Self {
        let bits = score as u64;
        let cells = f64::from(1_u32 << STEPS);
        let middle = |cell: u32, most: f64| {
            let side = |cell: f64| -most + cell / cells * (2.0 * most);
            let (low, high) = (side(f64::from(cell)), side(f64::from(cell) + 1.0));
            f64::midpoint(low, high).clamp(-most, most)
        };
        Self { longitude: middle(gather(bits >> 1), LONGITUDE), latitude: middle(gather(bits), LATITUDE) }
    }

    /// The standard geohash of its cell, eleven letters, of which the last is always `0`.
    pub fn hash(self) -> String {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = interleave(self, 90.0);
        let letter = |nth: u32| if nth == 10 { 0 } else { (bits >> (52 - 5 * (nth + 1)) & 31) as usize };
        (0..11).filter_map(|nth| LETTERS.get(letter(nth)).map(|letter| char::from(*letter))).collect()
    }

    /// Metres to another place.
    pub fn distance(self, other: Self) -> f64 {
        let side = ((other.longitude.to_radians() - self.longitude.to_radians()) / 2.0).sin();
        if side == 0.0 {
            return self.rise(other);
        }
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let up = ((to - from) / 2.0).sin();
        let square = up * up + from.cos() * to.cos() * side * side;
        2.0 * RADIUS * square.sqrt().asin()
    }

    /// Metres to another place's latitude.
    fn rise(self, other: Self) -> f64 {
        RADIUS * (other.latitude.to_radians() - self.latitude.to_radians()).abs()
    }
}

impl Shape {
    /// Metres from `middle` to `place`, if that is within the shape around the middle.
    pub fn reaches(self, middle: Place, place: Place) -> Option<f64> {
        let inside = match self {
            Self::Circle(radius) => middle.distance(place) <= radius,
            Self::Box(width, height) => {
                let beside = Place { latitude: place.latitude, ..middle };
                middle.rise(place) <= height / 2.0 && beside.distance(place) <= width / 2.0
            }
        };
        inside.then(|| middle.distance(place))
    }

    /// Degrees to each side, and up and down, within which everything lies that the shape reaches; a little more than
    /// needed, so that rounding loses nothing.
    fn degrees(self, middle: Place) -> (f64, f64) {
        let (half_width, up) = match self {
            Self::Circle(radius) => (radius, radius),
            Self::Box(width, height) => (width / 2.0, height / 2.0),
        };
        let up = up / RADIUS;
        let farthest = (middle.latitude.to_radians().abs() + up).min(std::f64::consts::FRAC_PI_2);
        // Half the chord at the latitude where a degree is shortest.
        let chord = (half_width / RADIUS / 2.0).min(std::f64::consts::FRAC_PI_2).sin() / farthest.cos();
        let side = if chord < 1.0 { 2.0 * chord.asin() } else { std::f64::consts::PI };
        let widen = |radians: f64| radians.to_degrees() * 1.000_001 + 1e-5;
        (widen(side), widen(up))
    }
}

/// A rectangle in degrees.
#[derive(Clone, Copy, Debug)]
struct Window {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// Ranges of scores, first and last included and in order, in which all places lie that `shape` reaches around `middle`.
pub fn cover(middle: Place, shape: Shape) -> Vec<(u64, u64)> {
    let (side, up) = shape.degrees(middle);
    let (south, north) = ((middle.latitude - up).max(-LATITUDE), (middle.latitude + up).min(LATITUDE));
    let (west, east) = (middle.longitude - side, middle.longitude + side);
    let whole = Window { west: -LONGITUDE, east: LONGITUDE, south, north };
    let mut windows = Vec::new();
    if side >= LONGITUDE {
        windows.push(whole);
    } else {
        windows.push(Window { west: west.max(-LONGITUDE), east: east.min(LONGITUDE), south, north });
        // What goes beyond the 180th meridian comes in from the other side.
        if west < -LONGITUDE {
            windows.push(Window { west: west + 2.0 * LONGITUDE, ..whole });
        }
        if east > LONGITUDE {
            windows.push(Window { east: east - 2.0 * LONGITUDE, ..whole });
        }
    }
    let mut ranges = Vec::new();
    for window in windows {
        let (width, height) = (window.east - window.west, window.north - window.south);
        // Cells of about half the window: it meets a few of them, however it lies.
        let halvings = |whole: f64, part: f64| (whole / (part / 2.0).max(1e-6)).log2().floor().clamp(0.0, 26.0) as u32;
        let (across, up) = (halvings(2.0 * LONGITUDE, width), halvings(2.0 * LATITUDE, height));
        // A long strip is not cut into more than sixteen times as many.
        descend(window, 0, 0, across.max(up).min(across.min(up) + 4), &mut ranges);
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Adds the cells of `depth` halvings that meet the window and lie in the cell whose `level` leading pairs of bits are
/// `bits`.
fn descend(window: Window, bits: u64, level: u32, depth: u32, ranges: &mut Vec<(u64, u64)>) {
    let cells = f64::from(1_u32 << level);
    let side = |cell: u32, most: f64| -most + f64::from(cell) / cells * (2.0 * most);
    let (row, column) = (gather(bits), gather(bits >> 1));
    let apart = side(row, LATITUDE) > window.north
        || side(row + 1, LATITUDE) < window.south
        || side(column, LONGITUDE) > window.east
        || side(column + 1, LONGITUDE) < window.west;
    if apart {
        return;
    }
    if level >= depth {
        let shift = 2 * (STEPS - level);
        ranges.push((bits << shift, ((bits + 1) << shift) - 1));
        return;
    }
    for quarter in 0..4 {
        descend(window, bits << 2 | quarter, level + 1, depth, ranges);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_and_hashes_are_those_of_redis() {
        // From the documentation of GEOADD, GEOHASH and GEODIST.
        let palermo = Place::new(13.361_389, 38.115_556).unwrap();
        let catania = Place::new(15.087_269, 37.502_669).unwrap();
        assert_eq!(palermo.score(), 3_479_099_956_230_698);
        assert_eq!(Place::of_score(palermo.score() as f64).hash(), "sqc8b49rny0");
        assert_eq!(Place::of_score(catania.score() as f64).hash(), "sqdtr74hyu0");
        let metres = Place::of_score(palermo.score() as f64).distance(Place::of_score(catania.score() as f64));
        assert_eq!(format!("{metres:.4}"), "166274.1516");
        assert_eq!(Place::new(0.0, 86.0), None);
    }

    fn place() -> impl Strategy<Value = Place> {
        (-180.0..180.0_f64, -85.0..85.0_f64).prop_map(|(longitude, latitude)| Place { longitude, latitude })
    }

    proptest! {
        #[test]
        fn what_a_shape_reaches_lies_in_its_cover(
            middle in place(), towards in place(), part in 0.0..1.2_f64, power in 0.0..7.4_f64, circle: bool, flat in 0.01..4.0_f64,
        ) {
            let size = 10_f64.powf(power);
            let shape = if circle { Shape::Circle(size) } else { Shape::Box(size, size * flat) };
            let ranges = cover(middle, shape);
            prop_assert!(ranges.len() < 400, "{}", ranges.len());
            // A place about as far away as the shape is large.
            let share = (part * size / middle.distance(towards).max(1.0)).min(1.0);
            let between = |from: f64, to: f64| from + (to - from) * share;
            for longitude in [between(middle.longitude, towards.longitude), between(middle.longitude, towards.longitude - 360.0)] {
                let longitude = if longitude < -180.0 { longitude + 360.0 } else { longitude };
                let place = Place { longitude, latitude: between(middle.latitude, towards.latitude) };
                let score = place.score();
                let stored = Place::of_score(score as f64);
                if shape.reaches(middle, stored).is_some() {
                    prop_assert!(ranges.iter().any(|(first, last)| (*first..=*last).contains(&score)));
                }
            }
        }

        #[test]
        fn a_score_is_near_its_place(place in place()) {
            prop_assert!(place.distance(Place::of_score(place.score() as f64)) < 1.0);
        }
    }
}
