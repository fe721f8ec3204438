"use strict"

// What the manager promises callers and receivers, over HTTP as they speak it, of a real process.

const { eventually, together } = require("./lib/bed.js")
const { ADMIN, inline, managerBed, outline, success } = require("./lib/wire.js")

/** A wait that no test reaches where waits end as they must. */
const LONG = 30
/** What "at once" may take on a machine that is busy, in milliseconds: far below any wait. */
const AT_ONCE = 5_000

// Waits of the protocol are up to a minute; nothing here comes near one of them.
jest.setTimeout(60_000)

const bed = managerBed()
let manager
beforeAll(async () => (manager = await bed.start({ args: ["--most-attempts", "3"] })))

/** What a promise gives, and that it did so at once once `act` had been done, and not before. */
async function wakes(waiting, act) {
  let settled = false
  const noted = waiting.then((value) => ((settled = true), value))
  // An answer of the same manager to somebody else: the wait has arrived there before it.
  await manager.ok(200, "GET", "/healthz")
  expect(settled).toBe(false)
  const begun = performance.now()
  await act()
  const value = await noted
  expect(performance.now() - begun).toBeLessThan(AT_ONCE)
  return value
}

const attempts = async (deployment, count) => {
  let lease
  for (let attempt = 1; attempt <= count; attempt++) {
    ;[lease] = await deployment.worker.lease()
    expect(lease.attempt).toBe(attempt)
    if (attempt < count) expect((await deployment.worker.release(lease)).status).toBe(200)
  }
  return lease
}

