// Files in four buckets of an S3-compatible store.

import { Client } from 'minio';

export const BUCKETS = ['avatars', 'attachments', 'exports', 'backups'];
const LINK_SECONDS = 300;

export async function openFiles(config) {
  const client = new Client(config.s3);
  for (const bucket of BUCKETS) {
    if (!(await client.bucketExists(bucket))) await client.makeBucket(bucket);
  }
  const outside = config.s3PublicUrl ? publicClient(config) : client;

  return {
    putBuffer: (bucket, name, bytes, type) =>
      client.putObject(bucket, name, bytes, bytes.length, { 'Content-Type': type }),
    // No size given: the client uploads in parts.
    putStream: (bucket, name, stream, type) =>
      client.putObject(bucket, name, stream, undefined, { 'Content-Type': type }),
    read: (bucket, name) => client.getObject(bucket, name),
    stat: (bucket, name) => client.statObject(bucket, name),
    remove: (bucket, name) => client.removeObject(bucket, name),
    linkToRead: (bucket, name) => outside.presignedGetObject(bucket, name, LINK_SECONDS),
    linkToWrite: (bucket, name) => outside.presignedPutObject(bucket, name, LINK_SECONDS),
    async list(bucket, prefix) {
      const found = [];
      for await (const { name, size, etag } of client.listObjectsV2(bucket, prefix, true)) found.push({ name, size, etag });
      return found;
    },
  };
}

function publicClient({ s3, s3PublicUrl }) {
  const url = new URL(s3PublicUrl);
  const useSSL = url.protocol === 'https:';
  const port = Number(url.port || (useSSL ? 443 : 80));
  // The region is named, so that signing needs no request to a name only browsers resolve.
  return new Client({ ...s3, endPoint: url.hostname, port, useSSL, region: 'us-east-1' });
}

/** Whether the object store says that there is no such object. */
export function isMissing(error) {
  return error.code === 'NoSuchKey' || error.code === 'NotFound';
}
