// A user of the Redis door for each app: what it may not do is refused, and it is there after a kill.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Redis } from 'ioredis';
import { createClient } from 'redis';

import { onPile } from './support/backend.mjs';
import { folder } from './support/folder.mjs';
import { startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

test('an app of its own user sees its own keys', { skip: onPile && 'proves Mainstay, not the pile' }, async (t) => {
  const data = folder(t);
  let server = await startMainstay({ data });
  undo(t, () => server.stop());
  const connect = (url) => {
    const redis = new Redis(url, { retryStrategy: null, lazyConnect: true });
    redis.on('error', () => {});
    undo(t, () => redis.disconnect());
    return redis;
  };
  const admin = connect(server.env.REDIS_URL);
  const password = await admin.acl('GENPASS');
  assert.match(password, /^[0-9a-f]{64}$/);
  await admin.acl('SETUSER', 'shop', 'on', `>${password}`, '~shop:*', '&shop:*', 'db=2', '+@all', '-@dangerous', '+info');
  assert.ok(!(await admin.acl('LIST')).join('\n').includes(password), 'a password is kept as a hash');
  await server.kill();
  server = await startMainstay({ data });

  const url = Object.assign(new URL(server.env.REDIS_URL), { username: 'shop', password }).href;
  const shop = connect(url);
  assert.equal(await shop.set('shop:1', 'x'), 'OK');
  await assert.rejects(shop.get('other'), /NOPERM No permissions to access a key/);
  await assert.rejects(shop.flushall(), /NOPERM User shop has no permissions to run the 'flushall' command/);
  await assert.rejects(shop.select(0), /NOPERM No permissions to access database 0/);
  await assert.rejects(shop.publish('other', 'x'), /NOPERM No permissions to access a channel/);
  const again = connect(server.env.REDIS_URL);
  assert.deepEqual([await again.exists('shop:1'), await again.select(2), await again.get('shop:1')], [0, 'OK', 'x']);

  const node = createClient({ url });
  node.on('error', () => {});
  await node.connect();
  undo(t, () => node.destroy());
  assert.equal(await node.get('shop:1'), 'x');
  const user = await again.acl('GETUSER', 'shop');
  assert.equal(user[user.indexOf('keys') + 1], '~shop:*');
  await again.acl('DELUSER', 'shop');
  await assert.rejects(connect(url).get('shop:1'), /WRONGPASS/);
});