describe("a command", () => together({
  async "takes its caller's trace along, and nothing that is none"() {
    const its = await manager.deployment("traces", "worker")
    const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    const traced = async (headers) => {
      expect((await its.create("go", {}, { headers })).status).toBe(201)
      const [{ envelope: { traceparent, tracestate } }] = await its.worker.lease()
      return [traceparent, tracestate]
    }
    expect(await traced({ traceparent: parent, tracestate: ["a=1", "b=2"] })).toEqual([parent, "a=1,b=2"])
    expect(await traced({ traceparent: parent })).toEqual([parent, undefined])
    expect(await traced({ traceparent: parent, tracestate: `a=${"x".repeat(600)}` })).toEqual([parent, undefined])
    expect(await traced({ traceparent: `cc-${parent.slice(3)}-more`, tracestate: "a=1" })).toEqual([`cc-${parent.slice(3)}-more`, "a=1"])
    for (const none of ["", "00", `ff-${parent.slice(3)}`, `${parent}-more`, parent.toUpperCase(), parent.replace(/-0af[^-]*/, `-${"0".repeat(32)}`)]) {
      expect([none, ...(await traced({ traceparent: none, tracestate: "a=1" }))]).toEqual([none, undefined, undefined])
    }
  },

  async "goes from its caller to its daemon, and its result back"() {
    const its = await manager.deployment("whole", "worker")
    const made = await its.create("sync", { params: inline({ since: "2026-05-01", text: "ключ \u{1f511} \u0000" }) }, { headers: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } })
    expect(made).toMatchObject({ status: 201, body: { state: "PENDING", attempt: 1, command: "sync", target: { resourceId: "worker", resourceType: "daemon" }, inlineAllowedUpTo: 150_000, next: "poll" } })
    const id = made.body.commandId
    expect(id).toMatch(/^cmd_[0-9a-f-]{36}$/)
    expect(await its.read(id)).toMatchObject({ commandId: id, state: "PENDING" })

    const [lease, ...more] = await its.worker.lease({ leaseSeconds: 30 })
    expect(more).toEqual([])
    expect(lease).toMatchObject({
      leaseId: expect.stringMatching(/^lease_[0-9a-f-]{36}$/), commandId: id, attempt: 1,
      envelope: {
        protocol: "arc.v1", deploymentId: "whole", target: { resourceId: "worker", resourceType: "daemon" }, commandId: id, attempt: 1, command: "sync",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", responseHandling: { maxInlineBytes: 150_000 },
      },
    })
    const left = Date.parse(lease.leaseExpiresAt) - Date.now()
    expect(left).toBeGreaterThan(20_000)
    expect(left).toBeLessThanOrEqual(30_000)
    expect(outline(lease.envelope.params)).toEqual({ since: "2026-05-01", text: "ключ \u{1f511} \u0000" })
    expect(lease.envelope.responseHandling.submitResponseUrl).toContain(`lease=${lease.leaseId}`)
    expect(await its.read(id)).toMatchObject({ state: "DISPATCHED" })

    expect(await its.worker.succeed(lease, { rows: 3 })).toMatchObject({ status: 200, body: { commandId: id, state: "SUCCEEDED" } })
    const read = await its.read(id)
    expect(read).toMatchObject({ state: "SUCCEEDED", finishedAt: expect.any(String) })
    expect(outline(read.response.response)).toEqual({ rows: 3 })
  },

  async "that fails has its handler's error"() {
    const its = await manager.deployment("fails", "worker")
    const id = await its.submit("break")
    const [lease] = await its.worker.lease()
    expect(outline(lease.envelope.params)).toBe(null)
    const error = { status: "error", code: "NO_DISK", message: "there is no room", details: { free: 0 } }
    expect(await its.worker.respond(lease, error)).toMatchObject({ status: 200, body: { state: "FAILED" } })
    expect(await its.read(id)).toMatchObject({ state: "FAILED", response: error })
  },

  async "carries bytes as they are, up to what a message takes"() {
    const its = await manager.deployment("bytes", "worker")
    const bytes = Buffer.from(Array.from({ length: 150_000 }, (_, index) => (index * 31) & 255))
    const id = await its.submit("echo", { params: inline(bytes) })
    const [lease] = await its.worker.lease()
    expect(Buffer.from(lease.envelope.params.inlineBase64, "base64").equals(bytes)).toBe(true)
    await its.worker.respond(lease, { status: "success", response: lease.envelope.params })
    expect(Buffer.from((await its.read(id)).response.response.inlineBase64, "base64").equals(bytes)).toBe(true)
  },

  async "is given to one receiver of a daemon, and to no other daemon"() {
    const its = await manager.deployment("own", "worker", "other")
    const ids = [await its.submit("a", { targetResourceId: "worker" }), await its.submit("b", { targetResourceId: "worker" })]
    expect(await its.other.lease()).toEqual([])
    const leases = await Promise.all([its.worker.lease(), its.worker.lease(), its.worker.lease()])
    expect(leases.flat().map(({ commandId }) => commandId).sort()).toEqual([...ids].sort())
  },
}))

