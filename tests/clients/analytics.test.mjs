// Pages counted at the edge, by a real browser: what it asks for, where it came from, and what the site's script measures.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';

import { onPile } from './support/backend.mjs';
import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const skip = onPile && 'the edge is Mainstay only';

// A headless browser names itself a program; a person's does not.
const PERSON = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36';

const SHOP = 'shop.localhost';

/** What the app answers at a path of the shop; `news` is another site's page that leads there. */
function pages(port) {
  const page = (title, body) =>
    `<!doctype html><html lang="en"><title>${title}</title><script defer src="/.mainstay/vitals.js" data-views></script><h1>${title}</h1>${body}`;
  return {
    '/': page('Shop', '<a href="/second">second</a><script src="/app.js"></script>'),
    '/second': page('Second', '<button>press</button>'),
    '/news': `<!doctype html><html lang="en"><title>News</title><a href="https://${SHOP}:${port}/?utm_source=letter&amp;utm_campaign=spring&amp;token=secret">shop</a>`,
  };
}

/** A server with a shop that is counted and a site with news that is not, and browsers for it. */
async function start(t, security = 'standard') {
  let port = 0;
  const app = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://app');
    if (pathname === '/app.js') return response.setHeader('content-type', 'text/javascript').end('void 0;');
    const body = pages(port)[pathname];
    response.writeHead(body ? 200 : 404, { 'content-type': 'text/html; charset=utf-8' }).end(body ?? '<h1>no</h1>');
  });
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  undo(t, () => {
    app.close();
    app.closeAllConnections();
  });
  const file = join(folder(t), 'mainstay.toml');
  const upstream = `upstream = "127.0.0.1:${app.address().port}"\n`;
  writeFileSync(
    file,
    `[[edge.sites]]\nhosts = ["${SHOP}"]\n${upstream}analytics = true\nsecurity = "${security}"\n[[edge.sites]]\nhosts = ["news.localhost"]\n${upstream}`,
  );
  const data = join(folder(t), 'data');
  const flags = ['--config', file];
  const server = await startMainstay({ data, flags });
  undo(t, () => server.stop());
  port = server.ports.https;
  const browse = (options = {}) => startChromium(t, server, { agent: PERSON, ...options });
  return { server, data, flags, browse, shop: `https://${SHOP}:${port}`, news: `https://news.localhost:${port}/news` };
}

/** What is told of the shop, once it is as `wanted`. */
async function report({ env }, wanted = () => true) {
  let found;
  for (let tries = 0; tries < 500; tries += 1) {
    const response = await fetch(`${env.MAINSTAY_URL}/v1/sites/${SHOP}/analytics`, {
      headers: { authorization: `Bearer ${env.MAINSTAY_API_TOKEN}` },
    });
    assert.equal(response.status, 200);
    found = await response.json();
    if (wanted(found)) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  assert.fail(JSON.stringify({ ...found, days: undefined }));
}

/** Returns once the browser has measured what it shows. */
const painted = (page) =>
  page.evaluate(() => new Promise((done) => new PerformanceObserver(() => done()).observe({ type: 'largest-contentful-paint', buffered: true })));

const named = ({ items }) => Object.fromEntries(items.map(({ name, count }) => [name, count]));
const metric = ({ vitals }, name) => vitals.find((one) => one.metric === name);

test('a browser that comes from elsewhere and reads two pages is one visitor with two views', { skip }, async (t) => {
  const { server, data, flags, browse, shop, news } = await start(t, 'strict');
  const browser = await browse();
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  await page.goto(news);
  await page.click('a');
  await page.waitForURL(`${shop}/?*`);
  await painted(page);
  await page.click('a');
  await page.waitForURL(`${shop}/second`);
  await painted(page);
  await page.click('button');
  await page.evaluate(() => history.pushState({}, '', '/third?x=secret'));
  await page.goto(`${shop}/gone`);
  assert.ok(complaints.every((text) => text.includes('404')), complaints.join('\n'));
  const found = await report(server, (now) => now.views === 3 && metric(now, 'LCP').good >= 2 && named(now.missing)['/gone']);
  assert.deepEqual([found.visits, found.visitors], [1, 1]);
  assert.deepEqual(named(found.pages), { '/': 1, '/second': 1, '/third': 1 });
  assert.deepEqual(named(found.referrers), { 'news.localhost': 1 }, 'the host alone');
  assert.deepEqual([named(found.sources), named(found.campaigns)], [{ letter: 1 }, { spring: 1 }]);
  assert.deepEqual([named(found.browsers), named(found.systems), named(found.devices)], [{ Chrome: 3 }, { Linux: 3 }, { desktop: 3 }]);
  for (const name of ['LCP', 'FCP', 'TTFB', 'CLS']) {
    const { p75, rating } = metric(found, name);
    assert.ok(p75 >= 0 && rating, name);
  }
  assert.equal(metric(found, 'CLS').rating, 'good');
  assert.ok(found.by_page.some(({ page: path }) => path === '/second'));
  assert.ok(!JSON.stringify(found).includes('secret'));

  const shown = await command(data, ['analytics', SHOP, '--days', '7']);
  assert.match(shown.stdout, /^shop\.localhost\/ +3 views +1 visits +1 visitors\n/);
  assert.match(shown.stdout, /\n +1 {2}news\.localhost\n/);
  assert.match((await command(data, ['analytics'])).stdout, /^shop\.localhost\/ +3 views/);
  assert.equal((await command(data, ['analytics', 'other.localhost'])).code, 1);

  await server.stop();
  const again = await startMainstay({ data, flags });
  undo(t, () => again.stop());
  const after = await report(again);
  assert.deepEqual([after.views, after.visitors, named(after.pages)], [3, 1, named(found.pages)], 'a stop loses nothing');
});

test('who asks not to be tracked is no visitor, and programs are not counted', { skip }, async (t) => {
  const { server, browse, shop } = await start(t);
  const quiet = await browse({ extraHTTPHeaders: { 'sec-gpc': '1' } });
  await (await quiet.newPage()).goto(`${shop}/`);
  const program = await browse({ agent: undefined });
  await (await program.newPage()).goto(`${shop}/second`);
  const person = await browse();
  const page = await person.newPage();
  await page.goto(`${shop}/`);
  const found = await report(server, (now) => now.views === 2);
  assert.deepEqual([found.visitors, named(found.pages)], [1, { '/': 2 }]);
  assert.deepEqual(await person.cookies(), []);
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length), 0);
});

