// The SDK from before envelopes: one event to the store endpoint.

import Raven from 'raven';

Raven.config(process.env.SENTRY_DSN, { release: 'old@1' });
Raven.captureException(new Error('from raven'), (error, id) => {
  if (error) throw error;
  console.log(JSON.stringify([id]));
});
