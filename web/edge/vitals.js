// Tells the server this comes from what the browser measured of the page (Web Vitals); with `data-views` also which pages the
// app shows without a request. No cookie, nothing stored. Served without comments and indentation: a line may end only where a
// statement or a part of one may.
(() => {
  const d = document, me = d.currentScript, page = location.pathname, found = { page }, slow = {};
  const types = self.PerformanceObserver?.supportedEntryTypes;
  if (!me || !types || !navigator.sendBeacon) return;
  const tell = (what) => navigator.sendBeacon(new URL('vitals', me.src), JSON.stringify(what));
  const watch = (type, see, durationThreshold) => types.includes(type) &&
    new PerformanceObserver((list) => list.getEntries().map(see)).observe({ type, buffered: true, durationThreshold });
  const begun = () => performance.getEntriesByType('navigation')[0]?.activationStart || 0;
  const note = (name, time) => found[name] = Math.max(0, Math.round(time - begun()));
  const seen = d.prerendering || !d.hidden;

  watch('navigation', (at) => note('ttfb', at.responseStart));
  watch('paint', (at) => seen && at.name == 'first-contentful-paint' && note('fcp', at.startTime));
  watch('largest-contentful-paint', (at) => seen && note('lcp', at.startTime));
  // The worst stretch of shifts that are at most 1 s apart, and 5 s long.
  let sum = 0, first = 0, last = 0, told;
  if (types.includes('layout-shift')) found.cls = 0;
  watch('layout-shift', ({ hadRecentInput, startTime: at, value }) => {
    if (hadRecentInput) return;
    if (at - last > 1e3 || at - first > 5e3) [sum, first] = [0, at];
    sum += value;
    last = at;
    found.cls = Math.max(found.cls, +sum.toFixed(4));
  });
  // The longest interaction, but for one of fifty.
  watch('event', ({ interactionId: id, duration }) => id && (slow[id] = Math.max(duration, slow[id] || 0)), 16);
  const leave = () => {
    if (told || d.prerendering) return;
    told = 1;
    const all = Object.values(slow).sort((a, b) => b - a);
    if (all[0]) found.inp = Math.round(all[Math.floor(all.length / 50)]);
    tell(found);
  };
  addEventListener('visibilitychange', () => d.hidden && leave());
  addEventListener('pagehide', leave);

  // A page that was made ready before it was wanted was not counted then.
  const wanted = () => tell({ page, view: true, referrer: d.referrer });
  if (d.prerendering) d.addEventListener('prerenderingchange', wanted);
  else if (begun()) wanted();

  if ('views' in me.dataset) {
    let shown = page;
    const look = () => location.pathname != shown && tell({ page: shown = location.pathname, view: true });
    const push = history.pushState;
    history.pushState = function (...words) {
      push.apply(this, words);
      look();
    };
    addEventListener('popstate', look);
  }
})();
