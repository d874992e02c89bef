// The admin's pages in a real browser, with and without scripts: from the set-up link to every page, and what is refused.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Client as Minio } from 'minio';

import { startChromium } from './support/chromium.mjs';
import { folder } from './support/folder.mjs';
import { command, startMainstay } from './support/mainstay.mjs';
import { undo } from './support/scope.mjs';

const EMAIL = 'ada@example.com';
const PASSWORD = 'correct horse battery staple';
const PAGES = ['/dashboard', '/dashboard?range=day', '/kv', '/kv/clients', '/scrub', '/upstreams', '/sites', '/sites/show?name=shop.example/', '/sites/analytics?name=shop.example', '/bans', '/limits', '/backups', '/keys', '/settings', '/account', '/confirm'];

const VERSIONS = ['/buckets/papers', '/buckets/papers/object?key=kept', '/buckets/papers/versions?key=gone', '/buckets/papers/deleted'];

/** A bucket with an object of two versions, and with one that is deleted. */
async function versions({ env }) {
  const bucket = new Minio({
    endPoint: env.MINIO_ENDPOINT,
    port: Number(env.MINIO_PORT),
    useSSL: false,
    accessKey: env.MINIO_ACCESS_KEY,
    secretKey: env.MINIO_SECRET_KEY,
  });
  await bucket.makeBucket('papers', env.AWS_REGION);
  await bucket.setBucketVersioning('papers', { Status: 'Enabled' });
  for (const key of ['kept', 'kept', 'gone']) await bucket.putObject('papers', key, key);
  await bucket.removeObject('papers', 'gone');
}

/** A server of its own, and a browser on it whose pages must neither complain nor break the policy. */
async function start(t, { javaScriptEnabled = true, viewport = { width: 1280, height: 900 }, colorScheme = 'light' } = {}) {
  const file = join(folder(t), 'mainstay.toml');
  writeFileSync(file, '[[edge.sites]]\nhosts = ["shop.example"]\nredirect = "https://www.shop.example"\nanalytics = true\n');
  const server = await startMainstay({ data: folder(t), flags: ['--config', file] });
  undo(t, () => server.stop());
  const browser = await startChromium(t, server, { javaScriptEnabled, viewport, colorScheme });
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { server, browser, page, complaints, origin: `http://127.0.0.1:${server.ports.console}` };
}

/** The path of the one-time link. */
async function setupPath(server) {
  const { code, stdout, stderr } = await command(server.data, ['setup-link']);
  assert.equal(code, 0, stderr);
  return /\/setup\?token=[\w-]+/.exec(stdout)[0];
}

/** The first account, made by hand as a person would. */
async function claim({ server, page, origin }) {
  await page.goto(origin + (await setupPath(server)));
  await page.getByLabel('E-mail address').fill(EMAIL);
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByLabel('Password again').fill(PASSWORD);
  await page.getByRole('button', { name: 'Create the account' }).click();
  await page.waitForURL(`${origin}/dashboard`);
}

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with scripts' : 'without scripts';

  test(`${how}: claimed by its link, then logged out and in`, async (t) => {
    const world = await start(t, { javaScriptEnabled });
    const { page, origin, server } = world;
    await page.goto(origin);
    assert.match(await page.innerText('main'), /mainstay setup-link/);
    assert.equal(await page.locator('main form').count(), 0, 'a stranger finds no form');

    const link = await setupPath(server);
    await claim(world);
    assert.equal(await page.innerText('h1'), 'Dashboard');
    assert.match(await page.innerText('main'), /Everything works/);
    assert.equal((await page.goto(origin + link)).status(), 422, 'the link works once');

    await page.goto(`${origin}/dashboard`);
    await page.locator('.side').getByRole('button', { name: 'Log out' }).click();
    assert.match(await page.innerText('main'), /You are logged out/);
    const [old] = await page.context().cookies(origin).then((all) => all.filter(({ name }) => name === 'mainstay-session'));
    assert.equal(old, undefined);

    await page.goto(`${origin}/keys`);
    assert.equal(new URL(page.url()).pathname, '/login');
    for (const [email, password] of [[EMAIL, 'wrong'], ['nobody@example.com', PASSWORD]]) {
      await page.getByLabel('E-mail address').fill(email);
      await page.getByLabel('Password').fill(password);
      await page.getByRole('button', { name: 'Log in' }).click();
      assert.equal(await page.getByRole('alert').innerText(), 'These credentials are not right.');
    }
    await page.getByLabel('E-mail address').fill(EMAIL);
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.waitForURL(`${origin}/keys`);
  });

  test(`${how}: the connection settings are hidden until the password is given again`, async (t) => {
    const world = await start(t, { javaScriptEnabled });
    const { page, origin, server } = world;
    await claim(world);
    await page.goto(`${origin}/keys/env`);
    if (new URL(page.url()).pathname === '/confirm') {
      await page.getByLabel('Password').fill(PASSWORD);
      await page.getByRole('button', { name: 'Go on' }).click();
    }
    const text = await page.innerText('pre');
    assert.match(text, new RegExp(`REDIS_URL=${server.env.REDIS_URL.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`));
  });

  test(`${how}: the theme can be chosen and stays`, async (t) => {
    const world = await start(t, { javaScriptEnabled });
    const { page, origin } = world;
    await claim(world);
    const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await paper();
    await page.locator('.side').getByRole('button', { name: 'Dark' }).click();
    assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
    assert.equal(new URL(page.url()).pathname, '/dashboard');
    assert.notEqual(await paper(), light);
    await page.goto(`${origin}/account`);
    assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
  });
}

