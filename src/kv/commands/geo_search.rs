//! Searches for places: `GEOSEARCH`, `GEOSEARCHSTORE`, and the `GEORADIUS` family they replaced.

use super::geo::{answer_distance, answer_place, place, unit};
use super::{Command, Flags, GROW, READ, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::value::Kind;
use crate::kv::value::geo::{Place, Shape, cover};

const MAY_STORE: Flags = GROW.and(Flags::MOVABLE_KEYS);

pub(super) const COMMANDS: &[Command] = &[
    keyed("georadius", -6, MAY_STORE, 1, |call| radius(call, true)),
    keyed("georadius_ro", -6, READ, 1, |call| radius(call, false)),
    keyed("georadiusbymember", -5, MAY_STORE, 1, |call| radius_by_member(call, true)),
    keyed("georadiusbymember_ro", -5, READ, 1, |call| radius_by_member(call, false)),
    keyed("geosearch", -7, READ, 1, |call| search(call, Form::Search)),
    keyed("geosearchstore", -8, GROW, 2, |call| search(call, Form::SearchStore)),
];

/// Which words a command knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `GEORADIUS_RO`
    Radius,
    /// `GEORADIUS`, with `STORE` and `STOREDIST`.
    RadiusStore,
    Search,
    SearchStore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// What is looked for and how it is answered.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent words of one command")]
struct Query<'a> {
    middle: Option<Place>,
    shape: Option<Shape>,
    /// Metres in the unit of distances.
    unit: f64,
    with_distance: bool,
    with_score: bool,
    with_place: bool,
    order: Option<Order>,
    /// 0 for all.
    most: usize,
    any: bool,
    target: Option<&'a [u8]>,
    stores_distance: bool,
    /// Whether a member was named to search from; it has no place when its key is absent.
    from_member: bool,
}

impl Query<'_> {
    const fn new() -> Self {
        Self {
            middle: None,
            shape: None,
            unit: 1.0,
            with_distance: false,
            with_score: false,
            with_place: false,
            order: None,
            most: 0,
            any: false,
            target: None,
            stores_distance: false,
            from_member: false,
        }
    }
}

/// A length that must not be negative.
fn length(text: &[u8], wrong: &'static str, negative: &'static str) -> Result<f64, Fault> {
    match number::float(text) {
        Some(length) if length < 0.0 => Err(Fault::Text(negative)),
        Some(length) => Ok(length),
        None => Err(Fault::Text(wrong)),
    }
}

/// A radius and its unit.
fn circle(radius: &[u8], name: &[u8]) -> Result<(Shape, f64), Fault> {
    let radius = length(radius, "ERR need numeric radius", "ERR radius cannot be negative")?;
    let unit = unit(name)?;
    Ok((Shape::Circle(radius * unit), unit))
}

fn rectangle(width: &[u8], height: &[u8], name: &[u8]) -> Result<(Shape, f64), Fault> {
    let negative = "ERR height or width cannot be negative";
    let height_read = number::float(height);
    let width = number::float(width).ok_or(Fault::Text("ERR need numeric width"))?;
    let height = height_read.ok_or(Fault::Text("ERR need numeric height"))?;
    if width < 0.0 || height < 0.0 {
        return Err(Fault::Text(negative));
    }
    let unit = unit(name)?;
    Ok((Shape::Box(width * unit, height * unit), unit))
}

/// Where a member is; `None` when its key is absent.
fn member_place(call: &mut Call<'_>, key: &[u8], member: &[u8]) -> Result<Option<Place>, Fault> {
    let hashing = &call.keyspace.hashing.clone();
    let Some(entry) = call.keyspace.read_kind(call.client.db, key, Kind::ZSet)? else { return Ok(None) };
    let score = entry.zset().score(member, hashing);
    score.map(|score| Some(Place::of_score(score))).ok_or(Fault::Text("ERR could not decode requested zset member"))
}

fn radius(call: &mut Call<'_>, stores: bool) -> Result<(), Fault> {
    call.keyspace.read_kind(call.client.db, call.args[1], Kind::ZSet)?;
    let middle = place(call.args[2], call.args[3])?;
    let (shape, unit) = circle(call.args[4], call.args[5])?;
    let query = Query { middle: Some(middle), shape: Some(shape), unit, ..Query::new() };
    run(call, query, if stores { Form::RadiusStore } else { Form::Radius }, 1, 6)
}

fn radius_by_member(call: &mut Call<'_>, stores: bool) -> Result<(), Fault> {
    let mut query = Query { from_member: true, ..Query::new() };
    query.middle = member_place(call, call.args[1], call.args[2])?;
    if query.middle.is_some() {
        let (shape, unit) = circle(call.args[3], call.args[4])?;
        (query.shape, query.unit) = (Some(shape), unit);
    }
    run(call, query, if stores { Form::RadiusStore } else { Form::Radius }, 1, 5)
}

fn search(call: &mut Call<'_>, form: Form) -> Result<(), Fault> {
    let stores = form == Form::SearchStore;
    let source_at = if stores { 2 } else { 1 };
    call.keyspace.read_kind(call.client.db, call.arg(source_at)?, Kind::ZSet)?;
    let target = stores.then_some(call.args[1]);
    run(call, Query { target, ..Query::new() }, form, source_at, source_at + 1)
}

