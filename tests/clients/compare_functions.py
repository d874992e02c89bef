"""Libraries of functions: the same commands to Redis and to Mainstay, every reply compared."""

LIBRARY = """#!lua name=first
local calls = 0
local function shout(keys, args) return string.upper(args[1] or 'nothing') end
redis.register_function('shout', shout)
redis.register_function('fails', function() error('boom') end)
redis.register_function('fails_twice', function() return redis.call('incr') end)
redis.register_function('counts', function() calls = calls + 1 return calls end)
redis.register_function('both', function(keys, args) return {keys, args, #keys, #args} end)
redis.register_function('writes', function(keys) return redis.call('set', keys[1], 'w') end)
redis.register_function{function_name='reads', callback=function(keys) return redis.call('get', keys[1]) end,
  flags={'no-writes', 'allow-stale'}, description='reads a key'}
redis.register_function{function_name='lies', callback=function(keys) return redis.call('set', keys[1], 1) end, flags={'no-writes'}}
redis.register_function('keys_global', function() return KEYS end)
redis.register_function('sets_global', function() x = 1 end)
redis.register_function('own_error', function() return redis.error_reply('MY error') end)
redis.register_function('late', function() return redis.register_function('z', shout) end)
local api = redis
redis.register_function('later', function() return api.register_function('z', shout) end)
redis.register_function('three', function() redis.setresp(3) return redis.call('hgetall', 'absent') end)
"""

# What a library of one line says.
LINES = """
redis.register_function('f',1)
redis.register_function('f')
redis.register_function()
redis.register_function(1,function() end)
redis.register_function('a b',function() end)
redis.register_function('',function() end)
redis.register_function{function_name='f'}
redis.register_function{callback=function() end}
redis.register_function{callback=1,function_name='f'}
redis.register_function{callback=function() end,function_name='f',flags=1}
redis.register_function{callback=function() end,function_name='f',flags={'x'}}
redis.register_function{callback=function() end,function_name='f',x=1}
redis.register_function{callback=function() end,function_name='f',[1]=1}
redis.register_function('f',function() end) redis.register_function('f',function() end)
redis.register_function('f',function() end,3)
redis.register_function('f','g')
redis.call('get','x')
redis.setresp(3)
x=1
return 1 +
return 1
""".strip().splitlines()

HEADS = [
    "return 1", "#!lua", "#!lua\n", "#!lua name\nx", "#!lua name=\nx", "#!lua name=a name=b\nx", "#!lua nam=a\nx",
    "#!lua name=a-b\nx", "#!js name=a\nx", "#!lua name=a  \nreturn 1", "#!lua NAME=a\nreturn 1", "#!LUA name=a\nreturn 1",
]