describe("a wait", () => together({
  async "for a command wakes when one is made"() {
    const its = await manager.deployment("wake-create", "worker")
    const [lease] = await wakes(its.worker.lease({ waitSeconds: LONG }), () => its.submit("go"))
    expect(lease.envelope.command).toBe("go")
  },
  async "for a command wakes when one is given back"() {
    const its = await manager.deployment("wake-release", "worker")
    await its.submit("go")
    const [first] = await its.worker.lease()
    const [second] = await wakes(its.worker.lease({ waitSeconds: LONG }), () => its.worker.release(first))
    expect(second).toMatchObject({ commandId: first.commandId, attempt: 2 })
  },
  async "of several receivers: as many wake as there are commands"() {
    const its = await manager.deployment("wake-many", "worker")
    const waiting = [1, 2, 3].map(() => its.worker.lease({ waitSeconds: LONG }))
    await manager.ok(200, "GET", "/healthz")
    await Promise.all(["a", "b", "c"].map((name) => its.submit(name)))
    expect((await Promise.all(waiting)).flat().map(({ envelope }) => envelope.command).sort()).toEqual(["a", "b", "c"])
  },
  async "for a result wakes when it comes"() {
    const its = await manager.deployment("wake-respond", "worker")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    expect(await wakes(its.read(id, LONG), () => its.worker.succeed(lease, 1))).toMatchObject({ state: "SUCCEEDED" })
  },
  async "with the making of a command wakes when its result comes"() {
    const its = await manager.deployment("wake-invoke", "worker")
    const made = await wakes(its.create("go", {}, { wait: LONG }), async () => its.worker.succeed((await its.worker.lease({ waitSeconds: LONG }))[0], 7))
    expect(made).toMatchObject({ status: 201, body: { state: "SUCCEEDED", next: "done" } })
    expect(outline(made.body.response.response)).toBe(7)
  },
  async "for a result wakes when the command is cancelled"() {
    const its = await manager.deployment("wake-cancel", "worker")
    const id = await its.submit("go")
    expect(await wakes(its.read(id, LONG), () => its.cancel(id))).toMatchObject({ state: "CANCELLED" })
  },
  async "with a renewal wakes when the command is cancelled"() {
    const its = await manager.deployment("wake-renew", "worker")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    expect(await wakes(its.worker.renew(lease, { waitSeconds: LONG }), () => its.cancel(id))).toMatchObject({ status: 200, body: { cancelled: true } })
  },
  async "with a renewal that comes after its command was cancelled tells that, as often as it is sent, to its receiver"() {
    const its = await manager.deployment("late-renew", "worker", "other")
    const id = await its.submit("go", { targetResourceId: "worker" })
    const [lease] = await its.worker.lease()
    await its.cancel(id)
    for (let time = 0; time < 2; time++) {
      expect(await its.worker.renew(lease)).toMatchObject({ status: 200, body: { cancelled: true, leaseExpiresAt: lease.leaseExpiresAt } })
    }
    expect(await its.other.renew(lease)).toMatchObject({ status: 404, body: { code: "LEASE_NOT_FOUND" } })
    expect((await its.worker.release(lease)).status).toBe(409)
  },
  async "ends with what there is when its time is over"() {
    const its = await manager.deployment("wake-over", "worker")
    expect(await its.worker.lease({ waitSeconds: 0.05 })).toEqual([])
    const id = await its.submit("go")
    expect(await its.read(id, 0.05)).toMatchObject({ state: "PENDING" })
    const [lease] = await its.worker.lease()
    expect(await its.worker.renew(lease, { waitSeconds: 0.05 })).toMatchObject({ status: 200, body: { cancelled: false } })
  },
  async "of a receiver that has gone takes no command with it"() {
    const its = await manager.deployment("wake-gone", "worker")
    const going = new AbortController()
    const gone = its.worker.lease({ waitSeconds: LONG }, { signal: going.signal }).catch(({ name }) => name)
    await manager.ok(200, "GET", "/healthz")
    going.abort()
    expect(await gone).toBe("AbortError")
    // The end of a connection is seen in order with what comes after it, on one thread; another wait proves that it was.
    await its.worker.lease({ waitSeconds: 0.2 })
    const id = await its.submit("go")
    expect((await its.worker.lease({ waitSeconds: LONG })).map(({ commandId, attempt }) => [commandId, attempt])).toEqual([[id, 1]])
  },
}))

describe("order", () => together({
  async "is that of making, within a daemon"() {
    const its = await manager.deployment("order", "worker")
    const made = []
    for (let index = 0; index < 50; index++) made.push(await its.submit(`c${index}`))
    const given = []
    while (given.length < made.length) given.push(...(await its.worker.lease({ maxLeases: 7 })).map(({ commandId }) => commandId))
    expect(given).toEqual(made)
  },
  async "is kept by what is delivered again"() {
    const its = await manager.deployment("order-again", "worker")
    const made = [await its.submit("a"), await its.submit("b"), await its.submit("c")]
    const [first] = await its.worker.lease()
    await its.worker.release(first)
    expect((await its.worker.lease({ maxLeases: 3 })).map(({ commandId }) => commandId)).toEqual(made)
  },
  async "lets nobody wait for one that is slow"() {
    const its = await manager.deployment("order-slow", "worker")
    await its.submit("slow")
    const quick = await its.submit("quick")
    const [slow] = await its.worker.lease()
    const [next] = await its.worker.lease()
    expect(next.commandId).toBe(quick)
    expect((await its.worker.succeed(next)).status).toBe(200)
    expect(await its.read(slow.commandId)).toMatchObject({ state: "DISPATCHED" })
  },
}))

