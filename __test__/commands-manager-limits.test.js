"use strict"

// What protects a manager from its clients, and what operates it: bounds, hostile requests, its start and its end.

const fs = require("node:fs")
const net = require("node:net")
const path = require("node:path")
const { eventually, failure, together } = require("./lib/bed.js")
const { files, speaker } = require("./lib/payload.js")
const { ADMIN, inline, managerBed, success } = require("./lib/wire.js")

const LONG = 30
/** Text that no answer and no log may hold. */
const SECRET = "hunter2-is-secret"

// A client that says nothing more is waited for for 20 s.
jest.setTimeout(90_000)

const bed = managerBed()
let manager
beforeAll(async () => (manager = await bed.start({ args: ["--most-pending", "3"] })))

/** Sends bytes and nothing more; gives what came back, once the other side has ended the connection. */
function raw(bytes) {
  return new Promise((resolve, reject) => {
    let answer = ""
    const socket = net.connect(manager.port, "127.0.0.1", () => socket.write(bytes))
    socket.setEncoding("utf8").on("data", (text) => (answer += text)).on("error", reject).on("close", () => resolve(answer))
  })
}

/** An error as every call tells it, with nothing of what was sent. */
function refused(answer, status, code) {
  expect(answer).toMatchObject({ status, body: { code, message: expect.any(String) } })
  expect(answer.text).not.toContain(SECRET)
}

