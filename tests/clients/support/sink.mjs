// A real SMTP server that plays the relay: it keeps what it is given.

import { once } from 'node:events';

import { SMTPServer } from 'smtp-server';

import { inbox } from './browse.mjs';
import { undo } from './scope.mjs';

/**
 * Starts one that ends with `t`: `{ port, mails, settings }`. `mails.take()` gives the next mail `{ from, to, text }`,
 * `onMail` hears of each; `settings` make a Mainstay hand its mail over here. It refuses `nobody@…`.
 */
export async function startSink(t, onMail = () => {}) {
  const mails = inbox();
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onRcptTo({ address }, session, done) {
      done(address.startsWith('nobody@') ? Object.assign(new Error('no such user'), { responseCode: 550 }) : undefined);
    },
    onData(stream, session, done) {
      const pieces = [];
      stream.on('data', (piece) => pieces.push(piece));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        const mail = { from: mailFrom.address, to: rcptTo.map((to) => to.address), text: Buffer.concat(pieces).toString() };
        mails.put(mail);
        onMail(mail);
        done();
      });
    },
  });
  // A client that goes away is no event.
  server.on('error', () => {});
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  const { port } = server.server.address();
  undo(t, () => new Promise((done) => server.close(done)));
  const settings = { MAINSTAY_MAIL__TRANSPORT: 'smtp', MAINSTAY_MAIL__RELAY: `smtp://127.0.0.1:${port}` };
  return { port, mails, settings };
}

/** Header fields (by lower-case name, folded lines joined) and body of a message. */
export function parsed(text) {
  const [head, body] = text.split(/\r\n\r\n([^]*)/);
  const lines = head.replace(/\r\n[ \t]+/g, ' ').split('\r\n');
  const fields = Object.fromEntries(lines.map((line) => /^([^:]+): ?(.*)$/.exec(line).slice(1)).map(([name, value]) => [name.toLowerCase(), value]));
  return { fields, body };
}

/** The text and HTML parts of a `multipart/alternative` message, decoded. */
export function parts(text) {
  const { fields, body } = parsed(text);
  const boundary = /boundary="?([^";]+)"?/.exec(fields['content-type'])[1];
  const pieces = body.split(`--${boundary}`).slice(1, -1).map((piece) => parsed(piece.replace(/^\r\n/, '').replace(/\r\n$/, '')));
  const of = (type) => pieces.find(({ fields }) => fields['content-type'].startsWith(type));
  return { text: decoded(of('text/plain')), html: decoded(of('text/html')) };
}

function decoded({ fields, body }) {
  const encoding = (fields['content-transfer-encoding'] ?? '7bit').toLowerCase();
  if (encoding === 'base64') return Buffer.from(body, 'base64').toString();
  if (encoding !== 'quoted-printable') return body;
  const bytes = body.replace(/=\r\n/g, '').replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}
