// The notes service sends its mails and tells its errors: through stock clients, told nothing but what `mainstay env`
// says, and looked at where they arrive: at the relay, and in `mainstay issues`.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { OCCASIONS, body, composed } from './notes-app/mail.mjs';
import { onPile } from './support/backend.mjs';
import { Http2 } from './support/browse.mjs';
import { event, titled } from './support/issues.mjs';
import { startNotes } from './support/notes.mjs';
import { undo, wholeFile } from './support/scope.mjs';
import { parsed, parts, startSink } from './support/sink.mjs';

const file = wholeFile();
const options = { skip: onPile && 'the pile has neither' };
let backend;
let mails;

before(async () => {
  if (onPile) return;
  const sink = await startSink(file);
  mails = sink.mails;
  const extra = { ...sink.settings, MAINSTAY_MAIL__FROM: 'notes@example.com' };
  ({ backend } = await startNotes(file, extra));
});

async function visitor(t, user, password) {
  const client = await new Http2(backend).connect();
  undo(t, () => client.close());
  assert.equal((await client.json('POST', '/login', { user, password })).status, 200);
  return client;
}

const LINK = 'https://notes.example.com/x?a=1&token=abc=def';

test('each of the five mails arrives with both parts exactly as written', options, async (t) => {
  const client = await visitor(t, 'ada', 'lovelace');
  for (const occasion of OCCASIONS) {
    const answer = await client.json('POST', `/mails/${occasion}`, { link: LINK });
    assert.equal(answer.status, 202, answer.text());
    const { from, to, text } = await mails.take();
    assert.deepEqual([from, to], ['notes@example.com', ['ada@example.com']]);
    const { fields } = parsed(text);
    const expected = composed(occasion, 'ada', { link: LINK, where: '127.0.0.1' });
    assert.equal(fields.subject, expected.subject);
    assert.equal(fields.from, 'Notes <notes@example.com>');
    assert.equal(fields['reply-to'], 'notes@example.com');
    assert.equal(fields['message-id'], `<${answer.json().id}@localhost>`);
    const lines = (part) => part.replaceAll('\r\n', '\n').trimEnd();
    const arrived = parts(text);
    assert.equal(lines(arrived.text), expected.text.trimEnd());
    assert.equal(lines(arrived.html), expected.html);
  }
});

test('a shared note goes out over SMTP, and nobody sees the blind copy', options, async (t) => {
  const client = await visitor(t, 'ada', 'lovelace');
  const note = { title: 'Grüße', text: '.\n.dotted\n..\nlast' };
  const { id } = (await client.json('POST', '/notes', note)).json();
  const to = { to: 'grace@example.com', bcc: 'eve@example.com' };
  assert.equal((await client.json('POST', `/notes/${id}/share`, to)).status, 202);
  const both = [await mails.take(), await mails.take()];
  assert.deepEqual(both.map((mail) => mail.to[0]).sort(), ['eve@example.com', 'grace@example.com']);
  for (const { text } of both) {
    assert.doesNotMatch(text, /eve@example\.com/);
    assert.doesNotMatch(text, /^bcc:/im);
    const expected = body(['ada shares a note with you:', note.title, note.text]);
    assert.equal(parts(text).text.replaceAll('\r\n', '\n').trimEnd(), expected.text.trimEnd());
  }
  const [first, second] = both.map(({ text }) => text);
  assert.equal(first, second, 'both get the same bytes');
});

test('an unexpected error is one issue, with user, release and what came before', options, async (t) => {
  const client = await visitor(t, 'grace', 'hopper');
  const ids = [];
  for (const title of ['one', 'two']) {
    const { id } = (await client.json('POST', '/notes', { title, text: '' })).json();
    ids.push(id);
    assert.equal((await client.request('POST', `/notes/${id}/publish`)).status, 500);
  }
  const found = await titled(backend, /has no slug$/, 2);
  assert.deepEqual(found.map(({ count, users }) => [count, users]), [[2, 1]], 'one issue, though the messages differ');
  const full = await event(backend, found[0]);
  assert.deepEqual([full.release, full.environment], ['notes@1.0.0', 'test']);
  assert.deepEqual(Object.fromEntries(full.user).id, 'grace');
  assert.equal(full.breadcrumbs.findLast(({ category }) => category === 'publish').message, `publishing note ${ids[1]}`);
  assert.equal(full.exceptions[0].frames[0].function, 'publicAddress');
  assert.equal(Object.fromEntries(full.tags).route, `/notes/${ids[1]}/publish`);
});
