"""Scripts that `compare_redis.py` plays to redis-server and to Mainstay: what they return, and how errors read.

Left out are differences there are on purpose: `os.clock` exists (Redis 7.2), commands of the server itself (`INFO`) cannot
be called, and there are no coroutines.
"""

import random

SCRIPTS = r"""
return redis.call('foo')
redis.call('set','k')
return redis.pcall('set','k')
return redis.call()
return redis.call({})
x=1
return x
error('boo')
error({err='My err'})
error()
error(12)
return redis.error_reply('My err')
return redis.error_reply('-My err')
return redis.error_reply('My')
return {err='oops'}
return redis.error_reply(1,2)
local a = nil return a.b
return a b
redis.call('del','l') redis.call('lpush','l',1) return redis.call('get','l')
local ok,e = pcall(redis.call,'get','l') return {tostring(ok), e}
local e = redis.pcall('get','l') local t={} for k,v in pairs(e) do t[#t+1]=k..'='..tostring(v) end table.sort(t) return t
local ok,e = pcall(cjson.decode,'x') return {type(e), tostring(e)}
return cjson.decode('x')
redis.call = 1
rawset(redis,'call',1)
setmetatable(_G,{})
return redis.call('subscribe','x')
return redis.call('multi')
return redis.status_reply('FINE')
return redis.sha1hex('')
return redis.sha1hex()
return redis.sha1hex(12)
return redis.log(1)
return redis.log(10,'x')
return redis.log('a','x')
return redis.setresp(4)
return redis.setresp()
return {redis.set_repl(9)}
return {redis.set_repl(3)}
return redis.acl_check_cmd('foo')
return redis.acl_check_cmd('get','x')
return {1,2.9,-3.5,'x',false,true,nil,4}
return 1e300
return 0/0
return -1e300
return redis.call('echo', 1e20)
return redis.call('echo', 12345678901234567890)
return redis.call('echo', 0.1)
return redis.call('echo', 3.0)
return redis.call('echo', -0.5)
return {double=1.5}
return {double=3}
return {map={a=1}}
return {set={a=1}}
return {big_number='12'}
return {verbatim_string={format='txt',string='ab'}}
redis.setresp(3) return {true,false}
redis.setresp(3) redis.call('del','h') redis.call('hset','h','a',1) return redis.call('hgetall','h')
redis.setresp(3) redis.call('del','h') redis.call('hset','h','a',1) return cjson.encode(redis.call('hgetall','h'))
redis.setresp(3) redis.call('del','s') redis.call('sadd','s','a') return redis.call('smembers','s')
redis.setresp(3) redis.call('del','z') redis.call('zadd','z',1.5,'a') return redis.call('zscore','z','a')
redis.call('del','z') redis.call('zadd','z',1.5,'a') return redis.call('zscore','z','a')
redis.setresp(3) return redis.call('get','nokey')
redis.setresp(3) return redis.call('get','nokey') == nil
return redis.call('get','nokey') == false
return redis.call('set','a','1')
return redis.call('set','a','1').ok
return redis.call('get')
return redis.call('eval','return 1',0)
return redis.call('object','foo')
return {loadstring(string.dump(function() return 1 end))} ~= nil
local function f() return f() + 1 end return pcall(f)
return string.rep('x')
return {pcall(error)}
return {pcall(error,'x')}
return {pcall(error,{err='x'})}
return {xpcall(function() error('x') end, function(e) return 'H'..e end)}
return tostring(1e15)
return {KEYS[1] or 'none', #ARGV}
return ipairs(nil)
return cjson.encode({})
return cjson.encode({1,2,3})
return cjson.encode({1,nil,3})
return cjson.encode({[1]=1,[100]=2})
return cjson.encode({a=1})
return cjson.encode({a={b={1,2,{c='x'}}}})
return cjson.encode('a"b\\c/d\n\t\1\127')
return cjson.encode(0.1)
return cjson.encode(1/3)
return cjson.encode(1e20)
return cjson.encode(1234567890123456)
return cjson.encode(0/0)
return cjson.encode(1/0)
return cjson.encode(cjson.null)
return cjson.encode(print)
return cjson.encode(function() end)
return cjson.encode({[true]=1})
return cjson.encode({[1.5]=1})
return cjson.encode()
return cjson.encode(1,2)
local t={} for i=1,1001 do t={t} end return cjson.encode(t)
return cjson.decode('[1,2,{"a":null}]')
return tostring(cjson.decode('[null]')[1])
return cjson.decode('{"a":1')
return cjson.decode('{"a" 1}')
return cjson.decode('{1:1}')
return cjson.decode('[1 2]')
return cjson.decode('[1,')
return cjson.decode('"abc')
return cjson.decode('"\\x"')
return cjson.decode('"\\u00"')
return cjson.decode('"\\ud83d\\ude00 \\u00e9"')
return cjson.decode('nope')
return cjson.decode('1 x')
return cjson.decode('')
return cjson.decode('01')
return tostring(cjson.decode('0x10'))
return tostring(cjson.decode('1e3'))
return tostring(cjson.decode('-inf'))
return cjson.decode({})
return cjson.decode()
return cjson.decode(string.rep('[',1001)..string.rep(']',1001))
return #cjson.decode(string.rep('[',1000)..string.rep(']',1000))
return {cjson.encode_sparse_array()}
return {cjson.encode_max_depth()}
return {cjson.encode_number_precision()}
return {cjson.encode_sparse_array(true,2,10) and cjson.encode({[1]=1,[100]=2})}
return cjson.encode_max_depth(0)
return {cmsgpack.unpack(cmsgpack.pack(1,-1,300,70000,5e9,-40,-300,-70000,-5e9,'abc',true,false,nil))}
return cmsgpack.pack({1,2,3})
return cmsgpack.pack({a=1})
return cmsgpack.pack(1.5)
return cmsgpack.pack(0.1)
return cmsgpack.pack({})
return cmsgpack.pack()
return cmsgpack.unpack('\145')
return cmsgpack.unpack('\193')
return {cmsgpack.unpack_one(cmsgpack.pack(1,2,3))}
return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2)}
return {cmsgpack.unpack_limit(cmsgpack.pack(1,2,3),2,1)}
return {cmsgpack.unpack_one('abc',10)}
return {cmsgpack.unpack_one('abc',-1)}
return cmsgpack.pack(string.rep('x',40))
return cmsgpack.pack({{{{{{{{{{{{{{{{{{1}}}}}}}}}}}}}}}}}})
return struct.pack('HH',1,2)
return struct.pack('>I4i8d',1,-2,1.5)
return struct.pack('!4bi',1,2)
return struct.pack('s','abc')
return struct.pack('c5','abc')
return struct.pack('c2','abc')
return {struct.unpack('>I2s',struct.pack('>I2s',5,'xyz'))}
return {struct.unpack('I4','ab')}
return {struct.unpack('<i3','\255\255\255')}
return struct.size('!8bd')
return struct.size('s')
return struct.pack('z',1)
return struct.pack('i99',1)
return {struct.unpack('Bc0','\3abcd')}
return bit.band(0xff,0x0f)
return bit.bnot(0)
return bit.tohex(255)
return bit.tohex(255,-4)
return bit.lshift(1,31)
return bit.arshift(-8,1)
return bit.bxor(1,2,4)
return bit.band()
return bit.rol(0x12345678,8)
return bit.bswap(0x12345678)
return bit.tobit(2^32+5)
return bit.tobit('x')
return math.random(0)
return tonumber('0x10')
return #table.concat({1,2,3},',')
return redis.call('zrange','z',0,-1,'withscores')
return redis.call('type','z')
return {redis.call('exists','nokey'), 5}
redis.call('select',3) redis.call('set','in3','1') return 1
return redis.call('exists','in3')
for i=1,3 do redis.call('incr','ctr') end return redis.call('get','ctr')
return redis.call('hgetall','h')
return string.format('%5.1f|%s',1.25,'a')
local t = {} t[1]=t return #t
return unpack({1,2,3})
return #redis.call('keys','*') > 0
return redis.REDIS_VERSION_NUM > 0
return gcinfo() > 0
return load(function() return nil end)()
return loadstring('return 7')()
return loadstring('y = 7')()
return _G.redis == redis
return rawget(_G,'nope') == nil
for k in pairs(redis) do if k == 'call' then return 1 end end return 0
return next({}) == nil
return tostring(setmetatable({},{__tostring=function() return 'T' end}))
return redis.call('evalsha','x',0)
error('a\255b\r\nc\0d')
error({err='\255x\r\ny'})
error({err='x\0y'})
error({err='NOCODE'})
error({err='\255 x', source='\255', line=3})
return redis.error_reply('\255\0 x')
return redis.error_reply('\r\n a\r\n')
return redis.error_reply('-\255 a\r\nb\r\n')
return redis.error_reply('')
return redis.error_reply('-')
return {err='\r\n\r\nfoo\nbar\r'}
return {err=''}
return {err='-foo bar'}
return {{err='\255\0z'},{ok='\255\0z'}}
return {ok='\255\r\n\0x'}
return redis.status_reply('\255\r\na')
redis.call('expire','k',1,'\255\r\n\0x')
return redis.pcall('expire','k',1,'\255\r\nx\0').err
local ok,e = pcall(redis.call,'expire','k',1,'\255') return {type(e), e}
return {pcall(error,{err='\255'})}
return {xpcall(function() error('\255') end, function(e) return e end)}
local t={} t['\255'].x=1
return _G['\255x']
return loadstring('error("z")', '\255name')()
return loadstring('error("z")', '=\255\r\nname')()
return loadstring('\255')
return struct.pack('\255',1)
return cjson.encode_sparse_array('\255')
local r={} for k,v in pairs(cmsgpack) do r[#r+1]=k..'='..(type(v)=='function' and 'f' or tostring(v)) end table.sort(r) return r
local r={} for k in pairs(struct) do r[#r+1]=k end table.sort(r) return r
local r={} for k in pairs(bit) do r[#r+1]=k end table.sort(r) return r
local t={} t[1]=t return cmsgpack.pack(t)
local t={} t.t=t return cmsgpack.pack(t)
local t={1} for i=1,16 do t={a=t} end return cmsgpack.pack(t)
local t={} for i=1,70000 do t[i]=1 end return string.sub(cmsgpack.pack(t),1,8)
return string.sub(cmsgpack.pack(string.rep('x',65536)),1,6)
return select('#',cmsgpack.unpack(string.rep('\1',7000)))
return select('#',cmsgpack.unpack(string.rep('\1',9000)))
return type(cmsgpack.unpack(string.rep('\145',3998)..'\144'))
return type(cmsgpack.unpack(string.rep('\145',3999)..'\144'))
return type(cmsgpack.unpack(string.rep('\129\1',3998)..'\144'))
return cmsgpack.unpack('\129\192\1')
return cmsgpack.unpack('\129\192')
return {pcall(cmsgpack.unpack,'\129\203\127\248\0\0\0\0\0\0\1')}
return {cmsgpack.unpack('\207\255\255\255\255\255\255\255\255')}
return {cmsgpack.unpack('\1\2',-1)}
return {cmsgpack.unpack(12)}
return cmsgpack.unpack('')
return {cmsgpack.unpack_one('\1\2','1')}
return {cmsgpack.unpack_one('\1\2','x')}
return {cmsgpack.unpack_one('\1\2',2^32+1)}
return {cmsgpack.unpack_one('\1\2',-1e300)}
return {cmsgpack.unpack_limit('\1\2\3',0)}
return {cmsgpack.unpack_limit('\1\2\3',0,1)}
return {cmsgpack.unpack_limit('\1\2\3',-1)}
return {cmsgpack.unpack_limit('\1\2\3',2^40)}
return {cmsgpack.unpack_limit('\1\2\3',1,2^40+1)}
return {cmsgpack.unpack_limit('\1\2\3',0/0)}
return cmsgpack.unpack_limit()
return cmsgpack.unpack_limit({},'x',3)
return cmsgpack.unpack_limit({},1,{})
return cmsgpack.unpack_limit({},1,2)
return cmsgpack.unpack_one({},{})
return {pcall(cmsgpack.pack)}
return {pcall(cmsgpack.unpack)}
"""