test('a label that is a script stays text', async (t) => {
  const world = await start(t);
  const { page, origin, complaints } = world;
  await claim(world);
  await page.goto(`${origin}/keys`);
  const label = '<script>document.title="x"</script><img src=x onerror=alert(1)>';
  await page.locator('form[action="/keys/tokens"]').getByLabel('Label').fill(label);
  await page.getByRole('button', { name: 'Make a token' }).click();
  assert.match(await page.innerText('pre'), /MAINSTAY_API_TOKEN=\S+/);
  await page.goto(`${origin}/keys`);
  assert.ok((await page.innerText('main')).includes(label));
  assert.equal(await page.locator('main script, main img').count(), 0);
  await page.goto(`${origin}/dashboard`);
  assert.ok((await page.innerText('main')).includes('<script>'), 'the audit log names it too');
  assert.deepEqual(complaints, []);
});

test('forms from elsewhere, or without their token, change nothing', async (t) => {
  const world = await start(t);
  const { page, origin } = world;
  await claim(world);
  const cookie = (await page.context().cookies(origin)).map(({ name, value }) => `${name}=${value}`).join('; ');
  const token = await page.locator('input[name=csrf]').first().inputValue();
  const send = (path, headers, body) => {
    const form = { 'content-type': 'application/x-www-form-urlencoded', cookie };
    return fetch(origin + path, { method: 'POST', redirect: 'manual', headers: { ...form, ...headers }, body });
  };
  const label = 'label=sneaked&scope-read=on&lives=';
  for (const [headers, body] of [
    [{ origin: 'https://evil.example' }, `csrf=${token}&${label}`],
    [{ origin: 'null' }, `csrf=${token}&${label}`],
    [{ 'sec-fetch-site': 'cross-site' }, `csrf=${token}&${label}`],
    [{ 'sec-fetch-site': 'same-site', origin }, `csrf=${token}&${label}`],
    [{ origin }, label],
    [{ origin }, `csrf=&${label}`],
    [{ origin }, `csrf=${'A'.repeat(token.length)}&${label}`],
  ]) {
    const answer = await send('/keys/tokens', headers, body);
    assert.equal(answer.status, 403, JSON.stringify([headers, body]));
  }
  await page.goto(`${origin}/keys`);
  assert.ok(!(await page.innerText('main')).includes('sneaked'));
  assert.equal((await send('/keys/tokens', { origin }, `csrf=${token}&${label}`)).status, 200);
  assert.equal((await send('/logout', { origin, cookie: '' }, `csrf=${token}`)).status, 403);
});

