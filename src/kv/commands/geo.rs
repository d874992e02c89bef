//! Places: `GEOADD`, `GEOPOS`, `GEODIST`, `GEOHASH`. Searches are in [`geo_search`](super::geo_search).

use super::{Command, GROW, READ, keyed};
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::reply::Reply;
use crate::kv::value::geo::Place;

pub(super) const COMMANDS: &[Command] = &[
    keyed("geoadd", -5, GROW, 1, add),
    keyed("geodist", -4, READ, 1, distance),
    keyed("geohash", -2, READ, 1, hash),
    keyed("geopos", -2, READ, 1, position),
];

/// A place from two arguments.
pub(super) fn place(longitude: &[u8], latitude: &[u8]) -> Result<Place, Fault> {
    let longitude = number::float(longitude).ok_or(Fault::NotFloat)?;
    let latitude = number::float(latitude).ok_or(Fault::NotFloat)?;
    Place::new(longitude, latitude)
        .ok_or_else(|| Fault::Told(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// Metres in a unit.
pub(super) fn unit(name: &[u8]) -> Result<f64, Fault> {
    match name.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Fault::Text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// A distance as it is answered: with four digits behind the point.
pub(super) fn answer_distance(metres: f64, unit: f64, reply: &mut dyn Reply) {
    reply.bulk(format!("{:.4}", metres / unit).as_bytes());
}

/// Both coordinates of a place.
pub(super) fn answer_place(place: Place, reply: &mut dyn Reply) {
    reply.array(2);
    for degrees in [place.longitude, place.latitude] {
        if reply.resp3() {
            reply.double(degrees);
        } else {
            let text = format!("{degrees:.17}");
            reply.bulk(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
        }
    }
}

fn add(call: &mut Call<'_>) -> Result<(), Fault> {
    let is_option = |arg: &[u8]| [b"NX".as_slice(), b"XX", b"CH"].iter().any(|option| arg.eq_ignore_ascii_case(option));
    let options = call.rest(2).iter().take_while(|arg| is_option(arg)).count();
    let (words, rest) = call.rest(2).split_at(options);
    let has = |name: &[u8]| words.iter().any(|word| word.eq_ignore_ascii_case(name));
    let (places, rest) = rest.as_chunks::<3>();
    if places.is_empty() || !rest.is_empty() || has(b"NX") && has(b"XX") {
        return Err(Fault::Syntax);
    }
    let mut pairs = Vec::with_capacity(places.len());
    for [longitude, latitude, member] in places {
        pairs.push((place(longitude, latitude)?.score() as f64, *member));
    }
    super::zsets::add_places(call, has, pairs)
}

fn position(call: &mut Call<'_>) -> Result<(), Fault> {
    let members = call.rest(2);
    super::zsets::read(call, |set, reply, hashing| {
        reply.array(members.len());
        for member in members {
            match set.score(member, hashing) {
                Some(score) => answer_place(Place::of_score(score), reply),
                None => reply.null_array(),
            }
        }
    })
}

fn hash(call: &mut Call<'_>) -> Result<(), Fault> {
    let members = call.rest(2);
    super::zsets::read(call, |set, reply, hashing| {
        reply.array(members.len());
        for member in members {
            match set.score(member, hashing) {
                Some(score) => reply.bulk(Place::of_score(score).hash().as_bytes()),
                None => reply.null(),
            }
        }
    })
}

fn distance(call: &mut Call<'_>) -> Result<(), Fault> {
    let (from, to) = (call.args[2], call.args[3]);
    let unit = match call.rest(4) {
        [] => 1.0,
        [name] => unit(name)?,
        _ => return Err(Fault::Syntax),
    };
    super::zsets::read(call, |set, reply, hashing| match (set.score(from, hashing), set.score(to, hashing)) {
        (Some(from), Some(to)) => {
            answer_distance(Place::of_score(from).distance(Place::of_score(to)), unit, reply);
        }
        _ => reply.null(),
    })
}
