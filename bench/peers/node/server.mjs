// Node's own http server over one Redis subscription: `node server.mjs PORT REDIS_URL`; GET /<channel> follows a channel,
// whose messages are whole frames. No framework, no copy of a frame: buffers go from Redis to the sockets.
import { createServer } from "node:http";
import { createClient } from "@redis/client";

const [port, url] = process.argv.slice(2);
const streams = new Map();
const redis = createClient({ url });
await redis.connect();

const BUFFERS = true;
function relay(frame, channel) {
  for (const response of streams.get(channel.toString())) response.write(frame);
}

const server = createServer(async (request, response) => {
  const channel = request.url.slice(1);
  const followers = streams.get(channel) ?? new Set();
  followers.add(response);
  request.on("close", () => followers.delete(response));
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  if (!streams.has(channel)) {
    streams.set(channel, followers);
    await redis.subscribe(channel, relay, BUFFERS);
  }
  response.write("event: connected\n\n");
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
