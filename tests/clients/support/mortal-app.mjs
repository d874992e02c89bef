// An app that is made to be killed: it says what it was asked, holds what is asked for below `/hold`, and listens on the
// port of its argument, 0 for any.

import { createServer } from 'node:http';

const server = createServer((request, response) => {
  console.log(`${request.method} ${request.url}`);
  request.resume();
  if (request.url.startsWith('/half')) response.writeHead(200, { 'Content-Length': 100 }).write('half');
  else if (!request.url.startsWith('/hold')) response.end(String(process.pid));
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
