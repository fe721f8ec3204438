"use strict"

// A manager that is killed with -9 at any moment while it is busy, and started again on the same folder: what it had
// acknowledged is there, once, as it was, and everything comes to an end.
//
// A sample of the moments, chosen by a seed that stands in the test's name; all of them with ALIEN_TEST_FAULTS=all.

const { numbers, seed } = require("./lib/seed.js")
const { managerBed, inline, outline, success } = require("./lib/wire.js")

const MOMENTS = process.env.ALIEN_TEST_FAULTS === "all" ? 200 : 20
const DAEMONS = ["worker", "other"]
const CALLERS = 8
const RECEIVERS = 3
/** A manager lives for so many milliseconds at most; nothing that is going on takes longer. */
const LIFE = 250
/** In seconds: a lease whose manager was killed runs out soon. */
const LEASE = 1
const ARGS = ["--most-attempts", "1000"]

jest.setTimeout(15 * 60_000)

const bed = managerBed()

test(`killed with -9 at ${MOMENTS} moments under load (seed ${seed})`, async () => {
  const random = numbers(seed)
  let manager = await bed.start({ args: ARGS })
  const its = await manager.deployment("load", ...DAEMONS)
  const tokens = Object.fromEntries(DAEMONS.map((daemon) => [daemon, its[daemon].token]))
  /** What has been acknowledged: by command, the parameter it was made with, and the answer that its response was. */
  const made = new Map()
  const results = new Map()
  /** Every answer that any handler gave, acknowledged or not: a result can be one of these only. */
  const given = new Map()
  const wrong = []
  let calling = true
  let receiving = true
  let began = 0

  /** A call of whichever manager there is; undefined where that one went away before it answered. */
  const call = async (...request) => {
    const { url, call } = manager
    try {
      return await call(...request)
    } catch (error) {
      if (manager.url === url && !manager.killed) throw error
      await manager.next
    }
  }

  async function caller(index) {
    for (let count = 0; calling; count++) {
      const value = `${index}-${count}`
      const idempotencyKey = index % 2 === 0 ? `key-${value}` : undefined
      const body = { deploymentId: "load", command: "go", targetResourceId: DAEMONS[count % 2], params: inline(value), idempotencyKey }
      let answer
      // Whoever has a key asks until there is an answer; without one, what is not acknowledged may be there or not.
      do answer = await call("POST", "/v1/commands", { token: its.token, body })
      while (answer === undefined && idempotencyKey)
      if (answer === undefined) continue
      if (![200, 201].includes(answer.status)) return wrong.push(`create: ${answer.status} ${answer.text}`)
      const { commandId } = answer.body
      if (made.has(commandId)) wrong.push(`${commandId} was made twice`)
      made.set(commandId, value)
      if (count % 5 === 0) await call("GET", `/v1/commands/${commandId}?wait=1`, { token: its.token })
      if (count % 23 === 22) {
        const cancelled = await call("POST", `/v1/commands/${commandId}/cancel`, { token: its.token })
        if (cancelled?.status === 200) acknowledge(commandId, "CANCELLED")
      }
    }
  }

  function acknowledge(commandId, result) {
    if (results.has(commandId)) wrong.push(`${commandId} has ended twice: ${results.get(commandId)} and ${result}`)
    results.set(commandId, result)
  }

  async function receiver(daemon, index) {
    while (receiving) {
      const body = { deploymentId: "load", target: { resourceId: daemon }, maxLeases: 1 + (index % 4), leaseSeconds: LEASE, waitSeconds: 0.5 }
      const answer = await call("POST", "/v1/commands/leases", { token: tokens[daemon], body })
      if (answer === undefined) continue
      if (answer.status !== 200) return wrong.push(`acquire: ${answer.status} ${answer.text}`)
      await Promise.all(answer.body.leases.map(async ({ commandId, leaseId, envelope }) => {
        began++
        if (began % 7 === 0) await call("POST", `/v1/commands/leases/${leaseId}/renew`, { token: tokens[daemon], body: { leaseSeconds: LEASE, progress: began } })
        if (began % 11 === 0) return call("POST", `/v1/commands/leases/${leaseId}/release`, { token: tokens[daemon] })
        // Each delivery answers otherwise, so that a result tells which one it is of.
        const result = `${outline(envelope.params)} under ${leaseId}`
        given.set(commandId, [...(given.get(commandId) ?? []), result])
        const put = await call("PUT", envelope.responseHandling.submitResponseUrl, { body: success(result) })
        if (put?.status === 200) acknowledge(commandId, result)
        else if (put !== undefined && put.status !== 409) wrong.push(`respond: ${put.status} ${put.text}`)
      }))
    }
  }

  /** How a command that has ended is told: its result, or its state. */
  const outcome = ({ state, response }) => (state === "SUCCEEDED" ? outline(response.response) : state)

  const callers = Array.from({ length: CALLERS }, (_, index) => caller(index))
  const receivers = DAEMONS.flatMap((daemon) => Array.from({ length: RECEIVERS }, (_, index) => receiver(daemon, index)))
  const load = Promise.all([...callers, ...receivers])
  load.catch(() => {})
  for (let moment = 0; moment < MOMENTS && wrong.length === 0; moment++) {
    await Promise.race([load, new Promise((resolve) => setTimeout(resolve, random() * LIFE))])
    const known = [...results]
    await bed.replace(manager, ARGS, (next) => (manager = next))
    // Some of what had been acknowledged, at once: nothing may be known only a little later.
    for (const [id, result] of known.slice(-10)) {
      const read = await manager.ok(200, "GET", `/v1/commands/${id}`, { token: its.token })
      if (outcome(read) !== result) wrong.push(`${id} had ended with ${result}; after a kill it is ${JSON.stringify(read)}`)
    }
  }
  calling = false
  await Promise.all(callers)

  // Everything that was made ends, while the receivers go on.
  const seen = new Map()
  for (const id of made.keys()) {
    const read = await manager.ok(200, "GET", `/v1/commands/${id}?wait=30`, { token: its.token })
    if (!["SUCCEEDED", "CANCELLED"].includes(read.state)) wrong.push(`${id} has not ended: ${JSON.stringify(read)}`)
    else seen.set(id, outcome(read))
  }
  receiving = false
  await load
  expect(wrong).toEqual([])
  // Under load that was one: the kills were in the middle of something.
  expect(results.size).toBeGreaterThan(10 * MOMENTS)

  for (const [id, result] of results) if (made.has(id)) expect([id, seen.get(id)]).toEqual([id, result])
  for (const [id, result] of seen) if (result !== "CANCELLED") expect(given.get(id)).toContain(result)
  for (const [id, result] of seen) if (result !== "CANCELLED") expect(result.split(" under ")[0]).toBe(made.get(id))
  // And so it stays.
  await bed.replace(manager, ARGS, (next) => (manager = next))
  for (const [id, result] of seen) expect([id, outcome(await manager.ok(200, "GET", `/v1/commands/${id}`, { token: its.token }))]).toEqual([id, result])
  const { commands } = await manager.ok(200, "GET", "/v1/commands?state=DISPATCHED", { token: its.token })
  const { commands: pending } = await manager.ok(200, "GET", "/v1/commands?state=PENDING", { token: its.token })
  expect([...commands, ...pending].filter(({ commandId }) => made.has(commandId))).toEqual([])
  expect(await manager.end()).toBe(0)
})
