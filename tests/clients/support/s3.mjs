// The AWS SDK's client of a server's S3 door.

import { S3Client } from '@aws-sdk/client-s3';

/** A client for what `mainstay env` says; `more` are settings of its own. */
export function s3Client(env, more = {}) {
  const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
  return new S3Client({ region: env.AWS_REGION, credentials, endpoint: env.AWS_ENDPOINT_URL_S3, forcePathStyle: true, ...more });
}
