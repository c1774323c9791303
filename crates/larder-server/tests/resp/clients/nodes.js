// What an application does with ioredis or node-redis.
//
//     nodes.js PORT ioredis|redis2|redis3
//
// Whatever is not as it should be ends it with an error. At the end it says how much it has checked.

const assert = require("node:assert/strict");

let checked = 0;

function check(found, expected, what) {
  assert.deepEqual(found, expected, what);
  checked += 1;
}

const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

async function withIoredis(port) {
  const Redis = require("ioredis");
  const [r, other, subscriber] = [0, 1, 2].map(() => new Redis({ port, lazyConnect: false }));
  await r.flushall();
  check(await r.set("k", "v"), "OK", "set");
  check(await r.get("k"), "v", "get");
  check(await r.get("absent"), null, "a miss");
  check(await r.set("k", "w", "NX"), null, "set nx");
  check(await r.set("k", "w", "EX", 100, "XX", "GET"), "v", "set ex xx get");
  check((await r.ttl("k")) > 97, true, "ttl");
  check(await r.persist("k"), 1, "persist");
  check(await r.mset("a", 1, "b", 2), "OK", "mset");
  check(await r.mget("a", "b", "absent"), ["1", "2", null], "mget");
  check(await r.incrby("a", 41), 42, "incrby");
  check(await r.set(every, every), "OK", "every byte");
  check(await r.getBuffer(every), every, "every byte back");
  await assert.rejects(r.incr("k"), /not an integer/);

  const pipeline = r.pipeline();
  for (let i = 0; i < 1000; i += 1) pipeline.set(`p:${i}`, i);
  check((await pipeline.exec()).every(([error, reply]) => error === null && reply === "OK"), true, "a thousand sets");

  const found = new Set();
  for await (const keys of r.scanStream({ match: "p:*", count: 100 })) keys.forEach((key) => found.add(key));
  check(found.size, 1000, "a scan");

  check(await r.multi().incr("a").get("a").exec(), [[null, 43], [null, "43"]], "a transaction");
  await r.watch("a");
  await other.set("a", 1);
  check(await r.multi().incr("a").exec(), null, "a transaction over what was changed");

  check(await subscriber.subscribe("news", "__keyevent@0__:expired"), 2, "subscribe");
  check(await subscriber.psubscribe("x*"), 3, "psubscribe");
  check(await subscriber.unsubscribe("news"), 2, "unsubscribe");
  check(await r.flushdb(), "OK", "flushdb");
  check(await r.dbsize(), 0, "dbsize");
  for (const client of [r, other, subscriber]) await client.quit();
  return `ioredis ${require("ioredis/package.json").version}`;
}

async function withNodeRedis(port, RESP) {
  const { createClient, RESP_TYPES } = require("redis");
  const clients = [0, 1, 2].map(() => createClient({ socket: { port }, RESP }));
  for (const client of clients) client.on("error", (error) => { throw error; });
  await Promise.all(clients.map((client) => client.connect()));
  const [r, other, subscriber] = clients;
  await r.flushAll();
  check(await r.set("k", "v"), "OK", "set");
  check(await r.get("k"), "v", "get");
  check(await r.get("absent"), null, "a miss");
  check(await r.set("k", "w", { NX: true }), null, "set nx");
  check(await r.set("k", "w", { EX: 100 }), "OK", "set ex");
  check((await r.ttl("k")) > 97, true, "ttl");
  check(await r.persist("k"), 1, "persist");
  check(await r.mSet({ a: "1", b: "2" }), "OK", "mset");
  check(await r.mGet(["a", "b", "absent"]), ["1", "2", null], "mget");
  check(await r.incrBy("a", 41), 42, "incrby");
  check(await r.set(every, every), "OK", "every byte");
  check(await r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).get(every), every, "every byte back");
  await assert.rejects(r.incr("k"), /not an integer/);

  const sets = Array.from({ length: 1000 }, (_, i) => r.set(`p:${i}`, String(i)));
  check((await Promise.all(sets)).every((reply) => reply === "OK"), true, "a thousand sets");

  const found = new Set();
  for await (const keys of r.scanIterator({ MATCH: "p:*", COUNT: 100 })) for (const key of [].concat(keys)) found.add(key);
  check(found.size, 1000, "a scan");

  check(await r.multi().incr("a").get("a").exec(), [43, "43"], "a transaction");
  await r.watch("a");
  await other.set("a", "1");
  await assert.rejects(r.multi().incr("a").exec(), { name: /WatchError|Error/ }, "a transaction over what was changed");
  checked += 1;

  await subscriber.subscribe("news", () => {});
  await subscriber.pSubscribe("x*", () => {});
  await subscriber.unsubscribe("news");
  await subscriber.pUnsubscribe("x*");
  check(String(await subscriber.ping()), "PONG", "a ping after subscriptions");
  if (RESP === 3) await cached(createClient, port, r);
  await r.flushDb();
  check(await r.dbSize(), 0, "dbsize");
  for (const client of clients) await client.close();
  return `node-redis ${require("redis/package.json").version} in RESP${RESP}`;
}

// Asks until it is so, for as long as something may take that is about to happen.
async function soon(what, isSo) {
  const began = Date.now();
  while (!(await isSo())) {
    if (Date.now() - began > 20_000) throw new Error(`${what} did not come about`);
    await new Promise(setImmediate);
  }
  checked += 1;
}

// The client's own cache, which the server tells what changed.
async function cached(createClient, port, far) {
  const near = createClient({ socket: { port }, RESP: 3, clientSideCache: { ttl: 0, maxEntries: 100 } });
  near.on("error", (error) => { throw error; });
  await near.connect();
  await far.set("near", "old");
  check(await near.get("near"), "old", "a first read");
  check(await near.get("near"), "old", "a read from the client's cache");
  await far.set("near", "new");
  await soon("word of a change", async () => (await near.get("near")) === "new");
  await far.del("near");
  await soon("word of a deletion", async () => (await near.get("near")) === null);
  await near.close();
}

async function main() {
  const [port, library] = [Number(process.argv[2]), process.argv[3]];
  const name = library === "ioredis" ? await withIoredis(port) : await withNodeRedis(port, Number(library.slice(-1)));
  console.log(`${checked} checks, ${name}`);
}

main().catch((error) => {
  console.error(error);
  // Its connections would keep it alive.
  process.exit(1);
});