describe("requests", () => together({
  async "that are too many for a daemon are told when to come again"() {
    const its = await manager.deployment("full", "worker", "other")
    const ids = [await its.submit("a", { targetResourceId: "worker", idempotencyKey: "first" }), await its.submit("b", { targetResourceId: "worker" }), await its.submit("c", { targetResourceId: "worker" })]
    const full = await its.create("d", { targetResourceId: "worker" })
    refused(full, 429, "TOO_MANY_PENDING")
    expect(Number(full.headers["retry-after"])).toBeGreaterThan(0)
    // Whoever asks again for what there is takes no place.
    expect(await its.create("a", { targetResourceId: "worker", idempotencyKey: "first" })).toMatchObject({ status: 200, body: { commandId: ids[0] } })
    expect((await its.create("d", { targetResourceId: "other" })).status).toBe(201)
    expect((await its.cancel(ids[1])).status).toBe(200)
    expect((await its.create("d", { targetResourceId: "worker" })).status).toBe(201)
    const many = await manager.deployment("full-many", "worker")
    const statuses = (await Promise.all(Array.from({ length: 10 }, () => many.create("go")))).map(({ status }) => status)
    expect(statuses.sort()).toEqual([...Array(3).fill(201), ...Array(7).fill(429)])
  },

  async "with bodies that are too large are refused"() {
    const its = await manager.deployment("large", "worker")
    const secret = SECRET.repeat(Math.ceil(150_001 / SECRET.length))
    refused(await its.create("go", { params: inline(Buffer.from(secret)) }), 413, "BODY_TOO_LARGE")
    refused(await its.create("go", { params: inline(Buffer.from(secret.repeat(4))) }), 413, "BODY_TOO_LARGE")
    await its.submit("go")
    const [lease] = await its.worker.lease()
    refused(await its.worker.respond(lease, { status: "success", response: inline(Buffer.from(secret)) }), 413, "BODY_TOO_LARGE")
    refused(await its.worker.renew(lease, { progress: SECRET.repeat(300) }), 413, "BODY_TOO_LARGE")
    refused(await its.worker.respond(lease, { status: "error", code: SECRET.repeat(9), message: "" }), 400, "INVALID_COMMAND")
    refused(await its.worker.respond(lease, { status: "error", code: "A", message: SECRET.repeat(1000) }), 400, "INVALID_COMMAND")
    expect((await its.worker.succeed(lease)).status).toBe(200)
  },

  async "with heads that are too large are refused"() {
    const answer = await raw(`GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: ${SECRET.repeat(8000)}\r\n\r\n`).catch(({ code }) => code)
    expect(answer).toMatch(/^(HTTP\/1\.1 431 |ECONNRESET|$)/)
  },

  async "whose bodies are not what the call takes are refused without a word of them"() {
    const its = await manager.deployment("malformed", "worker")
    await its.submit("go")
    const [lease] = await its.worker.lease()
    const calls = [
      ["POST", "/v1/commands", its.token],
      ["POST", "/v1/commands/leases", its.worker.token],
      ["POST", `/v1/commands/leases/${lease.leaseId}/renew`, its.worker.token],
      ["PUT", `/v1/commands/${lease.commandId}/response`, its.worker.token],
      ["POST", "/v1/tokens", ADMIN],
    ]
    const bodies = [`{"${SECRET}`, `["${SECRET}"]`, `{"status":"${SECRET}","role":"${SECRET}","command":["${SECRET}"],"target":"${SECRET}","leaseSeconds":"${SECRET}"}`, "[".repeat(100_000), `"\\ud800${SECRET}"`]
    for (const [method, route, token] of calls) for (const body of bodies) refused(await manager.call(method, route, { token, body }), 400, "INVALID_COMMAND")
    for (const params of [{ mode: SECRET }, { mode: "inline" }, { mode: "inline", inlineBase64: `${SECRET}!` }]) refused(await its.create("go", { params }), 400, "INVALID_COMMAND")
    for (const command of ["", SECRET.repeat(100)]) refused(await its.create(command), 400, "INVALID_COMMAND")
    refused(await its.create("go", { idempotencyKey: SECRET.repeat(100) }), 400, "INVALID_COMMAND")
    refused(await its.create("go", { deadline: SECRET }), 400, "INVALID_COMMAND")
  },

  async "whose queries are not what the call takes are refused without a word of them"() {
    const its = await manager.deployment("queries", "worker")
    await its.submit("go")
    const [lease] = await its.worker.lease()
    for (const [method, route, token, body] of [
      ["GET", `/v1/commands?state=${SECRET}`, its.token],
      ["GET", `/v1/commands?cursor=${SECRET}`, its.token],
      ["GET", `/v1/commands?limit=${SECRET}`, its.token],
      ["GET", `/v1/commands/${lease.commandId}?wait=${SECRET}`, its.token],
      ["GET", `/v1/commands/%ff${SECRET}`, its.token],
      ["POST", `/v1/commands?wait=${SECRET}`, its.token, { deploymentId: "queries", command: "go" }],
      ["PUT", `/v1/commands/${lease.commandId}/response?expires=${SECRET}`, its.worker.token, success(1)],
      ["DELETE", `/v1/tokens?${SECRET}=1`, ADMIN],
    ]) refused(await manager.call(method, route, { token, body }), 400, "INVALID_COMMAND")
    for (const wait of ["-1", "NaN", "inf"]) {
      refused(await manager.call("GET", `/v1/commands/${lease.commandId}?wait=${wait}`, { token: its.token }), 400, "INVALID_COMMAND")
    }
  },

  async "for what is not there are told so as every call tells it"() {
    for (const [method, route, status, code] of [
      ["GET", "/", 404, "NOT_FOUND"], ["GET", `/v1/${SECRET}`, 404, "NOT_FOUND"], ["POST", "/v2/commands", 404, "NOT_FOUND"],
      ["PATCH", "/v1/commands", 405, "METHOD_NOT_ALLOWED"], ["POST", "/healthz", 405, "METHOD_NOT_ALLOWED"],
    ]) refused(await manager.call(method, route, { token: ADMIN }), status, code)
  },

  async "for tokens that would last longer than time does are refused"() {
    refused(await manager.call("POST", "/v1/tokens", { token: ADMIN, body: { role: "admin", expiresInSeconds: 1e17 } }), 400, "INVALID_COMMAND")
  },

  async "that stop in the middle end in time, and nobody waits for them"() {
    const stalling = await manager.deployment("slow", "worker")
    const { token } = stalling
    const { commandId, storageUpload } = await speaker(manager, stalling).begin(1_000_000)
    const { pathname, search } = new URL(storageUpload.backend.url)
    const upload = `PUT ${pathname}${search} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n${"x".repeat(500_000)}`
    const head = `POST /v1/commands HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n`
    const begun = performance.now()
    const slow = Promise.all([raw("GET /healthz HTTP/1.1\r\nhost: x\r\nx-half"), raw(`${head}{"deploymentId"`), raw(upload), raw(""), ...Array.from({ length: 200 }, () => raw(head))])
    const others = await manager.deployment("quick", "worker")
    const made = others.create("go", {}, { wait: LONG })
    const [lease] = await others.worker.lease({ waitSeconds: LONG })
    await others.worker.succeed(lease)
    expect((await made).body.state).toBe("SUCCEEDED")
    expect(performance.now() - begun).toBeLessThan(10_000)
    for (const answer of await slow) expect(answer).toMatch(/^($|HTTP\/1\.1 4)/)
    expect(performance.now() - begun).toBeLessThan(40_000)
    await eventually(() => files(manager).filter((name) => name.includes(commandId)), (left) => left.length === 0)
  },
}))

