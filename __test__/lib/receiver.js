"use strict"

// A daemon that takes commands, for tests: `node receiver.js OPTIONS FOLDER`. It prints what happens, a line each, and waits
// at gates, which are files in the folder.

const { createHash } = require("node:crypto")
const fs = require("node:fs")
const path = require("node:path")
const { Readable } = require("node:stream")
const { createCommandReceiver } = require("../../js/commands/index.js")

const [options, folder] = process.argv.slice(2)
const { schemas, ...rest } = JSON.parse(options)
const receiver = createCommandReceiver(rest)
const say = (text) => console.log(text)
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function gate(name) {
  while (!fs.existsSync(path.join(folder, `gate-${name}`))) await pause(5)
}

/** The same bytes in every way in which a handler may give some. */
const kinds = {
  buffer: (bytes) => bytes,
  uint8Array: (bytes) => new Uint8Array(bytes),
  arrayBuffer: (bytes) => new Uint8Array(bytes).buffer,
  blob: (bytes) => new Blob([bytes]),
  readable: (bytes) => Readable.from([bytes.subarray(0, 10), bytes.subarray(10)]),
  webStream: (bytes) => new Blob([bytes]).stream(),
  async *generator(bytes) {
    yield bytes.subarray(0, 10)
    yield bytes.subarray(10)
  },
}

let running = 0
let peak = 0
const meeting = []

receiver
  .command("echo", (params) => params)
  .command("context", (params, { signal, progress, ...context }) => ({ ...context, aborted: signal.aborted, progress: typeof progress }))
  .command("peak", () => peak)
  // Comes to an end only when so many are here at once.
  .command("meet", async ({ count }) => {
    peak = Math.max(peak, ++running)
    await new Promise((resolve) => {
      meeting.push(resolve)
      if (meeting.length >= count) meeting.splice(0).forEach((go) => go())
    })
    running -= 1
  })
  .command("gate", async ({ name, progress }, context) => {
    say(`begun ${name} ${context.attempt}`)
    if (progress !== undefined) context.progress(progress)
    await gate(name)
    return { name, attempt: context.attempt }
  })
  .command("hold", async ({ name }, { signal, attempt }) => {
    say(`begun ${name} ${attempt}`)
    await new Promise((resolve) => signal.addEventListener("abort", resolve))
    say(`aborted ${name} ${signal.reason.code} ${signal.reason.name}`)
    throw signal.reason
  })
  // Dies over it, the first time.
  .command("die", async ({ name }, { attempt }) => {
    say(`begun ${name} ${attempt}`)
    if (attempt === 1) process.kill(process.pid, "SIGKILL")
    return attempt
  })
  .command("work", async ({ ms }, { attempt }) => {
    say(`working ${attempt}`)
    await pause(ms)
    return attempt
  })
  .command("fail", ({ code, message, details, bare, much }) => {
    if (bare) throw "just a text"
    throw Object.assign(new Error(message), { code, details: much === undefined ? details : "x".repeat(much) })
  })
  .command("big", ({ bytes }) => "x".repeat(bytes - 2))
  // Bytes in and out.
  .stream("copy", (body) => body)
  .stream("size", (_, { size }) => size ?? null)
  .stream("sum", async (body, { size, input }) => {
    const hash = createHash("sha256")
    let bytes = 0
    for await (const piece of body) {
      bytes += piece.length
      hash.update(piece)
    }
    return { bytes, size, sha256: hash.digest("hex"), same: input === body }
  })
  .stream("first", async (body) => {
    for await (const piece of body) return piece[0]
  })
  .stream("gated", async (body, { attempt }) => {
    say(`begun gated ${attempt}`)
    for await (const _ of body) await gate("gated")
    return attempt
  })
  .command("kind", ({ kind, bytes }) => kinds[kind](Buffer.alloc(bytes, "kind")))
  .command("slow", async function* ({ pieces, ms }, { attempt }) {
    say(`begun slow ${attempt}`)
    for (let count = 0; count < pieces; count++) {
      await pause(ms)
      yield Buffer.alloc(1000, count)
    }
  })
  .command("breaks", async function* () {
    yield Buffer.alloc(300_000)
    throw Object.assign(new Error("no more of it"), { code: "BROKE" })
  })
  .command("nothing", () => undefined)
  .command("bigint", () => 1n)
  .command("too-much-progress", (_, { progress }) => progress("x".repeat(5000)))

// They take long to load.
if (schemas) {
  const { type } = require("arktype")
  const valibot = require("valibot")
  const { z } = require("zod")
  let reached = 0
  const reach = (value) => (reached++, value)
  receiver
    .command("zod", z.object({ since: z.coerce.date(), list: z.array(z.object({ n: z.number() })).default([]) }), ({ since }) => reach(since.getUTCFullYear()))
    .command("valibot", valibot.object({ list: valibot.array(valibot.object({ n: valibot.number() })) }), ({ list }) => reach(list.length))
    .command("arktype", type({ list: { n: "number" }, level: "'low' | 'high' = 'low'" }), ({ level }) => reach(level))
    .command("reached", () => reached)
}

receiver.run().then(() => say("ended"))
// After the receiver, which has asked to hear of it first.
process.once("SIGTERM", () => say("stopping"))
say("started")