STEPS = [
    ["FUNCTION", "STATS"],
    ["FUNCTION", "LIST"],
    ["FCALL", "shout", "0"],
    ["FUNCTION", "LOAD", LIBRARY],
    ["FUNCTION", "LOAD", LIBRARY],
    ["FUNCTION", "LOAD", "REPLACE", LIBRARY],
    ["FUNCTION", "LOAD", "x", LIBRARY],
    ["FUNCTION", "LOAD"],
    ["FUNCTION", "LOAD", "#!lua name=second\nredis.register_function('SHOUT', function() end)"],
    ["FUNCTION", "LOAD", "#!lua name=second\nredis.register_function('other', function() return 2 end)"],
    ["FUNCTION", "LOAD", "#!lua name=Second\nredis.register_function('another', function() return 3 end)"],
    ["FCALL", "SHOUT", "0", "abc"],
    ["FCALL", "shout", "0"],
    ["FCALL", "fails", "0"],
    ["FCALL", "fails_twice", "0"],
    ["FCALL", "counts", "0"],
    ["FCALL", "counts", "0"],
    ["FCALL", "both", "2", "a", "b", "c"],
    ["FCALL", "both", "3", "a", "b"],
    ["FCALL", "both", "-1", "a"],
    ["FCALL", "both", "x", "a"],
    ["FCALL", "both"],
    ["FCALL", "writes", "1", "k"],
    ["FCALL_RO", "writes", "1", "k"],
    ["FCALL", "reads", "1", "k"],
    ["FCALL_RO", "reads", "1", "k"],
    ["FCALL", "lies", "1", "k"],
    ["FCALL", "keys_global", "0"],
    ["FCALL", "sets_global", "0"],
    ["FCALL", "own_error", "0"],
    ["FCALL", "late", "0"],
    ["FCALL", "later", "0"],
    ["FCALL", "three", "0"],
    ["FCALL", "absent", "0"],
    ["EVAL", "return redis.call('fcall', 'shout', 0)", "0"],
    ["EVAL", "return redis.call('function', 'list')", "0"],
    ["MULTI"],
    ["FCALL", "shout", "0", "inside"],
    ["EXEC"],
    ["SCRIPT", "FLUSH"],
    ["FCALL", "counts", "0"],
    ["FUNCTION", "STATS"],
    ["FUNCTION", "STATS", "x"],
    ["FUNCTION", "LIST", "LIBRARYNAME", "SEC*", "WITHCODE"],
    ["FUNCTION", "LIST", "WITHCODE"],
    ["FUNCTION", "LIST", "X"],
    ["FUNCTION", "LIST", "LIBRARYNAME"],
    ["FUNCTION", "LIST", "LIBRARYNAME", "q", "LIBRARYNAME", "p"],
    ["FUNCTION", "KILL"],
    ["FUNCTION", "X"],
    ["FUNCTION", "DELETE", "none"],
    ["FUNCTION", "DELETE"],
    ["FUNCTION", "FLUSH", "X"],
    ["FUNCTION", "RESTORE", "x"],
    ["FUNCTION", "RESTORE", "x", "Y"],
    ["FUNCTION", "DELETE", "Second"],
    ["FCALL", "another", "0"],
    ["COMMAND", "GETKEYS", "FCALL", "f", "2", "a", "b", "c"],
]


def plain(value):
    """Functions and flags come in no promised order."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "set":
        return ("set", sorted(value[1], key=repr))
    if isinstance(value, (list, tuple)):
        parts = [plain(part) for part in value]
        described = all(isinstance(part, list) and b"name" in repr(part).encode() for part in parts)
        return sorted(parts, key=repr) if described and len(parts) > 1 else parts
    return value


def run(theirs, ours):
    both = (theirs, ours)
    good, count = True, 0

    def step(*args):
        nonlocal good, count
        count += 1
        a, b = (link.call(*args) for link in both)
        # Which of the libraries that are there is met first follows no promised order.
        there = args[1:2] == ("RESTORE",) and all(str(reply).endswith("already exists") for reply in (a, b))
        if type(a) is not type(b) or plain(a) != plain(b) and not there:
            print(f"{args}:\n  redis:    {a!r}\n  mainstay: {b!r}")
            good = False

    step("FUNCTION", "FLUSH")
    for args in STEPS:
        step(*args)
    for line in LINES:
        step("FUNCTION", "LOAD", "REPLACE", "#!lua name=line\n" + line)
    for head in HEADS:
        step("FUNCTION", "LOAD", "REPLACE", head)
    # What one has dumped, both read.
    for link in both:
        payload = link.call("FUNCTION", "DUMP")
        for how in ["APPEND", "REPLACE", "FLUSH"]:
            step("FUNCTION", "RESTORE", payload, how)
        step("FUNCTION", "RESTORE", payload[:-1] + b"x", "FLUSH")
        step("FUNCTION", "FLUSH", "ASYNC")
        step("FUNCTION", "RESTORE", payload)
        step("FUNCTION", "LIST", "WITHCODE")
        step("FCALL", "shout", "0", "restored")
    step("FUNCTION", "FLUSH", "SYNC")
    step("FUNCTION", "LIST")
    if good:
        print(f"{count} steps with functions, replies: same")
    return good