/// Reads the options from `at` on into the query.
fn read<'a>(call: &mut Call<'a>, query: &mut Query<'a>, form: Form, source: &[u8], mut at: usize) -> Result<(), Fault> {
    let searches = matches!(form, Form::Search | Form::SearchStore);
    let mut from_place = false;
    let (mut in_circle, mut in_box) = (false, false);
    while let Some((option, rest)) = call.rest(at).split_first() {
        at += 1;
        match (option.to_ascii_uppercase().as_slice(), rest) {
            (b"WITHDIST", _) => query.with_distance = true,
            (b"WITHHASH", _) => query.with_score = true,
            (b"WITHCOORD", _) => query.with_place = true,
            (b"ANY", _) => query.any = true,
            (b"ASC", _) => query.order = Some(Order::Nearest),
            (b"DESC", _) => query.order = Some(Order::Farthest),
            (b"COUNT", [count, ..]) => {
                let count = number::integer(count).ok_or(Fault::NotInteger)?;
                let count = usize::try_from(count).ok().filter(|count| *count > 0);
                query.most = count.ok_or(Fault::Text("ERR COUNT must be > 0"))?;
                at += 1;
            }
            (b"STORE" | b"STOREDIST", [target, ..]) if form == Form::RadiusStore => {
                query.target = Some(target);
                query.stores_distance = option.eq_ignore_ascii_case(b"STOREDIST");
                at += 1;
            }
            (b"FROMMEMBER", [member, ..]) if searches && !from_place => {
                query.middle = member_place(call, source, member)?;
                query.from_member = true;
                at += 1;
            }
            (b"FROMLONLAT", [longitude, latitude, ..]) if searches && !query.from_member => {
                query.middle = Some(place(longitude, latitude)?);
                from_place = true;
                at += 2;
            }
            (b"BYRADIUS", [radius, unit, ..]) if searches && !in_box => {
                let (shape, unit) = circle(radius, unit)?;
                (query.shape, query.unit, in_circle) = (Some(shape), unit, true);
                at += 2;
            }
            (b"BYBOX", [width, height, unit, ..]) if searches && !in_circle => {
                let (shape, unit) = rectangle(width, height, unit)?;
                (query.shape, query.unit, in_box) = (Some(shape), unit, true);
                at += 3;
            }
            (b"STOREDIST", _) if form == Form::SearchStore => query.stores_distance = true,
            _ => return Err(Fault::Syntax),
        }
    }
    if query.target.is_some() && (query.with_distance || query.with_score || query.with_place) {
        let name = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
        return Err(Fault::Told(format!("ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")));
    }
    let name = String::from_utf8_lossy(call.args[0]);
    if searches && !query.from_member && !from_place {
        return Err(Fault::Told(format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}")));
    }
    if searches && !in_circle && !in_box {
        return Err(Fault::Told(format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")));
    }
    if query.any && query.most == 0 {
        return Err(Fault::Text("ERR the ANY argument requires COUNT argument"));
    }
    Ok(())
}

/// A member that was found.
struct Found {
    member: Vec<u8>,
    score: f64,
    metres: f64,
}

fn run<'a>(
    call: &mut Call<'a>,
    mut query: Query<'a>,
    form: Form,
    source_at: usize,
    options_at: usize,
) -> Result<(), Fault> {
    let source = call.arg(source_at)?;
    read(call, &mut query, form, source, options_at)?;
    if query.most > 0 && query.order.is_none() && !query.any {
        query.order = Some(Order::Nearest);
    }
    let db = call.client.db;
    let found = match (call.keyspace.read_kind(db, source, Kind::ZSet)?, query.middle, query.shape) {
        (Some(entry), Some(middle), Some(shape)) => find(entry, middle, shape, &query),
        _ => Vec::new(),
    };
    if let Some(target) = query.target {
        let score = |found: &Found| if query.stores_distance { found.metres / query.unit } else { found.score };
        let mut members: Vec<(f64, Vec<u8>)> = found.into_iter().map(|found| (score(&found), found.member)).collect();
        members.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        call.keyspace.store_zset(db, target, &members);
        call.reply.integer(members.len() as i64);
        return Ok(());
    }
    let parts = 1 + [query.with_distance, query.with_score, query.with_place].iter().filter(|with| **with).count();
    call.reply.array(found.len());
    for Found { member, score, metres } in found {
        if parts > 1 {
            call.reply.array(parts);
        }
        call.reply.bulk(&member);
        if query.with_distance {
            answer_distance(metres, query.unit, call.reply);
        }
        if query.with_score {
            call.reply.integer(score as i64);
        }
        if query.with_place {
            answer_place(Place::of_score(score), call.reply);
        }
    }
    Ok(())
}

/// The members within the shape, in the wanted order, no more than wanted.
fn find(entry: &Entry, middle: Place, shape: Shape, query: &Query<'_>) -> Vec<Found> {
    let set = entry.zset();
    let mut found = Vec::new();
    for (first, last) in cover(middle, shape) {
        let start = set.count_before(|_, score| score < first as f64);
        let end = set.count_before(|_, score| score <= last as f64);
        set.each(start, end.saturating_sub(start), false, |member, score| {
            if query.any && found.len() >= query.most {
                return;
            }
            if let Some(metres) = shape.reaches(middle, Place::of_score(score)) {
                found.push(Found { member: member.to_vec(), score, metres });
            }
        });
    }
    match query.order {
        Some(Order::Nearest) => found.sort_by(|a, b| a.metres.total_cmp(&b.metres)),
        Some(Order::Farthest) => found.sort_by(|a, b| b.metres.total_cmp(&a.metres)),
        None => {}
    }
    if query.most > 0 {
        found.truncate(query.most);
    }
    found
}
