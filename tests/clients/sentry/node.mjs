// What an app does with @sentry/node, in the version its argument names. Prints the ids of the events it sent.

const [, , name] = process.argv;
const Sentry = await import(name);

Sentry.init({ dsn: process.env.SENTRY_DSN, release: 'shop@1.2.3', environment: 'staging', serverName: 'web-1' });
Sentry.setUser({ id: '7', email: 'ada@example.com' });
Sentry.setTag('role', 'checkout');
Sentry.addBreadcrumb({ category: 'cart', message: 'added a teapot', data: { price: 12 } });

function loadUser(id) {
  throw new Error(`no user ${id} in ${name}`);
}

function saveUser(id) {
  throw new Error(`no user ${id} in ${name}`);
}

function capture(work, ...hint) {
  try {
    return work();
  } catch (error) {
    return Sentry.captureException(error, ...hint);
  }
}

const users = [17, '3fa85f64-5717-4562-b3fc-2c963f66afa6'];
const ids = [
  ...users.map((id) => capture(() => loadUser(id))),
  capture(() => saveUser(17)),
  capture(() => loadUser(1), { fingerprint: ['the database', name] }),
  capture(() => saveUser(2), { fingerprint: ['the database', name] }),
  capture(() => {
    throw new Error(`wrapped in ${name}`, { cause: new TypeError('the cause') });
  }),
  Sentry.captureMessage(`order 4711 is late in ${name}`),
  // Above 32 KiB the SDK compresses.
  Sentry.captureMessage(`a large one in ${name}`, { extra: { text: 'long '.repeat(10_000), password: 'hunter2' } }),
];
if (!(await Sentry.flush(20_000))) throw new Error('not everything was sent');
console.log(JSON.stringify(ids));
