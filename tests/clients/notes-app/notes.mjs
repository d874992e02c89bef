// Notes: a hash each, and one sorted set a user that lists them newest first.

export function notesStore(redis) {
  const noteKey = (id) => `note:${id}`;
  const listKey = (user) => `notes:${user}`;

  async function owned(user, id) {
    const note = await redis.hgetall(noteKey(id));
    return note.owner === user ? present(id, note) : undefined;
  }

  return {
    owned,

    async create(user, { title, text }) {
      const id = String(await redis.incr('notes:next'));
      const created = Date.now();
      await run(
        redis.multi().hset(noteKey(id), { owner: user, title, text, created, edits: 0 }).zadd(listKey(user), created, id),
      );
      return owned(user, id);
    },

    async list(user, { from = 0, count = 20 } = {}) {
      const ids = await redis.zrevrange(listKey(user), from, from + count - 1);
      const notes = await Promise.all(ids.map((id) => owned(user, id)));
      return notes.filter(Boolean);
    },

    async change(user, id, { title, text }) {
      if (!(await owned(user, id))) return undefined;
      await run(redis.multi().hset(noteKey(id), { title, text }).hincrby(noteKey(id), 'edits', 1));
      return owned(user, id);
    },

    async remove(user, id) {
      if (!(await owned(user, id))) return false;
      await run(redis.multi().del(noteKey(id)).zrem(listKey(user), id));
      return true;
    },
  };
}

function present(id, { owner, title, text, created, edits }) {
  return { id, owner, title, text, created: Number(created), edits: Number(edits) };
}

async function run(transaction) {
  for (const [error] of await transaction.exec()) if (error) throw error;
}