test('a page of another site cannot send, and what is not understood is refused', { skip }, async (t) => {
  const { server, browse, shop, news } = await start(t);
  const page = await (await browse()).newPage();
  await page.goto(`${shop}/`);
  const send = (body, method = 'POST') =>
    page.evaluate(async ([to, method, body]) => (await fetch(to, { method, body })).status, ['/.mainstay/vitals', method, body]);
  assert.equal(await send('{"page":"/x","lcp":9000}'), 204);
  assert.equal(await send('{"page":"/x"}'), 400);
  assert.equal(await send('x'.repeat(3000)), 413);
  assert.equal(await send(undefined, 'GET'), 405);
  await painted(page);
  await page.goto(news);
  await page.evaluate((to) => fetch(to, { method: 'POST', mode: 'no-cors', body: '{"page":"/y","lcp":9000}' }), `${shop}/.mainstay/vitals`);
  const found = await report(server, (now) => metric(now, 'LCP').poor >= 1);
  assert.deepEqual(found.by_page.map(({ page: path }) => path).filter((path) => path !== '/'), ['/x']);
});

test('the counts are in a backup', { skip }, async (t) => {
  const { server, data, flags, browse, shop } = await start(t);
  await (await (await browse()).newPage()).goto(`${shop}/second`);
  await report(server, (now) => now.views === 1);
  await server.stop();
  const between = await startMainstay({ data, flags });
  undo(t, () => between.stop());
  const [target, here] = [folder(t), folder(t)];
  const key = join(here, 'key');
  writeFileSync(key, (await command(data, ['key', 'export'])).stdout);
  const made = await command(data, ['backup', 'now', '--target', target]);
  assert.equal(made.code, 0, made.stderr);
  await between.stop();
  const copy = join(here, 'copy');
  const restored = await command(copy, ['backup', 'restore', '--from', target, '--data', copy, '--key-file', key]);
  assert.equal(restored.code, 0, restored.stderr);
  const after = await startMainstay({ data: copy, flags });
  undo(t, () => after.stop());
  assert.deepEqual(named((await report(after)).pages), { '/second': 1 });
});

test('the console shows pages, visitors and vitals', { skip }, async (t) => {
  const { server, data, browse, shop } = await start(t);
  const visitor = await (await browse()).newPage();
  await visitor.goto(`${shop}/`);
  await painted(visitor);
  await visitor.goto(`${shop}/second`);
  await report(server, (now) => now.views === 2 && metric(now, 'FCP').p75 !== null);

  const admin = await (await browse({ viewport: { width: 1280, height: 900 } })).newPage();
  const complaints = [];
  admin.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  const origin = `http://127.0.0.1:${server.ports.console}`;
  const [path] = /\/setup\?token=[\w-]+/.exec((await command(data, ['setup-link'])).stdout);
  await admin.goto(origin + path);
  await admin.getByLabel('E-mail address').fill('ada@example.com');
  await admin.getByLabel('Password', { exact: true }).fill('correct horse battery staple');
  await admin.getByLabel('Password again').fill('correct horse battery staple');
  await admin.getByRole('button', { name: 'Create the account' }).click();
  await admin.waitForURL(`${origin}/dashboard`);
  await admin.goto(`${origin}/sites`);
  await admin.click(`text=${SHOP}/`);
  await admin.click('text=Visitors and pages of this site');
  const text = await admin.innerText('main');
  for (const part of [/Page views\s+2/, /Visitors today\s+1/, /\/second\s+1\s+50 %/, /LCP/, /Firefox|Chrome\s+2\s+100 %/]) assert.match(text, part);
  if (process.env.MAINSTAY_PICTURES) {
    await admin.screenshot({ path: join(process.env.MAINSTAY_PICTURES, 'analytics.png'), fullPage: true });
    await admin.setViewportSize({ width: 390, height: 844 });
    await admin.screenshot({ path: join(process.env.MAINSTAY_PICTURES, 'analytics-phone.png'), fullPage: true });
  }
  await admin.click('text=7 days');
  assert.match(await admin.innerText('main'), /Page views\s+2/);
  assert.equal((await admin.goto(`${origin}/sites/analytics?name=other`)).status(), 404);
  assert.deepEqual(complaints.filter((text) => !text.includes('404')), []);
});

test('the script is small, kept by browsers, and the same for everybody', { skip }, async (t) => {
  const { browse, shop } = await start(t);
  const page = await (await browse()).newPage();
  await page.goto(`${shop}/`);
  const [length, headers] = await page.evaluate(async () => {
    const answer = await fetch('/.mainstay/vitals.js', { cache: 'no-store' });
    return [(await answer.text()).length, Object.fromEntries(answer.headers)];
  });
  assert.ok(length < 2048, String(length));
  assert.deepEqual([headers['cache-control'], headers['content-type']], ['public, max-age=3600', 'text/javascript; charset=utf-8']);
  const source = readFileSync(new URL('../../web/edge/vitals.js', import.meta.url), 'utf8');
  assert.ok(source.length > length);
});