test('every page has its headers, and strangers are sent to log in', async (t) => {
  const world = await start(t);
  const { page, origin } = world;
  await claim(world);
  for (const path of PAGES) {
    const answer = await page.goto(origin + path);
    const headers = answer.headers();
    assert.equal(answer.status(), 200, path);
    assert.match(headers['content-security-policy'], /^default-src 'none'; style-src 'self'; script-src 'self';/);
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'same-origin');
    assert.equal(headers['cross-origin-opener-policy'], 'same-origin');
    const stranger = await fetch(origin + path, { redirect: 'manual' });
    assert.equal(stranger.status, 303, path);
    assert.match(stranger.headers.get('location'), /^\/login\?next=/);
    assert.equal(await stranger.text(), '');
  }
  const lost = await page.goto(`${origin}/nothing/here`);
  assert.deepEqual([lost.status(), await page.innerText('h1')], [404, 'Not found']);
  const program = await fetch(`${origin}/nothing/here`);
  assert.equal(program.headers.get('content-type'), 'application/problem+json');
  const style = await page.locator('link[rel=stylesheet]').getAttribute('href');
  assert.match((await fetch(origin + style)).headers.get('cache-control'), /immutable/);
});

test('on the edge the session is a host cookie', async (t) => {
  const world = await start(t);
  const { server, page } = world;
  await claim(world);
  const edge = `https://console.localhost:${server.ports.https}`;
  await page.goto(`${edge}/login`);
  await page.getByLabel('E-mail address').fill(EMAIL);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.waitForURL(`${edge}/dashboard`);
  const session = (await page.context().cookies(edge)).find(({ name }) => name === '__Host-mainstay-session');
  assert.deepEqual([session.secure, session.httpOnly, session.sameSite, session.path], [true, true, 'Lax', '/']);
});

for (const colorScheme of ['light', 'dark']) {
  for (const [device, viewport] of [['desk', { width: 1280, height: 900 }], ['phone', { width: 390, height: 844 }]]) {
    test(`${colorScheme} on a ${device}: pages fit, read well and name their parts`, async (t) => {
      const world = await start(t, { viewport, colorScheme });
      const { page, origin, server, complaints } = world;
      const look = async (path, name = path.slice(1).replace(/\W+/g, '-') || 'start') => {
        await page.goto(origin + path);
        const found = await page.evaluate(faults);
        await photograph(page, `${name}-${colorScheme}-${device}`);
        assert.deepEqual(found, [], path);
      };
      await look('/', 'welcome');
      await look(await setupPath(server), 'setup');
      await claim(world);
      await versions(server);
      for (const path of [...PAGES, ...VERSIONS]) await look(path);
      await look('/keys/env');
      await page.context().clearCookies();
      await look('/login');
      assert.deepEqual(complaints, []);
    });
  }
}

/** A picture of the whole page, for people, when a folder for them is named. */
async function photograph(page, name) {
  const pictures = process.env.MAINSTAY_PICTURES;
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

/** What is wrong with the page for who cannot see it well, or has a small screen. Runs in the page. */
function faults() {
  const found = [];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
  if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
  if (!document.documentElement.lang || !document.title) found.push('no language or title');
  if (document.querySelectorAll('main').length !== 1) found.push('not one main');
  let level = 1;
  for (const heading of document.querySelectorAll('main :is(h1,h2,h3,h4)')) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) found.push(`heading skips a level: ${heading.textContent}`);
    level = next;
  }
  for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    if (shown(field) && !field.labels?.length && !field.ariaLabel && field.getAttribute('aria-hidden') !== 'true') found.push(`no label: ${field.name}`);
  }
  for (const control of document.querySelectorAll('button, a[href]')) {
    if (shown(control) && !(control.textContent.trim() || control.ariaLabel)) found.push(`no name: ${control.outerHTML}`);
  }
  for (const element of document.querySelectorAll('[style], script:not([src]), style, [onclick], [onload]')) found.push(`inline: ${element.outerHTML.slice(0, 80)}`);
  const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
  for (const id of ids.filter((id, at) => ids.indexOf(id) !== at)) found.push(`id twice: ${id}`);

  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const said = new Set();
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !shown(element) || element.closest('svg') || element.closest('.unseen')) continue;
    const [a, b] = [light(channels(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `contrast ${contrast.toFixed(2)}: ${element.tagName}.${element.className}`;
    if (contrast < 4.5 && !said.has(what)) found.push(what);
    said.add(what);
  }
  return found;
}
