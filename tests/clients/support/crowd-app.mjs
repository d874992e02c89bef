// The app behind a crowd, as a process of its own, since both ends of so many connections have one limit each. `/wait` is
// answered only when all `process.argv[2]` of them are there; a WebSocket is an echo.

import { createServer } from 'node:http';

import { WebSocketServer } from 'ws';

const all = Number(process.argv[2]);
let waiting = [];
const server = createServer((request, response) => {
  if (request.url !== '/wait') return response.end('ok');
  waiting.push(response);
  if (waiting.length === all) {
    waiting.forEach((each) => each.end('ok'));
    waiting = [];
  }
});
server.keepAliveTimeout = 120_000;
server.maxConnections = Infinity;
new WebSocketServer({ server, perMessageDeflate: false }).on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (message, binary) => socket.send(message, { binary }));
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => console.log(`listening on ${server.address().port}`));