COMMANDS = [
    ("EVAL", "return 1"),
    ("EVAL", "return 1", "a"),
    ("EVAL", "return 1", "-1"),
    ("EVAL", "return 1", "2", "a"),
    ("EVALSHA", "abc", "0"),
    ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"),
    ("SCRIPT", "KILL"),
    ("SCRIPT", "FOO"),
    ("SCRIPT", "LOAD"),
    ("SCRIPT", "EXISTS"),
    ("SCRIPT", "DEBUG", "maybe"),
    ("SCRIPT", "FLUSH", "x"),
    ("SCRIPT", "LOAD", "return a b"),
    ("SCRIPT", "LOAD", "return 5"),
    ("SCRIPT", "EXISTS", "4ca238f611c9d0ae4e9a75a5dbac22aedc1e44a7", "x"),
    ("EVALSHA", "4CA238F611C9D0AE4E9A75A5DBAC22AEDC1E44A7", "0"),
    ("EVAL", "#!lua flags=no-writes\nreturn redis.call('set','x','1')", "0"),
    ("EVAL", "#!lua flags=foo\nreturn 1", "0"),
    ("EVAL", "#!lua name=foo\nreturn 1", "0"),
    ("EVAL", "#!js\nreturn 1", "0"),
    ("EVAL", "#!lua", "0"),
    ("EVAL", "#!lua\nreturn 1", "0"),
    ("EVAL_RO", "return redis.call('set','x','1')", "0"),
    ("EVAL_RO", "#!lua\nreturn 1", "0"),
    ("EVAL_RO", "return redis.call('get','ctr')", "0"),
    ("EVAL_RO", "return redis.call('publish','x','1')", "0"),
    ("EVAL", "return {KEYS[1],KEYS[2],ARGV[1],#KEYS,#ARGV}", "2", "a", "b", "c", "d"),
    ("COMMAND", "GETKEYS", "EVAL", "x", "2", "a", "b", "c"),
    ("COMMAND", "GETKEYS", "EVAL", "x", "0"),
    ("SCRIPT", "FLUSH", "SYNC"),
    ("SCRIPT", "EXISTS", "4ca238f611c9d0ae4e9a75a5dbac22aedc1e44a7"),
    ("MULTI",),
    ("EVAL", "redis.call('set','m',1) return redis.call('get','m')", "0"),
    ("EXEC",),
    ("EVAL", b"return \xff", "0"),
    ("EVAL", b"return \xff\0abc", "0"),
    ("EVAL", b"return cjson.decode('{\"\xff')", "0"),
    ("EVAL", b"#!lua flags=\xff\nreturn 1", "0"),
    ("EVAL", b"#!lua \xff\nreturn 1", "0"),
    ("EVAL", b"#!\xff\nreturn 1", "0"),
    ("OBJECT", b"f\xff\0o", "k"),
    (b"fo\xffo\r\n", b"a\xff\r\nb\0c", b"d"),
    ("EXPIRE", "k", "1", b"\xff\r\n\0"),
    ("XGROUP", "SETID", b"s\xff", b"g", "$"),
    ("XREADGROUP", "GROUP", b"g\xff\0", "c", "STREAMS", b"s\xff", ">"),
    ("FUNCTION", "LOAD", b"#!lu\xffa name=x\nreturn"),
    ("FUNCTION", "LOAD", b"#!lua name=x b\xff\nreturn 1"),
    ("FUNCTION", "LOAD", b"#!lua name=x\xff\nreturn 1"),
    ("FUNCTION", "LOAD", b"#!lua name=x\nreturn \xff"),
    ("FUNCTION", "LOAD", b"x\xff", b"y"),
    ("FUNCTION", "LIST", b"\xff"),
    (
        "FUNCTION",
        "LOAD",
        "#!lua name=odd\nlocal r = redis.register_function\nr('odd_f', function() error('\\255\\r\\n\\0x') end)\n"
        "r('odd_g', function() error({err='\\255\\r\\n\\0x'}) end)\n"
        "r('odd_h', function() return redis.call('expire','k',1,'\\255') end)\n"
        "r('odd_i', function() return redis.pcall('expire','k',1,'\\255\\n') end)",
    ),
    ("FCALL", "odd_f", "0"),
    ("FCALL", "odd_g", "0"),
    ("FCALL", "odd_h", "0"),
    ("FCALL", "odd_i", "0"),
    ("FCALL", b"\xff", "0"),
    ("FUNCTION", "DELETE", "odd"),
]

