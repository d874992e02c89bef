// Everything the service is told from outside, read once. The names are those of the usual self-hosting guides.

export function readConfig(env) {
  const needed = ['REDIS_URL', 'MINIO_ENDPOINT', 'MINIO_PORT', 'MINIO_ACCESS_KEY', 'MINIO_SECRET_KEY', 'SESSION_SECRET'];
  const missing = needed.filter((name) => !env[name]);
  if (missing.length > 0) throw new Error(`missing in the environment: ${missing.join(', ')}`);
  return {
    port: Number(env.PORT ?? 3000),
    redisUrl: env.REDIS_URL,
    sessionSecret: env.SESSION_SECRET,
    s3: {
      endPoint: env.MINIO_ENDPOINT,
      port: Number(env.MINIO_PORT),
      useSSL: env.MINIO_USE_SSL === 'true',
      accessKey: env.MINIO_ACCESS_KEY,
      secretKey: env.MINIO_SECRET_KEY,
    },
    // Mail and error tracking are optional.
    mail: env.AWS_ENDPOINT_URL_SES && {
      ses: {
        endpoint: env.AWS_ENDPOINT_URL_SES,
        region: env.AWS_SES_REGION,
        credentials: { accessKeyId: env.AWS_SES_ACCESS_KEY_ID, secretAccessKey: env.AWS_SES_SECRET_ACCESS_KEY },
      },
      from: env.AWS_SES_FROM_EMAIL,
      smtpUrl: env.SMTP_URL,
    },
    errors: { dsn: env.SENTRY_DSN, release: 'notes@1.0.0' },
    // Where browsers reach the object store; presigned links are signed for this name.
    s3PublicUrl: env.S3_PUBLIC_URL,
  };
}
