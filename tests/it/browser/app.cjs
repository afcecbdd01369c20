// A web application as one finds it: it knows nothing of the gateway, and believes to be at the root of its own host.
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://self");
  const answer = (value, headers = {}) => {
    response.writeHead(200, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };
  const redirect = (status, location) => {
    response.writeHead(status, { location });
    response.end();
  };
  const self = `http://127.0.0.1:${server.address().port}`;
  const routes = {
    "/redirect/absolute": () => redirect(302, `${self}/landed?from=absolute`),
    "/redirect/path": () => redirect(301, "/landed?from=path"),
    "/redirect/relative": () => redirect(302, "../landed?from=relative"),
    "/redirect/chain": () => redirect(302, `${self}/redirect/path`),
    "/redirect/page": () => redirect(302, `${self}/landed.html?from=page#part`),
    "/redirect/see-other": () => redirect(303, `${self}/landed?from=see-other`),
    "/redirect/keep": () => redirect(307, `${self}/landed?from=keep`),
    "/landed": () => body(request, (bytes) => answer({ method: request.method, url: request.url, body: bytes.toString() })),
    "/login": () => answer({}, { "set-cookie": [
      "session=s1; Domain=app.internal; Path=/account; HttpOnly; SameSite=Lax",
      "theme=dark; Domain=.app.internal; Path=/; Expires=Wed, 01 Jan 2098 00:00:00 GMT",
      "here=1",
    ] }),
    "/account/me": () => answer({ cookie: request.headers.cookie ?? "", host: request.headers.host }),
    "/other": () => answer({ cookie: request.headers.cookie ?? "" }),
    "/upload": () => body(request, (bytes) => answer({ parts: parts(request, bytes), length: Number(request.headers["content-length"]) })),
    "/uploaded.html": () => body(request, (bytes) => {
      response.writeHead(200, { "content-type": "text/html" });
      response.end(`<pre>${JSON.stringify(parts(request, bytes))}</pre>`);
    }),
    "/events": () => events(request, response),
    "/ack": () => body(request, (bytes) => { next?.(Number(bytes)); answer({}); }),
  };
  if (Object.hasOwn(routes, pathname)) return routes[pathname]();
  fs.readFile(`.${pathname}`, (error, bytes) => {
    response.writeHead(error ? 404 : 200, { "content-type": "text/html; charset=utf-8" });
    response.end(error ? "no such page" : bytes);
  });
});

function body(request, done) {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => done(Buffer.concat(pieces)));
}

// The parts of a form (RFC 7578): name, file, size and what is in them.
function parts(request, bytes) {
  const boundary = Buffer.from(`--${/boundary=(.+)$/.exec(request.headers["content-type"])[1]}`);
  const found = [];
  let at = bytes.indexOf(boundary);
  for (;;) {
    const start = at + boundary.length + 2;
    at = bytes.indexOf(boundary, start);
    if (at < 0) return found;
    const split = bytes.indexOf("\r\n\r\n", start);
    const head = bytes.subarray(start, split).toString();
    const content = bytes.subarray(split + 4, at - 2);
    found.push({
      name: /[^e]name="([^"]*)"/.exec(head)[1],
      file: /filename="([^"]*)"/.exec(head)?.[1] ?? null,
      size: content.length,
      sha256: crypto.createHash("sha256").update(content).digest("hex"),
      text: content.length < 100 ? content.toString() : null,
    });
  }
}

// One event, and the next only when the page says that it has the one before.
let next;
function events(request, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const send = (id) => response.write(`id: ${id}\ndata: event ${id}\n\n`);
  const last = Number(request.headers["last-event-id"] ?? 0);
  response.write("retry: 1\n\n");
  send(last + 1);
  next = (id) => (id === 3 ? response.end() : send(id + 1));
}

// WebSocket (RFC 6455) without extensions: every message comes back.
server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = crypto.createHash("sha1").update(key).digest("base64");
  socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    + `Sec-WebSocket-Protocol: ${request.headers["sec-websocket-protocol"]}\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let ahead = Buffer.alloc(0);
  let message = [];
  let kind = 0;
  const frame = (opcode, payload) => {
    const head = Buffer.alloc(10);
    head[0] = 0x80 | opcode;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(payload.length), 2);
    const small = Buffer.from([0x80 | opcode, payload.length]);
    socket.write(Buffer.concat([payload.length < 126 ? small : payload.length < 65536
      ? Buffer.from([0x80 | opcode, 126, payload.length >> 8, payload.length & 255]) : head, payload]));
  };
  socket.on("data", (piece) => {
    ahead = Buffer.concat([ahead, piece]);
    for (;;) {
      if (ahead.length < 2) return;
      const opcode = ahead[0] & 15;
      let length = ahead[1] & 127;
      let at = length === 126 ? 4 : length === 127 ? 10 : 2;
      if (ahead.length < at + 4) return;
      if (length === 126) length = ahead.readUInt16BE(2);
      if (length === 127) length = Number(ahead.readBigUInt64BE(2));
      if (ahead.length < at + 4 + length) return;
      const mask = ahead.subarray(at, (at += 4));
      const payload = Buffer.from(ahead.subarray(at, at + length)).map((byte, i) => byte ^ mask[i % 4]);
      const final = ahead[0] & 0x80;
      ahead = ahead.subarray(at + length);
      if (opcode === 8) { frame(8, payload); return socket.end(); }
      if (opcode !== 0) kind = opcode;
      message.push(payload);
      if (final) { frame(kind, Buffer.concat(message)); message = []; }
    }
  });
  socket.on("error", () => socket.destroy());
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