# What random scripts are put together from: expressions, and wrappers around one.
ATOMS = [
    "1", "-1.5", "2^53", "1e100", "0.1", "'x'", "'a\\\"/b'", "''", "true", "false", "nil", "{}", "{1,2,3}", "{1,nil,3}", "{a=1}",
    "{[1]='x',[2]='y'}", "cjson.null", "KEYS[1]", "ARGV[1]", "#ARGV", "redis.call('get',KEYS[1])", "redis.call('incr','n')",
    "redis.pcall('lpush',KEYS[1],1)", "redis.call('type',KEYS[1])", "redis.error_reply('E x')", "{ok='fine'}", "{err='bad'}",
]
WRAPPERS = [
    "cjson.encode(%s)", "cjson.decode(cjson.encode(%s))", "cmsgpack.unpack(cmsgpack.pack(%s))", "cmsgpack.pack(%s)",
    "{%s, 1}", "type(%s)", "(select('#', %s))", "cjson.decode(%s)", "struct.pack('>I2s', 7, %s)", "bit.bxor(%s, 5)",
    "redis.sha1hex(%s)", "redis.call('set', KEYS[1], %s)", "redis.call('echo', %s)", "tonumber(%s)", "{pcall(cjson.decode, %s)}",
    "bit.tohex(%s)", "math.floor(%s)", "string.rep(%s, 2)", "{cmsgpack.unpack(%s)}",
]


