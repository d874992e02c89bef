-- The world a script sees, built once from the standard library and from what Rust gives in `native`.
--
-- Lua 5.1 knows no read-only tables. Each shared table is therefore shown by an empty stand-in whose metatable reads
-- from the real one and refuses to write; the functions that would go around a metatable know the stand-ins.
local native = ...

local error, next, pairs, rawget, rawset, select, setmetatable, tostring, type, loadstring, xpcall, pcall =
  error, next, pairs, rawget, rawset, select, setmetatable, tostring, type, loadstring, xpcall, pcall
local byte, concat, collectgarbage = string.byte, table.concat, collectgarbage

local READONLY = 'Attempt to modify a readonly table'
local BINARY = 'compiled chunks are not loaded'
local real_of = setmetatable({}, { __mode = 'k' })

local function refuse()
  error(READONLY, 2)
end

local function guard(real)
  local shown = setmetatable({}, { __index = real, __newindex = refuse, __metatable = false })
  real_of[shown] = real
  return shown
end

local function need_table(value, name)
  if type(value) ~= 'table' then
    local given = value == nil and 'nil' or type(value)
    error("bad argument #1 to '" .. name .. "' (table expected, got " .. given .. ')', 3)
  end
end

local globals = {
  _VERSION = _VERSION,
  assert = assert,
  error = error,
  gcinfo = gcinfo,
  getmetatable = getmetatable,
  ipairs = ipairs,
  rawequal = rawequal,
  select = select,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  unpack = unpack,
}

function globals.next(value, key)
  need_table(value, 'next')
  return next(real_of[value] or value, key)
end

function globals.pairs(value)
  need_table(value, 'pairs')
  local real = real_of[value]
  if real then
    return function(_, key) return next(real, key) end, value, nil
  end
  return next, value, nil
end

function globals.rawget(value, key)
  need_table(value, 'rawget')
  return rawget(real_of[value] or value, key)
end

function globals.rawset(value, key, item)
  need_table(value, 'rawset')
  if real_of[value] then error({ err = 'ERR ' .. READONLY }) end
  return rawset(value, key, item)
end

function globals.setmetatable(value, meta)
  need_table(value, 'setmetatable')
  if real_of[value] then error({ err = 'ERR ' .. READONLY }) end
  return setmetatable(value, meta)
end

-- What `pcall` shows of an error: the text of one raised by a command. The end of a script cannot be caught.
local function settle(ok, problem, ...)
  if ok then return ok, problem, ... end
  return ok, native.soften(problem)
end

function globals.pcall(...)
  return settle(pcall(...))
end

local function resettle(ok, ...)
  if not ok then native.check((...)) end
  return ok, ...
end

function globals.xpcall(work, handler)
  return resettle(xpcall(work, function(problem)
    if native.is_end(problem) then return problem end
    return handler(native.plain(problem))
  end))
end

function globals.collectgarbage(what, ...)
  if what == nil or what == 'collect' or what == 'count' or what == 'step' then
    return collectgarbage(what, ...)
  end
  return 0
end

-- Compiled chunks are not checked by the virtual machine and could do anything to it.
function globals.loadstring(text, name)
  if type(text) == 'string' and byte(text, 1) == 27 then return nil, BINARY end
  return loadstring(text, name or text)
end

function globals.load(piece, name)
  local pieces = {}
  while true do
    local text = piece()
    if text == nil or text == '' then break end
    pieces[#pieces + 1] = text
  end
  return globals.loadstring(concat(pieces), name or '=(load)')
end

local math_real = math
math_real.random, math_real.randomseed = native.random, native.randomseed

getmetatable('').__metatable = false

local redis = {}
for name, value in pairs(native.redis) do redis[name] = value end

redis.call, redis.pcall = native.call, native.pcall

-- What a library of functions has for `redis` while it is loaded.
local library = { register_function = native.register_function }
for name, value in pairs(redis) do
  if name == 'log' or byte(name, 1) < 97 then library[name] = value end
end

globals.string = guard(string)
globals.table = guard(table)
globals.math = guard(math_real)
globals.os = guard({ clock = os.clock })
globals.redis = guard(redis)
globals.cjson = guard(native.cjson)
globals.cmsgpack = guard(native.cmsgpack)
globals.struct = guard(native.struct)
globals.bit = guard(native.bit)

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

setmetatable(globals, { __index = missing })
setmetatable(library, { __index = missing })

local env = setmetatable({}, { __index = globals, __newindex = refuse, __metatable = false })
real_of[env] = globals
globals._G = env

local on_error = native.on_error

-- Compiled chunks and functions of libraries, by their place.
local chunks = {}

-- Runs the code of a library.
local function load(place)
  return xpcall(chunks[place], on_error)
end

-- What the server compiles, under a name of its own.
local function compile(text, name)
  if byte(text, 1) == 27 then return nil, BINARY end
  return loadstring(text, name)
end

return env, globals, chunks, { compile = compile, load = load, on_error = on_error, library = guard(library) }
