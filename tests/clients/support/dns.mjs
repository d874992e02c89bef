// A name server for one zone: answers questions for texts and addresses, and takes updates (RFC 2136) that are signed with
// its key (RFC 8945).

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

import { freePort } from './process.mjs';
import { undo } from './scope.mjs';

const [A, CNAME, SOA, TXT, TSIG] = [1, 5, 6, 16, 250];
const [IN, NONE, ANY] = [1, 254, 255];
const [BADSIG, BADKEY] = [16, 17];

/** `name` as it stands in messages. */
function wire(name) {
  const labels = name.split('.').filter((label) => label !== '');
  return Buffer.concat([...labels.map((label) => Buffer.from([label.length, ...Buffer.from(label)])), Buffer.from([0])]);
}

const words = (...all) => Buffer.from(all.flatMap((word) => [word >> 8, word & 255]));

/** Reads what questions and updates are made of: neither refers to names before. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  word() {
    this.at += 2;
    return this.bytes.readUInt16BE(this.at - 2);
  }

  take(length) {
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  name() {
    const labels = [];
    for (let length = this.take(1)[0]; length > 0; length = this.take(1)[0]) labels.push(this.take(length).toString());
    return labels.join('.').toLowerCase();
  }

  record() {
    const at = this.at;
    const name = this.name();
    const [type, kind] = [this.word(), this.word()];
    this.take(4);
    return { at, name, type, kind, data: new Reader(this.take(this.word())) };
  }
}

/** What a signature is over, but for the message (RFC 8945 section 4.3.3). */
const variables = (key, time, error) =>
  Buffer.concat([wire(key.name), words(ANY, 0, 0), wire(key.algorithm), time, words(300, error, 0)]);

const mac = (key, ...parts) => createHmac(key.algorithm.replace('hmac-', ''), key.secret).update(Buffer.concat(parts)).digest();

/** A signature as a record. */
function signature(key, id, time, code, error) {
  const data = Buffer.concat([wire(key.algorithm), time, words(300, code.length), code, words(id, error, 0)]);
  return Buffer.concat([wire(key.name), words(TSIG, ANY, 0, 0, data.length), data]);
}

/** Checks an update's signature; its error (0: none) and what the answer is signed with as well. */
function verified(bytes, key) {
  const reader = new Reader(bytes);
  const id = reader.word();
  reader.take(2);
  const counts = [reader.word(), reader.word(), reader.word(), reader.word()];
  reader.name();
  reader.take(4);
  const updates = [];
  for (let left = counts[1] + counts[2]; left > 0; left -= 1) updates.push(reader.record());
  if (counts[3] !== 1) return { error: BADKEY, updates: [] };
  const signed = reader.record();
  if (signed.type !== TSIG || signed.name !== key.name) return { error: BADKEY, updates: [] };
  const algorithm = signed.data.name();
  const time = signed.data.take(6);
  signed.data.word();
  const code = signed.data.take(signed.data.word());
  const before = Buffer.from(bytes.subarray(0, signed.at));
  before.writeUInt16BE(id, 0);
  before.writeUInt16BE(0, 10);
  const wanted = mac(key, before, variables(key, time, 0));
  const good = algorithm === key.algorithm && code.length === wanted.length && timingSafeEqual(code, wanted);
  return good ? { error: 0, updates, request: code, time } : { error: BADSIG, updates: [], time };
}

/**
 * Starts it for `zone`, or several; `texts` holds a set of texts for each name, and `elsewhere(name)` gives further ones.
 * `aliases` has the names that are CNAMEs, and `hides()` says whether texts are not to be seen yet. Every name has the address
 * 127.0.0.1.
 */
export async function nameServer(t, { zone: zones, key, elsewhere = () => [], aliases = {}, hides = () => false }) {
  const all = [zones].flat();
  const texts = new Map();
  const refused = [];
  const ending = (type, data) => Buffer.concat([words(type, IN, 0, 1, data.length), data]);

  const answer = (bytes) => {
    const reader = new Reader(bytes);
    const [id, flags] = [reader.word(), reader.word()];
    reader.take(8);
    if (((flags >> 11) & 15) === 5) return updated(bytes, id);
    const from = reader.at;
    const name = reader.name();
    const type = reader.word();
    reader.word();
    const question = bytes.subarray(from, reader.at);
    const zone = all.find((zone) => name === zone || name.endsWith(`.${zone}`)) ?? all[0];
    let own = Buffer.from([0xc0, 12]);
    let shown = name;
    const found = [];
    if (aliases[name] && [CNAME, TXT].includes(type)) {
      shown = aliases[name];
      found.push(Buffer.concat([own, ending(CNAME, wire(shown))]));
      own = wire(shown);
    }
    if (type === A) found.push(Buffer.concat([own, ending(A, Buffer.from([127, 0, 0, 1]))]));
    if (type === TXT && !hides()) {
      for (const text of [...(texts.get(shown) ?? []), ...elsewhere(shown)]) {
        found.push(Buffer.concat([own, ending(TXT, Buffer.from([text.length, ...Buffer.from(text)]))]));
      }
    }
    const start = Buffer.concat([wire(`ns.${zone}`), wire(`admin.${zone}`), Buffer.alloc(20)]);
    const authority = found.length === 0 ? [Buffer.concat([wire(zone), ending(SOA, start)])] : [];
    return Buffer.concat([words(id, 0x8400, 1, found.length, authority.length, 0), question, ...found, ...authority]);
  };

  const updated = (bytes, id) => {
    const { error, updates, request, time } = verified(bytes, key);
    if (error !== 0) {
      refused.push(error);
      const unsigned = signature(key, id, time ?? Buffer.alloc(6), Buffer.alloc(0), error);
      return Buffer.concat([words(id, 0xa809, 0, 0, 0, 1), unsigned]);
    }
    for (const { name, kind, data } of updates) {
      const text = data.take(data.take(1)[0]).toString();
      const known = texts.get(name) ?? new Set();
      if (kind === NONE) known.delete(text);
      else known.add(text);
      texts.set(name, known);
    }
    const plain = words(id, 0xa800, 0, 0, 0, 0);
    const code = mac(key, words(request.length), request, plain, variables(key, time, 0));
    return Buffer.concat([words(id, 0xa800, 0, 0, 0, 1), signature(key, id, time, code, 0)]);
  };

  const port = await freePort();
  const datagrams = createSocket('udp4');
  datagrams.on('message', (bytes, from) => datagrams.send(answer(bytes), from.port, from.address));
  await new Promise((ready) => datagrams.bind(port, '127.0.0.1', ready));
  const streams = createServer((socket) => {
    let heard = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      heard = Buffer.concat([heard, chunk]);
      while (heard.length >= 2 && heard.length >= 2 + heard.readUInt16BE(0)) {
        const length = heard.readUInt16BE(0);
        const said = answer(heard.subarray(2, 2 + length));
        socket.write(Buffer.concat([words(said.length), said]));
        heard = heard.subarray(2 + length);
      }
    });
  });
  await new Promise((ready) => streams.listen(port, '127.0.0.1', ready));
  undo(t, () => {
    datagrams.close();
    streams.close();
  });
  return { port, texts, refused };
}