describe("an idempotency key", () => together({
  async "means the command that it came with first"() {
    const its = await manager.deployment("key", "worker")
    const send = (more) => its.create("pay", { idempotencyKey: "k", params: inline({ amount: 1 }), ...more })
    const first = await send()
    const again = await send()
    expect([first.status, again.status]).toEqual([201, 200])
    expect(again.body.commandId).toBe(first.body.commandId)
    for (const other of [{ params: inline({ amount: 2 }) }, { command: "refund" }]) {
      expect(await send(other)).toMatchObject({ status: 409, body: { code: "CONFLICT", details: { commandId: first.body.commandId } } })
    }
    const [lease] = await its.worker.lease({ maxLeases: 10 })
    await its.worker.succeed(lease, "paid")
    const ended = await send()
    expect(ended).toMatchObject({ status: 200, body: { state: "SUCCEEDED", next: "done" } })
    expect(outline(ended.body.response.response)).toBe("paid")
  },
  async "is one deployment's own"() {
    const [one, two] = [await manager.deployment("key-one", "worker"), await manager.deployment("key-two", "worker")]
    expect([await one.create("pay", { idempotencyKey: "k" }), await two.create("pay", { idempotencyKey: "k" })].map(({ status }) => status)).toEqual([201, 201])
  },
  async "makes one command of many at the same time"() {
    const its = await manager.deployment("key-many", "worker")
    const answers = await Promise.all(Array.from({ length: 20 }, () => its.create("pay", { idempotencyKey: "k" })))
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(19).fill(200), 201])
    expect(new Set(answers.map(({ body }) => body.commandId)).size).toBe(1)
    expect(await its.worker.lease({ maxLeases: 10 })).toHaveLength(1)
  },
}))

describe("a deadline", () => together({
  async "ends a command that nobody asks for"() {
    const its = await manager.deployment("late", "worker")
    const waits = await its.submit("waits", { deadline: new Date(Date.now() + 400).toISOString() })
    const [lease] = await its.worker.lease()
    const other = await its.submit("other", { deadline: new Date(Date.now() + 200).toISOString() })
    // Seen in the count of those that ended: nobody has asked for either.
    await eventually(() => manager.call("GET", "/metrics", { token: ADMIN }), ({ text }) => text.includes('alien_commands_ended_total{state="expired"} 2'))
    for (const id of [waits, other]) expect(await its.read(id)).toMatchObject({ state: "EXPIRED" })
    expect(await its.worker.renew(lease)).toMatchObject({ status: 200, body: { cancelled: true } })
    expect(await its.worker.succeed(lease)).toMatchObject({ status: 410, body: { code: "COMMAND_EXPIRED" } })
    expect(await its.cancel(other)).toMatchObject({ status: 410 })
    expect(await its.worker.lease()).toEqual([])
  },
  async "that has passed already is refused, and one that is no time"() {
    const its = await manager.deployment("past", "worker")
    expect(await its.create("go", { deadline: "2001-01-01T00:00:00Z" })).toMatchObject({ status: 410, body: { code: "COMMAND_EXPIRED" } })
    expect(await its.create("go", { deadline: "tomorrow" })).toMatchObject({ status: 400, body: { code: "INVALID_COMMAND" } })
    expect(await its.list()).toEqual({ commands: [] })
  },
  async "travels to the handler"() {
    const its = await manager.deployment("travels", "worker")
    const deadline = new Date(Date.now() + 60_000).toISOString()
    await its.submit("go", { deadline })
    const [{ envelope }] = await its.worker.lease()
    expect(Date.parse(envelope.deadline)).toBe(Date.parse(deadline))
  },
}))

