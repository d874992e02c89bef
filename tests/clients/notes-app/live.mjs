// What happens to notes, told at once: over WebSocket and as server-sent events, carried by Redis publish/subscribe so
// that several copies of the service tell the same story.

import { WebSocketServer } from 'ws';

const CHANNEL = 'notes:live';

export async function openLive(redis, server) {
  const listeners = new Set();
  const subscriber = redis.duplicate();
  subscriber.on('message', (_channel, text) => listeners.forEach((tell) => tell(text)));
  await subscriber.subscribe(CHANNEL);

  const sockets = new WebSocketServer({ server, path: '/live' });
  sockets.on('connection', (socket) => {
    const tell = (text) => socket.send(text);
    listeners.add(tell);
    socket.on('close', () => listeners.delete(tell));
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.send(JSON.stringify({ kind: 'hello' }));
  });

  return {
    publish: (event) => redis.publish(CHANNEL, JSON.stringify(event)),

    /** An Express handler that streams events until the reader leaves. */
    events(request, response) {
      response.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
      response.write('event: hello\ndata: {}\n\n');
      const tell = (text) => response.write(`event: note\ndata: ${text}\n\n`);
      listeners.add(tell);
      request.on('close', () => listeners.delete(tell));
    },

    async close() {
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
      await subscriber.quit();
    },
  };
}
