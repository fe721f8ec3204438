"use strict"

// A manager that is killed with -9 at any moment while large bodies come and go, and started again on the same folder: what it
// had acknowledged is there, whole and as it was, and nothing else is.
//
// A sample of the moments, chosen by a seed that stands in the test's name; all of them with ALIEN_TEST_FAULTS=all.

const { randomBytes } = require("node:crypto")
const { eventually } = require("./lib/bed.js")
const { fetchBody, files, metric, put, sha256 } = require("./lib/payload.js")
const { numbers, seed } = require("./lib/seed.js")
const { ADMIN, managerBed } = require("./lib/wire.js")

const MOMENTS = process.env.ALIEN_TEST_FAULTS === "all" ? 100 : 10
const CALLERS = 4
const RECEIVERS = 3
/** In milliseconds: how long a manager lives at most. */
const LIFE = 400
/** In bytes. */
const SMALLEST = 150_001
const LARGEST = 2_000_000
const ARGS = ["--most-attempts", "1000"]

jest.setTimeout(15 * 60_000)

const bed = managerBed()

test(`killed with -9 at ${MOMENTS} moments while bodies come and go (seed ${seed})`, async () => {
  const random = numbers(seed)
  let manager = await bed.start({ args: ARGS })
  const its = await manager.deployment("load", "worker")
  /** By command: the digest of the parameters that were acknowledged, and of the result that was. */
  const [sent, given] = [new Map(), new Map()]
  /** Every result that was put under some lease, acknowledged or not: by command, the digests. */
  const offered = new Map()
  const wrong = []
  let calling = true
  let receiving = true

  /** Something that is done to whichever manager there is; undefined where that one went away meanwhile. */
  const attempt = async (work) => {
    const at = manager
    try {
      return await work(at)
    } catch (error) {
      if (!at.killed) throw error
      await at.next
    }
  }
  /** A presigned request, for the manager that there is now. */
  const here = (request) => ({ backend: { ...request.backend, url: request.backend.url.replace(/^http:\/\/[^/]+/, manager.url) } })
  const bytesOf = () => randomBytes(SMALLEST + Math.floor(random() * (LARGEST - SMALLEST)))

  async function caller(index) {
    for (let count = 0; calling; count++) {
      const bytes = bytesOf()
      const body = { deploymentId: "load", command: "go", targetResourceId: "worker", params: { mode: "storage", size: bytes.length }, idempotencyKey: `${index}-${count}` }
      for (let done = false; !done; ) {
        const made = await attempt(({ call }) => call("POST", "/v1/commands", { token: its.token, body }))
        if (made === undefined) continue
        const { commandId, state, storageUpload } = made.body
        if (![200, 201].includes(made.status)) return wrong.push(`create: ${made.status} ${made.text}`)
        if (state !== "PENDING_UPLOAD") {
          // Its completion had been heard of, though the answer was not.
          sent.set(commandId, sha256(bytes))
          break
        }
        const stored = await attempt(() => put(here(storageUpload), bytes))
        if (stored === undefined) continue
        if (stored.status !== 200) return wrong.push(`put: ${stored.status} ${stored.bytes}`)
        while (!done) {
          const complete = await attempt(({ call }) => call("POST", `/v1/commands/${commandId}/upload-complete`, { token: its.token, body: { size: bytes.length, sha256: sha256(bytes) } }))
          // What was put was acknowledged: it has not to be put again.
          if (complete !== undefined && complete.status !== 200) return wrong.push(`complete: ${complete.status} ${complete.text}`)
          done = complete !== undefined
        }
        sent.set(commandId, sha256(bytes))
      }
    }
  }

  async function receiver() {
    while (receiving) {
      const body = { deploymentId: "load", target: { resourceId: "worker" }, leaseSeconds: 2, waitSeconds: 0.5 }
      const answer = await attempt(({ call }) => call("POST", "/v1/commands/leases", { token: its.worker.token, body }))
      for (const { commandId, envelope } of answer?.body.leases ?? []) {
        const { params, responseHandling } = envelope
        const fetched = await attempt(() => fetchBody(here(params.storageGetRequest)))
        if (fetched?.status !== 200) continue
        if (sha256(fetched.bytes) !== params.sha256) wrong.push(`${commandId} has other parameters than it says`)
        const result = bytesOf()
        const digest = sha256(result)
        offered.set(commandId, [...(offered.get(commandId) ?? []), digest])
        const stored = await attempt(() => put(here(responseHandling.storageUploadRequest), result))
        if (stored?.status !== 200) continue
        const response = { status: "success", response: { mode: "storage", size: result.length, storagePutUsed: true, sha256: digest } }
        const ended = await attempt(({ call }) => call("PUT", responseHandling.submitResponseUrl, { body: response }))
        if (ended?.status === 200) given.set(commandId, digest)
      }
    }
  }

  const callers = Promise.all(Array.from({ length: CALLERS }, (_, index) => caller(index)))
  const receivers = Promise.all(Array.from({ length: RECEIVERS }, receiver))
  const load = Promise.all([callers, receivers])
  load.catch(() => {})
  for (let moment = 0; moment < MOMENTS && wrong.length === 0; moment++) {
    await Promise.race([load, new Promise((resolve) => setTimeout(resolve, random() * LIFE))])
    await bed.replace(manager, ARGS, (next) => (manager = next))
  }
  calling = false
  await callers
  for (const id of sent.keys()) {
    const { state, response } = await manager.ok(200, "GET", `/v1/commands/${id}?wait=60`, { token: its.token })
    if (state !== "SUCCEEDED") {
      wrong.push(`${id} is ${state}`)
      continue
    }
    const fetched = await fetchBody(response.response.storageGetRequest)
    const digest = sha256(fetched.bytes)
    if (digest !== response.response.sha256) wrong.push(`${id} has another result than it says`)
    if (given.has(id) && given.get(id) !== digest) wrong.push(`${id} has another result than was acknowledged`)
    if (!offered.get(id).includes(digest)) wrong.push(`${id} has a result that nobody gave`)
  }
  receiving = false
  await receivers
  expect(wrong).toEqual([])
  expect(sent.size).toBeGreaterThan(MOMENTS / 2)

  // Of all that came, the results are left, and what nobody has completed.
  await bed.replace(manager, ARGS, (next) => (manager = next))
  const { commands } = await manager.ok(200, "GET", "/v1/commands", { token: its.token })
  expect(commands.filter(({ state }) => state !== "SUCCEEDED")).toEqual([])
  await eventually(() => files(manager), (names) => names.every((name) => /^cmd_[^.]+\.response\.lease_[^.]+$/.test(name)))
  expect(files(manager).map((name) => name.split(".")[0]).sort()).toEqual([...sent.keys()].sort())
  expect(await metric(manager, ADMIN, "stored_bytes")).toBeGreaterThan(sent.size * SMALLEST)
  expect(await manager.end()).toBe(0)
})