describe("a lease", () => together({
  async "that runs out delivers the command again, and its response is no longer taken"() {
    const its = await manager.deployment("runs-out", "worker")
    await its.submit("a")
    await its.submit("b")
    const [first] = await its.worker.lease({ leaseSeconds: 1 })
    const [b] = await its.worker.lease()
    const [again] = await its.worker.lease({ waitSeconds: LONG })
    expect(b.envelope.command).toBe("b")
    expect(again).toMatchObject({ commandId: first.commandId, attempt: 2, envelope: { attempt: 2 } })
    expect(again.leaseId).not.toBe(first.leaseId)
    expect(await its.worker.succeed(first, "old")).toMatchObject({ status: 409, body: { code: "CONFLICT" } })
    expect(await its.worker.renew(first)).toMatchObject({ status: 404, body: { code: "LEASE_NOT_FOUND" } })
    expect(await its.worker.succeed(again, "new")).toMatchObject({ status: 200 })
    expect(outline((await its.read(first.commandId)).response.response)).toBe("new")
  },
  async "that is renewed does not run out, and tells how far its handler is"() {
    const its = await manager.deployment("renewed", "worker")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease({ leaseSeconds: 1 })
    const renewed = await its.worker.renew(lease, { leaseSeconds: 60, progress: { done: 3, of: 7 } })
    expect(renewed).toMatchObject({ status: 200, body: { cancelled: false } })
    expect(Date.parse(renewed.body.leaseExpiresAt)).toBeGreaterThan(Date.parse(lease.leaseExpiresAt))
    // Longer than the first lease was.
    expect(await its.worker.lease({ waitSeconds: 1.5 })).toEqual([])
    expect(await its.read(id)).toMatchObject({ state: "DISPATCHED", attempt: 1, progress: { done: 3, of: 7 } })
    expect((await its.worker.succeed(lease)).status).toBe(200)
  },
  async "that is given back delivers the command again"() {
    const its = await manager.deployment("released", "worker")
    await its.submit("go")
    const [lease] = await its.worker.lease()
    expect((await its.worker.release(lease)).status).toBe(200)
    expect(await its.worker.release(lease)).toMatchObject({ status: 404, body: { code: "LEASE_NOT_FOUND" } })
    expect(await its.read(lease.commandId)).toMatchObject({ state: "PENDING", attempt: 2 })
  },
  async "is the last one after as many attempts as there may be"() {
    const its = await manager.deployment("attempts", "worker")
    const id = await its.submit("go")
    const last = await attempts(its, 3)
    expect((await its.worker.release(last)).status).toBe(200)
    expect(await its.read(id)).toMatchObject({ state: "FAILED", attempt: 3, response: { code: "ATTEMPTS_EXHAUSTED", message: expect.stringContaining("after 3 attempts: its receiver gave it back") } })
    expect((await its.worker.succeed(last)).status).toBe(409)
  },
  async "that runs out the last time fails the command with the reason"() {
    const its = await manager.deployment("attempts-late", "worker")
    const id = await its.submit("go")
    await its.worker.release((await its.worker.lease())[0])
    await its.worker.release((await its.worker.lease())[0])
    await its.worker.lease({ leaseSeconds: 1 })
    expect(await its.read(id, LONG)).toMatchObject({ state: "FAILED", response: { code: "ATTEMPTS_EXHAUSTED", message: expect.stringContaining("renewed") } })
  },
  async "of a daemon that ended is taken back at once"() {
    const its = await manager.deployment("ended", "worker")
    await its.submit("a")
    await its.submit("b")
    const held = await its.worker.lease({ maxLeases: 2 })
    expect(await manager.ok(200, "POST", "/v1/deployments/ended/resources/worker/ended", { token: ADMIN })).toEqual({ takenBack: 2 })
    expect((await its.worker.lease({ maxLeases: 2 })).map(({ commandId, attempt }) => [commandId, attempt])).toEqual(held.map(({ commandId }) => [commandId, 2]))
  },
  async "is of 1 to 3600 seconds"() {
    const its = await manager.deployment("lengths", "worker")
    for (const leaseSeconds of [0, 3601]) {
      const body = { deploymentId: "lengths", target: { resourceId: "worker" }, leaseSeconds }
      expect(await manager.call("POST", "/v1/commands/leases", { token: its.worker.token, body })).toMatchObject({ status: 400 })
    }
  },
}))

