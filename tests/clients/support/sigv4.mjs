// AWS Signature Version 4 by hand, so that a test can break each part of a request on its own.

import { createHash, createHmac } from 'node:crypto';

const hash = (data) => createHash('sha256').update(data).digest('hex');
const hmac = (key, data) => createHmac('sha256', key).update(data).digest();
const encode = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

/** Signs a request to the server with `env`'s key: its headers, `Authorization` among them. */
export function sign(env, { method, path, query = {}, headers = {}, body = '', payload = hash(body), date = new Date() }) {
  const time = date.toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${time.slice(0, 8)}/${env.AWS_REGION}/s3/aws4_request`;
  const all = { host: `${env.MINIO_ENDPOINT}:${env.MINIO_PORT}`, 'x-amz-content-sha256': payload, 'x-amz-date': time, ...headers };
  const names = Object.keys(all).map((name) => name.toLowerCase()).sort();
  const value = (name) => String(all[Object.keys(all).find((key) => key.toLowerCase() === name)]).trim();
  const canonical = [
    method,
    path.split('/').map(encode).join('/'),
    queryText(query),
    ...names.map((name) => `${name}:${value(name)}`),
    '',
    names.join(';'),
    payload,
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', time, scope, hash(canonical)].join('\n');
  const key = scope.split('/').reduce((key, part) => hmac(key, part), `AWS4${env.AWS_SECRET_ACCESS_KEY}`);
  const signature = createHmac('sha256', key).update(toSign).digest('hex');
  const credential = `${env.AWS_ACCESS_KEY_ID}/${scope}`;
  all.authorization = `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  return all;
}

export function queryText(query) {
  return Object.entries(query).map(([name, value]) => `${encode(name)}=${encode(value)}`).sort().join('&');
}

/** Sends a signed request through fetch: `{ status, text }`. `change(headers)` breaks it after signing. */
export async function send(env, request, change = (headers) => headers) {
  const headers = change(sign(env, request));
  delete headers.host;
  const { method, path, query = {}, body } = request;
  const text = queryText(query);
  const url = `${env.AWS_ENDPOINT_URL_S3}${path}${text && `?${text}`}`;
  const answer = await fetch(url, { method, headers, body: method === 'GET' ? undefined : body });
  return { status: answer.status, text: await answer.text() };
}