test("a database that is full takes no new commands, and goes on with those that it has", async () => {
  const small = await bed.start({ args: ["--most-database-bytes", "400000"] })
  const its = await small.deployment("d", "worker")
  const create = (idempotencyKey) => its.create("go", { params: inline(Buffer.alloc(100_000, 1)), idempotencyKey })
  const made = []
  let answer
  while ((answer = await create(`key-${made.length}`)).status === 201) made.push(answer.body.commandId)
  refused(answer, 507, "STORE_FULL")
  expect(answer.body.message).toMatch(/the database has \d+ bytes.*--most-database-bytes/)
  expect(made.length).toBeGreaterThan(0)
  // What it has it keeps: also what its callers ask for again.
  expect(await create("key-0")).toMatchObject({ status: 200, body: { commandId: made[0] } })
  const [lease] = await its.worker.lease()
  expect((await its.worker.succeed(lease, 7)).status).toBe(200)
  expect((await its.read(made[0])).state).toBe("SUCCEEDED")
  await small.end()
})

describe("an operator", () => together({
  async "asks whether it lives and whether it can work, without a token"() {
    const health = await manager.call("GET", "/healthz")
    // And for how long a connection may lie idle: clients that use one longer meet its end.
    expect(health).toMatchObject({ status: 200, body: { ok: true }, headers: { "keep-alive": "timeout=20" } })
    expect(await manager.ok(200, "GET", "/readyz")).toEqual({ ok: true })
  },
  async "counts what waits, runs and has ended"() {
    const its = await manager.deployment("counted", "worker")
    const [done] = [await its.submit("done"), await its.submit("runs"), await its.submit("waits")]
    const [first] = await its.worker.lease({ maxLeases: 2 })
    expect(first.commandId).toBe(done)
    await its.worker.succeed(first)
    const { status, text, headers } = await manager.call("GET", "/metrics", { token: ADMIN })
    expect([status, headers["content-type"]]).toEqual([200, "application/openmetrics-text; version=1.0.0; charset=utf-8"])
    const labels = '{deployment="counted",resource="worker"}'
    expect(text).toContain(`alien_commands_pending${labels} 1\n`)
    expect(text).toContain(`alien_commands_dispatched${labels} 1\n`)
    expect(text).toMatch(/^alien_commands_ended_total\{state="succeeded"\} [1-9]/m)
    expect(text).toMatch(/^alien_commands_duration_seconds_count [1-9]/m)
    for (const name of ["stored_bytes", "received_bytes_total", "sent_bytes_total"]) expect(text).toMatch(new RegExp(`^alien_commands_${name} \\d+$`, "m"))
    expect(text.endsWith("# EOF\n")).toBe(true)
  },
  async "finds neither parameters, results nor tokens in the log, nor in a file that others read"() {
    const one = await bed.start()
    const its = await one.deployment("quiet", "worker")
    await its.submit("go", { params: inline(SECRET) })
    await its.worker.succeed((await its.worker.lease())[0], SECRET)
    await one.call("POST", "/v1/commands", { token: its.token, body: `{"${SECRET}` })
    expect(await one.end()).toBe(0)
    const said = one.said.stdout + one.said.stderr
    for (const secret of [SECRET, ADMIN, its.token, its.worker.token]) expect(said).not.toContain(secret)
    const files = fs.readdirSync(one.data)
    expect(files).toEqual(expect.arrayContaining(["commands.db", "signing.key", "lock"]))
    expect((fs.statSync(one.data).mode & 0o777).toString(8)).toBe("700")
    expect(fs.readFileSync(path.join(one.data, "commands.db")).includes(its.token)).toBe(false)
  },
}))

