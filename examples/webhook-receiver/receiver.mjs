// Receives webhooks and believes only what is signed. Node 18 or newer, nothing to install.
//
//     WEBHOOK_SECRET=... node receiver.mjs 8000
//
// Two secrets, comma-separated, are both accepted: so one can replace the other.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const SECRETS = process.env.WEBHOOK_SECRET.split(",").filter(Boolean);
const TOLERANCE_SECONDS = 300;
const MOST_BYTES = 1_000_000;
const seen = new Set(); // in production a table with a unique column, written with the effect

const isSame = (one, other) => one.length === other.length && timingSafeEqual(one, other);

// The simple scheme: hex over "<timestamp>.<body>", the bytes as they came. The headers
// webhook-id and webhook-signature carry the one of Standard Webhooks, for its libraries.
function isGenuine(headers, body) {
  const sentAt = headers["x-webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(sentAt)) return false;
  if (Math.abs(Date.now() / 1000 - Number(sentAt)) > TOLERANCE_SECONDS) return false;
  const presented = (headers["x-webhook-signature"] ?? "").split(",").map((each) => Buffer.from(each));
  return SECRETS.some((secret) => {
    const digest = createHmac("sha256", secret).update(`${sentAt}.`).update(body).digest("hex");
    return presented.some((each) => isSame(each, Buffer.from(digest)));
  });
}

const server = createServer(async (request, response) => {
  const pieces = [];
  let length = 0;
  for await (const piece of request) {
    length += piece.length;
    if (length > MOST_BYTES) return response.writeHead(413).end();
    pieces.push(piece);
  }
  const body = Buffer.concat(pieces);
  if (!isGenuine(request.headers, body)) return response.writeHead(401).end();
  const id = request.headers["webhook-id"];
  if (!seen.has(id)) {
    // a delivery may come twice
    seen.add(id);
    console.log(id, JSON.stringify(JSON.parse(body)));
  }
  return response.writeHead(204).end();
});

server.listen(Number(process.argv[2]), "127.0.0.1", () => {
  console.log("listening on", server.address().port);
});