describe("a result", () => together({
  async "is the first one, and stays"() {
    const its = await manager.deployment("first", "worker")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    const answers = await Promise.all([1, 2, 3].map((value) => its.worker.succeed(lease, value)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409])
    const first = answers.findIndex(({ status }) => status === 200) + 1
    expect(await its.worker.succeed(lease, 4)).toMatchObject({ status: 409, body: { details: { state: "SUCCEEDED" } } })
    expect(outline((await its.read(id)).response.response)).toBe(first)
  },
  async "under no lease is taken while the daemon has the command"() {
    const its = await manager.deployment("leaseless", "worker")
    const id = await its.submit("go")
    const put = () => manager.call("PUT", `/v1/commands/${id}/response`, { token: its.worker.token, body: success(1) })
    expect(await put()).toMatchObject({ status: 400, body: { code: "INVALID_STATE_TRANSITION" } })
    await its.worker.lease()
    expect(await put()).toMatchObject({ status: 200, body: { state: "SUCCEEDED" } })
    expect(await put()).toMatchObject({ status: 409 })
  },
  async "is not undone by a renewal that comes at the same moment"() {
    const its = await manager.deployment("race", "worker")
    for (let round = 0; round < 40; round++) {
      const id = await its.submit("go")
      const [lease] = await its.worker.lease()
      const [{ status }] = await Promise.all([its.worker.succeed(lease, round), ...[1, 2, 3, 4].map(() => its.worker.renew(lease))])
      expect(status).toBe(200)
      expect(await its.read(id)).toMatchObject({ state: "SUCCEEDED", response: success(round) })
    }
    expect((await its.list("?state=DISPATCHED")).commands).toEqual([])
  },
}))

describe("cancelling", () => together({
  async "a command that waits takes it from its daemon"() {
    const its = await manager.deployment("cancel", "worker")
    const id = await its.submit("go")
    expect(await its.cancel(id)).toMatchObject({ status: 200, body: { state: "CANCELLED", commandId: id } })
    expect(await its.cancel(id)).toMatchObject({ status: 200 })
    expect(await its.worker.lease()).toEqual([])
  },
  async "a command that runs takes no result any more"() {
    const its = await manager.deployment("cancel-running", "worker")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    expect(await its.cancel(id)).toMatchObject({ status: 200, body: { state: "CANCELLED" } })
    expect(await its.worker.succeed(lease)).toMatchObject({ status: 409, body: { code: "CONFLICT", details: { state: "CANCELLED" } } })
    expect(await its.worker.renew(lease)).toMatchObject({ status: 200, body: { cancelled: true } })
  },
  async "a command that has ended changes nothing"() {
    const its = await manager.deployment("cancel-late", "worker")
    const id = await its.submit("go")
    await its.worker.succeed((await its.worker.lease())[0], 1)
    expect(await its.cancel(id)).toMatchObject({ status: 409, body: { details: { state: "SUCCEEDED" } } })
    expect(await its.read(id)).toMatchObject({ state: "SUCCEEDED" })
  },
}))