describe("a manager", () => together({
  async "does not start where another runs, nor on an address that the network sees"() {
    expect(await failure(bed.start({ data: manager.data }))).toMatchObject({ code: 1, stderr: expect.stringContaining(`another manager runs on ${manager.data}`) })
    for (const listen of ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"]) expect(await failure(bed.start({ listen }))).toMatchObject({ code: 1, stderr: expect.stringContaining("not on loopback") })
    const taken = await failure(bed.start({ listen: `127.0.0.1:${manager.port}` }))
    expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining("in use") })
    const later = path.join(bed.folder, "later")
    fs.mkdirSync(later)
    fs.writeFileSync(path.join(later, "signing.key"), "short")
    expect(await failure(bed.start({ data: later }))).toMatchObject({ code: 1, stderr: expect.stringContaining("holds no key") })
    const broken = path.join(bed.folder, "broken")
    fs.mkdirSync(broken)
    fs.writeFileSync(path.join(broken, "commands.db"), "this is no database".repeat(1000))
    expect(await failure(bed.start({ data: broken }))).toMatchObject({ code: 1, stderr: expect.stringContaining(path.join(broken, "commands.db")) })
  },
  async "that is asked to end wakes whoever waits, and knows everything when it starts again"() {
    let one = await bed.start()
    const its = await one.deployment("again", "worker")
    const waits = await its.submit("waits", { idempotencyKey: "k" })
    const ended = await its.submit("ended")
    const [held, done] = await its.worker.lease({ maxLeases: 2 })
    await its.worker.succeed(done, "kept")
    const waiting = [its.read(waits, LONG), its.worker.lease({ waitSeconds: LONG }), its.worker.renew(held, { waitSeconds: LONG })]
    await one.ok(200, "GET", "/healthz")
    const begun = performance.now()
    const code = one.end()
    expect(await Promise.all(waiting)).toMatchObject([{ state: "DISPATCHED" }, [], { status: 200, body: { cancelled: false } }])
    expect(await code).toBe(0)
    expect(performance.now() - begun).toBeLessThan(8_000)

    one = await bed.start({ data: one.data })
    const now = one.receiver("again", "worker", its.worker.token)
    const read = (id) => one.ok(200, "GET", `/v1/commands/${id}`, { token: its.token })
    expect(await read(ended)).toMatchObject({ state: "SUCCEEDED", response: success("kept") })
    expect(await read(waits)).toMatchObject({ state: "DISPATCHED", attempt: 1 })
    expect((await one.call("POST", "/v1/commands", { token: its.token, body: { deploymentId: "again", command: "waits", idempotencyKey: "k" } })).body.commandId).toBe(waits)
    // The lease, and the signed address that came with it, are good before the next manager as well.
    expect(await now.succeed(held, "late")).toMatchObject({ status: 200, body: { state: "SUCCEEDED" } })
    expect(await read(waits)).toMatchObject({ response: success("late") })
    expect(await one.end("SIGINT")).toBe(0)
  },
  async "takes more connections than a shell lets a program have"() {
    const one = await bed.start({ via: ["prlimit", "--nofile=64:4096"] })
    const its = await one.deployment("many", "worker")
    const waiting = Array.from({ length: 300 }, () => its.worker.lease({ waitSeconds: LONG }))
    await one.ok(200, "GET", "/healthz")
    for (let index = 0; index < waiting.length; index++) await its.submit("go")
    expect((await Promise.all(waiting)).flat()).toHaveLength(waiting.length)
    await one.end()
  },
  async "lets go who does not take what was asked for"() {
    const one = await bed.start({ args: ["--most-connections", "1"] })
    const its = await one.deployment("stalled", "worker")
    // More than the sockets of both sides hold.
    await speaker(one, its).bring(Buffer.alloc(64 << 20, 1))
    const [lease] = await its.worker.lease()
    const { pathname, search } = new URL(lease.envelope.params.storageGetRequest.backend.url)
    const stalled = net.connect(one.port, "127.0.0.1").on("error", () => {})
    await new Promise((resolve) => stalled.once("connect", resolve))
    stalled.write(`GET ${pathname}${search} HTTP/1.1\r\nhost: x\r\n\r\n`)
    // There is one place: it is free again once whoever has it was let go.
    await one.ok(200, "GET", "/healthz")
    stalled.destroy()
    await one.end()
  },
  async "has places for so many connections, and takes the next when one is free"() {
    const one = await bed.start({ args: ["--most-connections", "2"] })
    const sockets = [1, 2].map(() => net.connect(one.port, "127.0.0.1"))
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("connect", resolve))))
    let answered = false
    const health = one.ok(200, "GET", "/healthz").then((body) => ((answered = true), body))
    sockets[0].write("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await new Promise((resolve) => sockets[0].once("data", resolve))
    expect(answered).toBe(false)
    sockets[1].destroy()
    expect(await health).toEqual({ ok: true })
    sockets[0].destroy()
    await one.end()
  },
  async "that was away ends at once what has run out meanwhile"() {
    let one = await bed.start()
    const its = await one.deployment("away", "worker")
    // Far enough for the command to be made before, however busy the machine is.
    const deadline = Date.now() + 3000
    const id = await its.submit("go", { deadline: new Date(deadline).toISOString() })
    expect(await its.read(id)).toMatchObject({ state: "PENDING" })
    await one.end("SIGKILL")
    await eventually(() => Date.now() > deadline)
    one = await bed.start({ data: one.data })
    expect(await one.ok(200, "GET", `/v1/commands/${id}?wait=${LONG}`, { token: its.token })).toMatchObject({ state: "EXPIRED" })
    await one.end()
  },
}))
