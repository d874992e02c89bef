// A sliding-window rate limiter and a counter of failed log-ins, both in Redis.

import { randomUUID } from 'node:crypto';

/** Lets `limit` calls a key through in any `windowMs`; says how long to wait otherwise. */
export function slidingWindow(redis, { name, limit, windowMs }) {
  return async function take(key) {
    const id = `limit:${name}:${key}`;
    const now = Date.now();
    const member = `${now}:${randomUUID()}`;
    const replies = await redis
      .multi()
      .zremrangebyscore(id, 0, now - windowMs)
      .zcard(id)
      .zrange(id, 0, 0, 'WITHSCORES')
      .zadd(id, now, member)
      .expire(id, Math.ceil(windowMs / 1000))
      .exec();
    const failed = replies.find(([error]) => error);
    if (failed) throw failed[0];
    const [, [, before], [, oldest]] = replies;
    if (before < limit) return { allowed: true, remaining: limit - before - 1, retryAfterMs: 0 };
    await redis.zrem(id, member);
    // [member, score] over RESP2, [[member, score]] over RESP3.
    const [, oldestAt] = oldest.flat();
    return { allowed: false, remaining: 0, retryAfterMs: Math.max(0, Number(oldestAt) + windowMs - now) };
  };
}

/** Express middleware around a limiter, by client address. */
export function limited(take) {
  return async (request, response, next) => {
    const verdict = await take(request.ip);
    response.set('X-RateLimit-Remaining', String(verdict.remaining));
    if (verdict.allowed) return next();
    response.set('Retry-After', String(Math.ceil(verdict.retryAfterMs / 1000)));
    return response.status(429).json({ error: 'too many requests' });
  };
}

/** Counts failed attempts a key; the count forgets itself `seconds` after the first failure. */
export function failedAttempts(redis, { limit, seconds }) {
  const id = (key) => `login:failed:${key}`;
  return {
    async locked(key) {
      return Number((await redis.get(id(key))) ?? 0) >= limit;
    },
    async failed(key) {
      const count = await redis.incr(id(key));
      if (count === 1) await redis.expire(id(key), seconds);
      return count;
    },
    async succeeded(key) {
      await redis.del(id(key));
    },
    async all() {
      const keys = await redis.keys(id('*'));
      const counts = await Promise.all(keys.map((key) => redis.get(key)));
      return Object.fromEntries(keys.map((key, at) => [key.slice(id('').length), Number(counts[at])]));
    },
  };
}