describe("a caller that goes away", () => together({
  async "has made its command, or has not: its key never means one that nobody gets"() {
    const its = await manager.deployment("gone", "worker")
    const keys = Array.from({ length: 60 }, (_, index) => `k${index}`)
    await Promise.all(keys.map(async (idempotencyKey, index) => {
      const going = new AbortController()
      const sent = its.create("go", { idempotencyKey }, { signal: going.signal }).catch(() => {})
      for (let turns = 0; turns < index % 12; turns++) await new Promise(setImmediate)
      going.abort()
      await sent
    }))
    for (const idempotencyKey of keys) expect([200, 201]).toContain((await its.create("go", { idempotencyKey })).status)
    const given = new Set()
    await eventually(async () => {
      for (const lease of await its.worker.lease({ maxLeases: 100 })) given.add(lease.commandId)
      return given.size
    }, (size) => size === keys.length)
  },
  async "with its result on the way has given it, or has not: nobody waits for ever"() {
    const its = await manager.deployment("gone-result", "worker")
    for (let round = 0; round < 60; round++) {
      const id = await its.submit("go")
      const [lease] = await its.worker.lease()
      const going = new AbortController()
      const sent = manager.call("PUT", lease.envelope.responseHandling.submitResponseUrl, { body: success(1), signal: going.signal }).catch(() => {})
      for (let turns = 0; turns < round % 12; turns++) await new Promise(setImmediate)
      going.abort()
      await sent
      expect([200, 409]).toContain((await its.worker.succeed(lease, 1)).status)
      expect(await its.read(id, 2)).toMatchObject({ state: "SUCCEEDED" })
    }
  },
}))

describe("a list", () => together({
  async "is in pages, the newest first, without results"() {
    const its = await manager.deployment("list", "worker")
    const ids = []
    for (let index = 0; index < 7; index++) ids.unshift(await its.submit(`c${index}`))
    await its.worker.succeed((await its.worker.lease())[0], "the result")
    const seen = []
    let cursor = ""
    for (let pages = 0; cursor !== undefined && pages < 9; pages++) {
      const page = await its.list(`?limit=3${cursor && `&cursor=${cursor}`}`)
      expect(page.commands.length).toBeLessThanOrEqual(3)
      seen.push(...page.commands)
      cursor = page.cursor
    }
    expect(seen.map(({ commandId }) => commandId)).toEqual(ids)
    expect(seen.at(-1)).toMatchObject({ command: "c0", state: "SUCCEEDED" })
    expect(seen.at(-1)).not.toHaveProperty("response")
  },
  async "is of a state and a daemon, as they are now"() {
    const its = await manager.deployment("filters", "worker", "other")
    await its.submit("waits", { targetResourceId: "worker" })
    await its.submit("elsewhere", { targetResourceId: "other" })
    await its.other.lease()
    const names = async (query) => (await its.list(query)).commands.map(({ command }) => command)
    expect(await names("?target=worker")).toEqual(["waits"])
    expect(await names("?state=DISPATCHED")).toEqual(["elsewhere"])
    expect(await names("?state=PENDING&target=other")).toEqual([])
    expect(await names("?deploymentId=filters")).toEqual(["elsewhere", "waits"])
  },
}))

describe("a target that is left out", () => together({
  async "is the only daemon that takes commands"() {
    const its = await manager.deployment("only", "worker")
    expect(await its.create("go")).toMatchObject({ status: 201, body: { target: { resourceId: "worker" } } })
  },
  async "is asked for where there are several"() {
    const its = await manager.deployment("several", "one", "two")
    expect(await its.create("go")).toMatchObject({ status: 400, body: { code: "INVALID_COMMAND", message: expect.stringContaining("one, two") } })
  },
  async "is nobody where there is none, and named ones must be there"() {
    const its = await manager.deployment("nobody")
    expect(await its.create("go")).toMatchObject({ status: 400, body: { message: expect.stringContaining("no daemon") } })
    const other = await manager.deployment("somebody", "worker")
    expect(await other.create("go", { targetResourceId: "missing" })).toMatchObject({ status: 400, body: { message: expect.stringContaining("worker") } })
  },
}))