# Calls `%s` with the arguments and shows everything that comes of it, tables in the order of their keys.
SHOWN = """
local function show(v, depth)
  local kind = type(v)
  if kind == 'table' then
    if depth > 20 then return '..' end
    local out = {}
    for k, x in pairs(v) do out[#out + 1] = show(k, depth + 1) .. '=' .. show(x, depth + 1) end
    table.sort(out)
    return '{' .. table.concat(out, ',') .. '}'
  end
  if kind == 'number' then return string.format('%%.17g', v) end
  return (kind == 'userdata' or kind == 'function') and kind or kind .. tostring(v)
end
local function all(...)
  local out = {}
  for i = 1, select('#', ...) do out[i] = show((select(i, ...)), 0) end
  return out
end
return all(%s)"""

NUMBERS = [
    "0", "1", "-1", "127", "128", "255", "256", "65535", "65536", "2^31", "2^32-1", "2^32", "2^53", "2^53+1", "2^63", "2^63-1024", "2^64",
    "-32", "-33", "-128", "-129", "-32768", "-32769", "-2^31", "-2^31-1", "-2^63", "-2^63-2048", "-2^64", "1e300", "-1e300", "1/0", "-1/0",
    "0/0", "0.5", "-0.5", "1.5", "2.5", "0.1", "1e-300", "1e39", "3.4028234663852886e38", "1e-45", "16777217.5", "1e15+0.3", "'12'", "'0x10'", "' 7 '",
]
STRINGS = ["''", "'a'", "'a\\0b'", "'\\255\\254'", "'1'", "'\\n\\\"\\\\/\\127'", "string.rep('x',31)", "string.rep('x',32)", "string.rep('x',300)", "'\\195\\188'"]
OTHERS = ["true", "false", "nil", "cjson.null", "{}", "function() end", "redis.call"]
HEADS = [0x80, 0x81, 0x82, 0x90, 0x91, 0x92, 0xA0, 0xA1, 0xA3, *range(0xC0, 0xE0), 0xFF, 0, 1, 0x7F]
FIELDS = ["b", "B", "h", "H", "i", "I", "l", "L", "T", "f", "d", "s", "x", "c0", "c1", "c3", "i1", "i2", "i3", "I5", "i8", "I16", "i33", "!", "!4", "!3", "<", ">", " ", "z", "="]
BITS = ["tobit", "bnot", "bswap", "band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "tohex"]


def random_value(draw, depth=0):
    kind = draw.randrange(5 if depth < 4 else 3)
    if kind == 0:
        return draw.choice(STRINGS)
    if kind == 1:
        return draw.choice(OTHERS)
    if kind == 2:
        return draw.choice(NUMBERS)
    items = [random_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 3:
        return "{" + ",".join(items) + "}"
    keys = ["[1]", "[2]", "[3]", "[0]", "[-1]", "[1.5]", "[2^40]", "[true]", "['1']", "['a']", "['b\\0']", "a"]
    return "{" + ",".join(f"{key}={item}" for key, item in zip(draw.sample(keys, len(items)), items)) + "}"


def random_call(draw):
    """A call of a library with anything."""
    values = [random_value(draw) for _ in range(draw.randrange(4))]
    kind = draw.randrange(8)
    if kind == 0:
        return "pcall(cmsgpack.pack" + "".join(f", {value}" for value in values) + ")"
    if kind == 1:
        return "cmsgpack.unpack(cmsgpack.pack(" + ", ".join(values or ["nil"]) + "))"
    if kind in (2, 3):
        head = [draw.choice(HEADS) for _ in range(draw.randrange(1, 5))]
        tail = [draw.choice([0, 1, 2, 0x61, 0x7F, 0x80, 0xFF]) for _ in range(draw.randrange(12))]
        packed = "".join(f"\\{byte:03d}" for byte in head + tail)
        which = draw.choice(["unpack", "unpack", "unpack_one", "unpack_limit"])
        rest = "".join(f", {draw.choice(NUMBERS[:3] + ['2', '3', 'nil'])}" for _ in range(draw.randrange(3))) if which != "unpack" else ""
        return draw.choice(["cmsgpack.%s('%s'%s)", "pcall(cmsgpack.%s, '%s'%s)"]) % (which, packed, rest)
    if kind == 4:
        layout = "".join(draw.choice(FIELDS) for _ in range(draw.randrange(4)))
        values = [draw.choice(NUMBERS + STRINGS) if draw.randrange(8) else value for value in values]
        return f"struct.pack('{layout}'" + "".join(f", {value}" for value in values) + ")"
    if kind == 5:
        layout = "".join(draw.choice(FIELDS) for _ in range(draw.randrange(4)))
        data = "".join(f"\\{draw.choice([0, 1, 3, 0x61, 0x7F, 0x80, 0xFF]):03d}" for _ in range(draw.randrange(40)))
        at = draw.choice(["", "", ", 1", ", 2", ", 100", ", 0", ", -1", ", 'x'"])
        return draw.choice([f"struct.unpack('{layout}', '{data}'{at})", f"struct.size('{layout}')"])
    if kind == 6:
        numbers = [draw.choice(NUMBERS) if draw.randrange(10) else value for value in (values + ["1"])[:3]]
        return f"bit.{draw.choice(BITS)}({', '.join(numbers)})"
    return draw.choice(["cjson.encode(%s)", "cjson.decode(cjson.encode(%s))", "pcall(cjson.encode, %s)"]) % random_value(draw)


def random_script(draw):
    text = draw.choice(ATOMS)
    for _ in range(draw.randrange(4)):
        text = draw.choice(WRAPPERS).replace("%s", text, 1)
    return "return " + text


def run(theirs, ours, seed, count=1_000):
    """Plays all scripts, then `count` random ones; whether every reply was the same."""
    draw = random.Random(seed)
    requests = [("EVAL", script, "0") for script in SCRIPTS.strip("\n").split("\n")] + COMMANDS
    requests += [("EVAL", random_script(draw), "1", "k", draw.choice(["v", "12", "[1]"])) for _ in range(count)]
    requests += [("EVAL", SHOWN % random_call(draw), "0") for _ in range(4 * count)]
    for request in requests:
        a, b = theirs.call(*request), ours.call(*request)
        if repr(a) != repr(b):
            print(f"script {request}\n  redis:    {a!r}\n  mainstay: {b!r}")
            return False
    print(f"{len(requests)} scripts, replies: same")
    return True
