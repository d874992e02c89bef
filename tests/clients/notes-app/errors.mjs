// Errors nobody expected, told to an error tracker.

import * as Sentry from '@sentry/node';

export function openErrors({ dsn, release }) {
  Sentry.init({ dsn, release, environment: 'test', enabled: dsn !== undefined });
  return {
    /** Everything captured while `request` is answered names its user. */
    middleware: (request, _response, next) =>
      Sentry.withIsolationScope((scope) => {
        if (request.session?.user) scope.setUser({ id: request.session.user });
        scope.setTag('route', request.path);
        next();
      }),
    note: (category, message) => Sentry.addBreadcrumb({ category, message }),
    capture: (error) => Sentry.captureException(error),
    close: () => Sentry.close(5000),
  };
}
