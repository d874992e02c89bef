//! Scripts of Redis clients: whatever a script is, and whatever foreign bytes its libraries decode, its answer is one whole
//! reply of the protocol, what was decoded and encoded stays as it is, and the memory has its cap.
//!
//! The first byte says which of the scripts below runs; the rest is cut in two, its arguments.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mainstay::base::{ByteSize, SystemRandom};
use mainstay::kv::{Client, Host, Keyspace, KvConfig, Progress, Verdict, commands};
use mainstay::resp::encoder::{Encoder, Protocol};

/// Memory of the state.
const MEMORY: u64 = 32 << 20;
/// Beats of a script, 50,000 instructions each, or some commands.
const BEATS: u32 = 8;

/// What was decoded and encoded is the same after it was encoded and decoded again, by its length: the order of a table's fields is
/// Lua's own. The first time round, what the format cannot hold is left out.
const JSON: &[u8] = b"
    local value = cjson.decode(ARGV[1])
    local once = cjson.encode(value)
    local twice = cjson.encode(cjson.decode(once))
    if #once ~= #twice then redis.call('SET', 'lost', once .. ' became ' .. twice) end
    return value";

///
/// Nothing `pcall` calls has many results: Lua 5.1's own and mlua's put one more value before them, past what the call has
/// declared though not past what is there (`EXTRA_STACK` in lstate.h), and Lua's assertions, which are on here, mind.
const MSGPACK: &[u8] = b"
    local values = { cmsgpack.unpack(ARGV[1]) }
    pcall(function() cmsgpack.unpack_one(ARGV[1], #ARGV[2]) end)
    pcall(function() cmsgpack.unpack_limit(ARGV[1], #ARGV[2], #ARGV[2] % 7) end)
    local function again(packed) return cmsgpack.pack(select(2, cmsgpack.unpack_one(packed))) end
    local once = again(cmsgpack.pack(values))
    local twice = again(once)
    if #once ~= #twice then redis.call('SET', 'lost', once .. ' became ' .. twice) end
    return values";

const STRUCT: &[u8] = b"
    pcall(struct.size, ARGV[1])
    pcall(function() struct.unpack(ARGV[1], ARGV[2], #ARGV[1]) end)
    local values = { struct.unpack(ARGV[1], ARGV[2]) }
    pcall(struct.pack, ARGV[1], unpack(values))
    return values";

const BITS: &[u8] = b"
    local function number(text) return (struct.unpack('<d', text .. '\\0\\0\\0\\0\\0\\0\\0\\0')) end
    local a, b = number(ARGV[1]), number(ARGV[2])
    local out = {}
    for _, name in ipairs({ 'tobit', 'bnot', 'bswap' }) do out[#out + 1] = bit[name](a) end
    for _, name in ipairs({ 'band', 'bor', 'bxor', 'lshift', 'rshift', 'arshift', 'rol', 'ror', 'tohex' }) do
        out[#out + 1] = bit[name](a, b)
        pcall(bit[name], ARGV[1], ARGV[2])
    end
    return out";

/// Any values as the arguments of any command a script may call, its reply as an argument and as the answer.
const CALL: &[u8] = b"
    redis.setresp(2 + #ARGV[2] % 2)
    local all = { 'SET', 'GET', 'APPEND', 'SETRANGE', 'INCRBYFLOAT', 'HSET', 'HGETALL', 'RPUSH', 'LRANGE', 'LPOS', 'SADD',
        'SMEMBERS', 'ZADD', 'ZRANGE', 'ZRANGESTORE', 'XADD', 'XRANGE', 'XGROUP', 'XREADGROUP', 'XINFO', 'XPENDING', 'SORT',
        'GEOADD', 'GEOSEARCH', 'PFADD', 'BITFIELD', 'BITOP', 'SETBIT', 'DUMP', 'RESTORE', 'OBJECT', 'COPY', 'EXPIRE', 'LCS',
        'SCAN', 'ZINTER', 'LMPOP', 'SELECT', 'CONFIG', 'COMMAND', 'PUBLISH' }
    local values = { cmsgpack.unpack(ARGV[1]) }
    local at, first = 1, nil
    for _, value in ipairs(values) do
        local given = type(value) == 'table' and value or { value }
        local name = all[(#ARGV[2] + at) % #all + 1]
        local reply = redis.pcall(name, unpack(given))
        local whole = redis.pcall(unpack(given))
        first = first or reply
        pcall(redis.call, name, 'key', reply, whole)
        at = at + 1
    end
    return first";

const TOLD: &[u8] = b"
    redis.setresp(2 + #ARGV[2] % 2)
    local function told(text) return { redis.error_reply(text), redis.status_reply(text), { err = text }, { ok = text },
        { big_number = text }, { verbatim_string = { format = text, string = text } }, { double = tonumber(text) } } end
    pcall(redis.log, #ARGV[2] % 5, ARGV[1])
    redis.sha1hex(ARGV[1])
    return { told(ARGV[1]), told(ARGV[2]), cmsgpack.unpack(ARGV[1]) }";

/// What a script answers with or ends with by itself, of any shape.
const ANSWER: &[u8] = b"redis.setresp(2 + #ARGV[2] % 2) return cmsgpack.unpack(ARGV[1])";
const RAISED: &[u8] = b"error(cmsgpack.unpack(ARGV[1]))";
const STATUS: &[u8] = b"return redis.status_reply(ARGV[1])";
const FAILURE: &[u8] = b"return redis.error_reply(ARGV[1])";

/// Ends a script after a while.
#[derive(Default)]
struct Watch {
    beats: u32,
}

impl Host for Watch {
    fn pulse(&mut self, _script: Progress) -> Verdict {
        self.beats += 1;
        if self.beats > BEATS { Verdict::Stop } else { Verdict::Go }
    }
}

/// Takes a line off `bytes`.
fn line<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line has an end");
    let (line, rest) = bytes.split_at(end);
    *bytes = &rest[2..];
    assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n')), "a line break within a line");
    line
}

fn length(line: &[u8]) -> usize {
    std::str::from_utf8(line).expect("digits").parse().expect("a length")
}

/// Takes one whole reply off `bytes`.
fn reply(bytes: &mut &[u8]) {
    let mut left = 1_usize;
    while left > 0 {
        left -= 1;
        let head = line(bytes);
        let (kind, text) = head.split_first().expect("a type");
        match kind {
            b'+' | b'-' | b'#' | b',' | b'(' | b'_' => {}
            b':' => assert!(std::str::from_utf8(text).expect("digits").parse::<i64>().is_ok()),
            b'$' | b'*' if text == b"-1" => {}
            b'$' | b'=' => {
                let (_, rest) = bytes.split_at(length(text));
                *bytes = rest.strip_prefix(b"\r\n").expect("the end of a string");
            }
            b'*' | b'~' | b'>' => left += length(text),
            b'%' => left += length(text) * 2,
            other => panic!("no type of the protocol: {other}"),
        }
    }
}

fn eval(keyspace: &mut Keyspace, protocol: Protocol, script: &[u8], first: &[u8], second: &[u8]) {
    let mut client = Client::new(1);
    let mut out = Vec::new();
    let run = |keyspace: &mut Keyspace, client: &mut Client, args: &[&[u8]], out: &mut Vec<u8>| {
        let command = commands::lookup(args[0]).expect("a command");
        keyspace.execute_under(command, client, args, &mut Encoder::new(out, protocol), &mut Watch::default());
    };
    run(keyspace, &mut client, &[b"EVAL", script, b"1", b"key", first, second], &mut out);
    let mut rest = out.as_slice();
    reply(&mut rest);
    assert!(rest.is_empty(), "more than one reply: {}", out.escape_ascii());
    if script == JSON || script == MSGPACK {
        out.clear();
        run(keyspace, &mut client, &[b"GET", b"lost"], &mut out);
        assert!(matches!(out.as_slice(), b"$-1\r\n" | b"_\r\n"), "{}", out.escape_ascii());
    }
    run(keyspace, &mut client, &[b"FLUSHALL"], &mut Vec::new());
    while keyspace.tick(1_000) {}
    keyspace.effects().clear();
    keyspace.deliveries();
    keyspace.disconnect(&mut client);
}

thread_local! {
    static KEYSPACE: RefCell<Keyspace> = RefCell::new(Keyspace::new(
        KvConfig {
            max_value: ByteSize(1 << 16),
            script_memory: ByteSize(MEMORY),
            scripts: 64,
            script_bytes: ByteSize(1 << 20),
            ..KvConfig::default()
        },
        Arc::new(SystemRandom),
    ));
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, cut, rest @ ..] = bytes else { return };
    let (first, second) = rest.split_at(rest.len() * usize::from(*cut) / 255);
    let protocol = if kind & 0x80 == 0 { Protocol::Resp2 } else { Protocol::Resp3 };
    KEYSPACE.with_borrow_mut(|keyspace| {
        let scripts = [JSON, MSGPACK, STRUCT, BITS, CALL, TOLD, ANSWER, RAISED, STATUS, FAILURE];
        match scripts.get(usize::from(kind & 0x0f)) {
            Some(script) => eval(keyspace, protocol, script, first, second),
            None => eval(keyspace, protocol, first, second, second),
        }
    });
});
