"use strict"

// Bodies that do not fit a message, as they travel: spoken by hand to real managers, in the words of published clients.

const { spawnSync } = require("node:child_process")
const { randomBytes } = require("node:crypto")
const fs = require("node:fs")
const net = require("node:net")
const path = require("node:path")
const { eventually, isRoot, needs, together } = require("./lib/bed.js")
const { fetchBody, files, metric, put, request, sha256, speaker } = require("./lib/payload.js")
const { ADMIN, inline, managerBed } = require("./lib/wire.js")

const LIMIT = 150_000
/** Whether this machine allows a mount namespace, in which a small disk is nobody else's. */
const alone = spawnSync("unshare", isRoot ? ["-m", "true"] : ["-Urm", "true"]).status
const MOST = 4_000_000

jest.setTimeout(60_000)

const bed = managerBed()
let manager
beforeAll(async () => (manager = await bed.start({ args: ["--most-body-bytes", String(MOST)] })))

/** A new deployment with a daemon `worker`, and what may be said of its bodies. */
async function deployment(name, at = manager) {
  const its = await at.deployment(name, "worker")
  return { ...its, ...speaker(at, its) }
}

/** Those files of a command that are there. */
const filesOf = (id, at = manager) => files(at).filter((name) => name.includes(id))
const gone = (id, at) => eventually(() => filesOf(id, at), (left) => left.length === 0)

describe("parameters", () => together({
  async "that are too large for a message are put under a signed address, and reach the receiver by another"() {
    const its = await deployment("params")
    const bytes = randomBytes(1_000_000)
    const made = await its.begin(bytes.length)
    expect(made).toMatchObject({ commandId: expect.any(String), state: "PENDING_UPLOAD", next: "upload", inlineAllowedUpTo: LIMIT })
    const { storageUpload, commandId } = made
    expect(storageUpload).toMatchObject({ backend: { type: "http", method: "PUT", url: expect.stringMatching(new RegExp(`^${manager.url}/v1/commands/${commandId}/payload\\?`)), headers: {} }, operation: "put", path: expect.any(String) })
    expect(Date.parse(storageUpload.expiration) - Date.now()).toBeGreaterThan(3_500_000)
    // Nobody gets it before it is whole.
    expect(await its.worker.lease()).toEqual([])
    expect(await put(storageUpload, bytes)).toMatchObject({ status: 200, body: { size: bytes.length, sha256: sha256(bytes) } })
    expect(await its.worker.lease()).toEqual([])
    expect((await its.complete(commandId, { size: bytes.length })).body).toMatchObject({ commandId, state: "PENDING" })

    const [{ envelope }] = await its.worker.lease()
    const { storageGetRequest, ...body } = envelope.params
    expect(body).toEqual({ mode: "storage", size: bytes.length, sha256: sha256(bytes) })
    expect(storageGetRequest).toMatchObject({ backend: { method: "GET" }, operation: "get" })
    const fetched = await fetchBody(storageGetRequest)
    expect(fetched.bytes.equals(bytes)).toBe(true)
    expect(fetched).toMatchObject({ status: 200, headers: {
      "content-length": String(bytes.length), "content-type": "application/octet-stream", "accept-ranges": "bytes",
      etag: `"${sha256(bytes)}"`, "repr-digest": `sha-256=:${sha256(bytes, "base64")}:`,
    } })
  },

  async "at the limit of a message, one less and one more"() {
    const its = await deployment("limits")
    for (const size of [LIMIT - 1, LIMIT]) await its.submit("go", { params: inline(Buffer.alloc(size, 1)) })
    expect(await its.create("go", { params: inline(Buffer.alloc(LIMIT + 1, 1)) })).toMatchObject({ status: 413, body: { code: "BODY_TOO_LARGE" } })
    for (const size of [0, 1, LIMIT - 1, LIMIT, LIMIT + 1]) await its.bring(Buffer.alloc(size, size))
    const leases = await its.worker.lease({ maxLeases: 10 })
    expect(leases.map(({ envelope }) => envelope.params.size)).toEqual([undefined, undefined, 0, 1, LIMIT - 1, LIMIT, LIMIT + 1])
    for (const { envelope: { params } } of leases.slice(2)) {
      expect((await fetchBody(params.storageGetRequest)).bytes.equals(Buffer.alloc(params.size, params.size))).toBe(true)
    }
  },

  async "whose size nobody knows yet may come in pieces"() {
    const its = await deployment("unknown")
    const { commandId, storageUpload } = await its.begin(undefined)
    const bytes = randomBytes(700_000)
    const pieces = Array.from({ length: 70 }, (_, index) => bytes.subarray(index * 10_000, (index + 1) * 10_000))
    expect(await put(storageUpload, pieces)).toMatchObject({ status: 200, body: { size: bytes.length } })
    // All that is said may be left out.
    expect((await its.complete(commandId)).body).toMatchObject({ state: "PENDING" })
    const [{ envelope }] = await its.worker.lease()
    expect((await fetchBody(envelope.params.storageGetRequest)).bytes.equals(bytes)).toBe(true)
  },

  async "may be put again until they are said to be there, which may be said twice"() {
    const its = await deployment("again")
    const [first, second] = [randomBytes(200_000), randomBytes(200_000)]
    const { commandId, storageUpload } = await its.begin(first.length)
    expect(await its.complete(commandId)).toMatchObject({ status: 400, body: { code: "PAYLOAD_NOT_FOUND" } })
    expect((await put(storageUpload, first)).status).toBe(200)
    expect((await put(storageUpload, second)).status).toBe(200)
    expect(filesOf(commandId)).toEqual([`${commandId}.params`])
    const all = await Promise.all([1, 2, 3].map(() => its.complete(commandId, { size: first.length, sha256: sha256(second) })))
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(await put(storageUpload, first)).toMatchObject({ status: 400, body: { code: "INVALID_STATE_TRANSITION" } })
    const [lease] = await its.worker.lease()
    expect(await put(storageUpload, first)).toMatchObject({ status: 400, body: { code: "INVALID_STATE_TRANSITION" } })
    expect((await fetchBody(lease.envelope.params.storageGetRequest)).bytes.equals(second)).toBe(true)
    expect(await its.worker.lease()).toEqual([])
    await its.worker.succeed(lease)
    expect((await its.complete(commandId, { size: first.length })).body).toMatchObject({ state: "SUCCEEDED" })
    expect(await its.complete(commandId, { size: 1 })).toMatchObject({ status: 400, body: { code: "SIZE_MISMATCH" } })
    expect(await put(storageUpload, first)).toMatchObject({ status: 409, body: { code: "CONFLICT" } })
    const small = await its.submit("go")
    expect(await its.complete(small)).toMatchObject({ status: 400, body: { code: "INVALID_STATE_TRANSITION" } })
  },

  async "with the same idempotency key are the same, and what is still to come is said again"() {
    const its = await deployment("key")
    const bytes = randomBytes(LIMIT + 1)
    const key = { idempotencyKey: "k" }
    const one = await its.begin(bytes.length, key)
    const two = await its.begin(bytes.length, key)
    expect(two).toMatchObject({ commandId: one.commandId, state: "PENDING_UPLOAD" })
    expect((await put(two.storageUpload, bytes)).status).toBe(200)
    await its.complete(one.commandId)
    const three = await its.begin(bytes.length, key)
    expect(three).toMatchObject({ commandId: one.commandId, state: "PENDING", next: "poll" })
    expect(three.storageUpload).toBeUndefined()
    for (const params of [{ mode: "storage", size: 7 }, inline(1)]) expect(await its.create("go", { params, ...key })).toMatchObject({ status: 409 })
  },

  async "answer with the command's end where the caller waits"() {
    const its = await deployment("waits")
    const { commandId, storageUpload } = await its.begin(3, {}, 30)
    await put(storageUpload, Buffer.from("[1]"))
    const end = its.complete(commandId, { size: 3 }, 30)
    const [lease] = await its.worker.lease({ waitSeconds: 30 })
    await its.worker.succeed(lease, 7)
    expect((await end).body).toMatchObject({ state: "SUCCEEDED", response: { response: inline(7) } })
  },
}))

describe("results", () => together({
  async "that are too large for a message are put before they are given, and fetched from a fresh address"() {
    const its = await deployment("results")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    const { storageUploadRequest } = lease.envelope.responseHandling
    const bytes = randomBytes(1_500_000)
    expect(await its.worker.respond(lease, its.stored(bytes.length))).toMatchObject({ status: 400, body: { code: "PAYLOAD_NOT_FOUND" } })
    expect(await put(storageUploadRequest, bytes)).toMatchObject({ status: 200 })
    expect(await its.read(id)).toMatchObject({ state: "DISPATCHED" })
    expect(await its.worker.respond(lease, its.stored(bytes.length))).toMatchObject({ status: 200, body: { state: "SUCCEEDED" } })
    const { response } = await its.read(id)
    expect(response).toMatchObject({ status: "success", response: { mode: "storage", size: bytes.length, sha256: sha256(bytes), storageGetRequest: { operation: "get" } } })
    expect((await fetchBody(response.response.storageGetRequest)).bytes.equals(bytes)).toBe(true)
    // It stays what it is.
    expect(await put(storageUploadRequest, randomBytes(10))).toMatchObject({ status: 409 })
    expect(await its.worker.respond(lease, its.stored(bytes.length))).toMatchObject({ status: 409 })
    expect(filesOf(id)).toEqual([`${id}.response.${lease.leaseId}`])
    expect((await its.list()).commands[0].response).toBeUndefined()
  },

  async "of a receiver that knows no leases count while it has the command"() {
    const its = await deployment("plain")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    await put(lease.envelope.responseHandling.storageUploadRequest, Buffer.from("[2]"))
    const url = lease.envelope.responseHandling.submitResponseUrl.replace(/&lease=.*/, "")
    expect(await manager.call("PUT", url, { body: its.stored(3) })).toMatchObject({ status: 200 })
    expect(await its.read(id)).toMatchObject({ state: "SUCCEEDED", response: { response: { mode: "storage", size: 3 } } })
  },

  async "put under a lease that was lost are nobody's, and overwrite nothing"() {
    const its = await deployment("lost")
    const id = await its.submit("go")
    const [first] = await its.worker.lease()
    const late = Buffer.from('"late"')
    expect((await put(first.envelope.responseHandling.storageUploadRequest, Buffer.from('"early"'))).status).toBe(200)
    await its.worker.release(first)
    await eventually(() => filesOf(id), (left) => left.length === 0)
    const [second] = await its.worker.lease()
    expect(await put(first.envelope.responseHandling.storageUploadRequest, late)).toMatchObject({ status: 409, body: { code: "CONFLICT" } })
    expect((await put(second.envelope.responseHandling.storageUploadRequest, Buffer.from('"second"'))).status).toBe(200)
    expect(await put(first.envelope.responseHandling.storageUploadRequest, late)).toMatchObject({ status: 409 })
    expect(await its.worker.respond(first, its.stored(late.length))).toMatchObject({ status: 409 })
    expect(await its.worker.respond(second, its.stored(8))).toMatchObject({ status: 200 })
    const { response } = await its.read(id)
    expect((await fetchBody(response.response.storageGetRequest)).bytes.toString()).toBe('"second"')
  },

  async "that are on their way when their lease is lost are cut off"() {
    const its = await deployment("cut-off")
    const id = await its.submit("go")
    const [lease] = await its.worker.lease()
    let go
    const lost = new Promise((resolve) => (go = resolve))
    async function* pieces() {
      yield randomBytes(300_000)
      await lost
      yield randomBytes(300_000)
    }
    const upload = put(lease.envelope.responseHandling.storageUploadRequest, pieces())
    await eventually(() => filesOf(id), (there) => there.length === 1)
    await its.worker.release(lease)
    go()
    expect(await upload).toMatchObject({ status: 409, body: { code: "CONFLICT" } })
    await gone(id)
  },
}))

describe("what is not what was said", () => together({
  async "is refused: another size, another digest"() {
    const its = await deployment("said")
    const bytes = randomBytes(200_000)
    const { commandId, storageUpload } = await its.begin(bytes.length)
    for (const wrong of [Buffer.concat([bytes, bytes]), bytes.subarray(1)]) expect(await put(storageUpload, wrong)).toMatchObject({ status: 400, body: { code: "SIZE_MISMATCH" } })
    // In pieces, so that nobody sees it before.
    expect(await put(storageUpload, [bytes, bytes])).toMatchObject({ status: 400, body: { code: "SIZE_MISMATCH", details: { said: bytes.length } } })
    expect(await put(storageUpload, [bytes.subarray(1)])).toMatchObject({ status: 400, body: { code: "SIZE_MISMATCH" } })
    const digest = (other) => `sha-512=:AAAA:, sha-256=:${sha256(other, "base64")}:`
    for (const name of ["repr-digest", "content-digest"]) {
      expect(await put(storageUpload, bytes, { [name]: digest(Buffer.from("other")) })).toMatchObject({ status: 400, body: { code: "DIGEST_MISMATCH" } })
      expect(await put(storageUpload, bytes, { [name]: "sha-256=:no:" })).toMatchObject({ status: 400, body: { code: "INVALID_COMMAND" } })
    }
    expect(await its.complete(commandId)).toMatchObject({ status: 400, body: { code: "PAYLOAD_NOT_FOUND" } })
    await gone(commandId)
    for (const name of ["repr-digest", "content-digest"]) expect(await put(storageUpload, bytes, { [name]: digest(bytes) })).toMatchObject({ status: 200 })
    expect(await its.complete(commandId, { size: 1 })).toMatchObject({ status: 400, body: { code: "SIZE_MISMATCH" } })
    expect(await its.complete(commandId, { sha256: sha256(Buffer.from("other")) })).toMatchObject({ status: 400, body: { code: "DIGEST_MISMATCH" } })
    expect(await its.complete(commandId, { sha256: "abc" })).toMatchObject({ status: 400, body: { code: "INVALID_COMMAND" } })
    // Then it can still be put again.
    expect(await put(storageUpload, bytes)).toMatchObject({ status: 200 })
    expect(await its.complete(commandId, { sha256: sha256(bytes).toUpperCase() })).toMatchObject({ status: 200 })
  },

  async "is refused of results too"() {
    const its = await deployment("said-results")
    await its.submit("go")
    const [lease] = await its.worker.lease()
    await put(lease.envelope.responseHandling.storageUploadRequest, Buffer.from("[3]"))
    expect(await its.worker.respond(lease, its.stored(4))).toMatchObject({ status: 400, body: { code: "SIZE_MISMATCH" } })
    expect(await its.worker.respond(lease, its.stored(3, { sha256: sha256(Buffer.from("4")) }))).toMatchObject({ status: 400, body: { code: "DIGEST_MISMATCH" } })
    expect(await put(lease.envelope.responseHandling.storageUploadRequest, Buffer.from("[33]"))).toMatchObject({ status: 200 })
    expect(await its.worker.respond(lease, its.stored(4, { sha256: sha256(Buffer.from("[33]")) }))).toMatchObject({ status: 200 })
  },

  async "on the disk is told, not given"() {
    const its = await deployment("corrupt")
    const id = await its.bring(randomBytes(200_000))
    const [{ envelope }] = await its.worker.lease()
    const file = path.join(manager.data, "blobs", `${id}.params`)
    fs.truncateSync(file, 199_999)
    expect(await fetchBody(envelope.params.storageGetRequest)).toMatchObject({ status: 500, body: { code: "PAYLOAD_CORRUPT" } })
    fs.rmSync(file)
    expect(await fetchBody(envelope.params.storageGetRequest)).toMatchObject({ status: 404, body: { code: "PAYLOAD_NOT_FOUND" } })
  },
}))

describe("a part of a body", () => together({
  async "is had by its range"() {
    const its = await deployment("ranges")
    const bytes = randomBytes(300_000)
    await its.bring(bytes)
    const [{ envelope }] = await its.worker.lease()
    const get = (headers) => fetchBody(envelope.params.storageGetRequest, headers)
    const etag = `"${sha256(bytes)}"`
    for (const [range, first, end] of [["0-0", 0, 1], ["100000-", 100_000, 300_000], ["299999-400000", 299_999, 300_000], ["-7", 299_993, 300_000], ["-400000", 0, 300_000]]) {
      const part = await get({ range: `bytes=${range}`, "if-range": etag })
      expect([part.status, part.headers["content-range"], part.headers["content-length"]]).toEqual([206, `bytes ${first}-${end - 1}/300000`, String(end - first)])
      expect(part.bytes.equals(bytes.subarray(first, end))).toBe(true)
    }
    for (const range of ["300000-", "400000-500000", "-0"]) expect(await get({ range: `bytes=${range}` })).toMatchObject({ status: 416, headers: { "content-range": "bytes */300000" } })
    for (const headers of [{ range: "bytes=0-1", "if-range": '"other"' }, { range: "bytes=0-1,3-4" }, { range: "lines=1-2" }, { range: "bytes=2-1" }, { range: "bytes=x-" }]) expect((await get(headers)).bytes.equals(bytes)).toBe(true)
  },
}))

describe("limits", () => together({
  async "of one body: what is larger is refused before it comes, or when it is seen"() {
    const its = await deployment("most")
    expect(await its.create("go", { params: { mode: "storage", size: MOST + 1 } })).toMatchObject({ status: 413, body: { code: "BODY_TOO_LARGE", details: { mostBodyBytes: MOST } } })
    const { commandId, storageUpload } = await its.begin(undefined)
    expect(await put(storageUpload, Buffer.alloc(MOST + 1))).toMatchObject({ status: 413 })
    expect(await put(storageUpload, [Buffer.alloc(MOST), Buffer.alloc(1)])).toMatchObject({ status: 413 })
    await gone(commandId)
    expect(await put(storageUpload, [Buffer.alloc(MOST)])).toMatchObject({ status: 200 })
  },

  async "of all of them: what was promised counts, and is given back"() {
    const one = await bed.start({ args: ["--most-storage-bytes", "1000000"] })
    const its = await deployment("sum", one)
    const full = { status: 507, body: { code: "STORAGE_FULL", details: { mostStorageBytes: 1_000_000 } } }
    const used = () => metric(one, ADMIN, "stored_bytes")
    const promised = await its.begin(600_000)
    expect(await its.create("go", { params: { mode: "storage", size: 400_001 } })).toMatchObject(full)
    const unknown = await its.begin(undefined)
    expect(await put(unknown.storageUpload, [Buffer.alloc(400_001)])).toMatchObject(full)
    await eventually(used, (bytes) => bytes === 600_000)
    expect(await put(unknown.storageUpload, [Buffer.alloc(400_000)])).toMatchObject({ status: 200 })
    // The old one is there until the new one is.
    expect(await put(unknown.storageUpload, [Buffer.alloc(400_000)])).toMatchObject(full)
    expect(await used()).toBe(1_000_000)
    await its.cancel(promised.commandId)
    expect(await used()).toBe(400_000)
    expect((await its.begin(600_000)).state).toBe("PENDING_UPLOAD")
    await its.complete(unknown.commandId)
    const [lease] = await its.worker.lease()
    expect(await put(lease.envelope.responseHandling.storageUploadRequest, Buffer.alloc(10))).toMatchObject(full)
    await its.worker.succeed(lease)
    expect(await used()).toBe(600_000)
    await one.end()
  },

  async "of commands that wait: those whose parameters are still to come count"() {
    const one = await bed.start({ args: ["--most-pending", "2"] })
    const its = await deployment("pending", one)
    const [first] = [await its.begin(10), await its.begin(10)]
    for (const params of [{ mode: "storage", size: 10 }, inline(1)]) expect(await its.create("go", { params })).toMatchObject({ status: 429 })
    await put(first.storageUpload, Buffer.alloc(10))
    await its.complete(first.commandId)
    expect(await its.create("go")).toMatchObject({ status: 429 })
    await its.cancel(first.commandId)
    expect(await its.create("go")).toMatchObject({ status: 201 })
    expect((await one.call("GET", "/metrics", { token: ADMIN })).text).toContain('alien_commands_dispatched{deployment="pending",resource="worker"} 0\n')
    await one.end()
  },
}))

needs(alone !== 0 && "this machine allows no mount namespaces (unshare)").test("a disk that is full: nothing half is left, and commands go on", async () => {
  const mount = 'mkdir -p "$0" && mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"'
  const data = path.join(bed.folder, "small")
  const one = await bed.start({ data, via: ["unshare", isRoot ? "-m" : "-Urm", "sh", "-c", mount, data] })
  const inside = { data: `/proc/${one.child.pid}/root${data}` }
  const its = await deployment("disk", one)
  const { commandId, storageUpload } = await its.begin(undefined)
  const full = await put(storageUpload, Array.from({ length: 32 }, () => Buffer.alloc(1024 * 1024)))
  expect(full).toMatchObject({ status: 507, body: { code: "STORAGE_FULL", message: expect.stringContaining("disk") } })
  await eventually(() => files(inside), (left) => left.length === 0)
  expect(await its.create("small")).toMatchObject({ status: 201 })
  expect(await put(storageUpload, Buffer.alloc(1024 * 1024))).toMatchObject({ status: 200 })
  expect(await its.complete(commandId)).toMatchObject({ status: 200 })
  await one.end()
})

describe("an address", () => together({
  async "lets do what it is for, and nothing else"() {
    const its = await deployment("signed")
    const [one, two] = [await its.begin(10), await its.begin(10)]
    const [id, other] = [one.commandId, two.commandId]
    const url = one.storageUpload.backend.url
    const changes = [
      (url) => url.replace(id, other),
      (url) => url.replace("body=params", "body=response"),
      (url) => url.replace(/expires=(\d+)/, (_, at) => `expires=${Number(at) + 1}`),
      (url) => `${url}&lease=lease_x`,
      (url) => url.replace(/payload_token=(.)/, (_, digit) => `payload_token=${digit === "0" ? 1 : 0}`),
      (url) => url.replace(/payload_token=.{32}/, "payload_token="),
      (url) => url.replace(/payload_token=/, "payload_token=+"),
    ]
    for (const change of changes) expect(await request("PUT", change(url), { bytes: Buffer.alloc(10) })).toMatchObject({ status: 403, body: { code: "SIGNATURE_INVALID" } })
    expect(await request("GET", url)).toMatchObject({ status: 403 })
    for (const left of [/&payload_token=\w+/, /&expires=\d+/]) expect(await request("PUT", url.replace(left, ""), { bytes: Buffer.alloc(10) })).toMatchObject({ status: 403 })
    expect(await request("PUT", url.replace(/body=params&/, ""), { bytes: Buffer.alloc(10) })).toMatchObject({ status: 400 })
    expect(await put(one.storageUpload, Buffer.alloc(10))).toMatchObject({ status: 200 })
    await its.complete(id)
    const [lease] = await its.worker.lease()
    const { storageUploadRequest } = lease.envelope.responseHandling
    // Of another lease, and that of the result itself.
    expect(await request("PUT", storageUploadRequest.backend.url.replace(/lease=.*/, "lease=lease_x"), { bytes: Buffer.alloc(1) })).toMatchObject({ status: 403 })
    const response = new URLSearchParams(lease.envelope.responseHandling.submitResponseUrl.split("?")[1])
    const forged = `${manager.url}/v1/commands/${id}/payload?body=response&payload_token=${response.get("response_token")}&expires=${response.get("expires")}&lease=${lease.leaseId}`
    expect(await request("PUT", forged, { bytes: Buffer.alloc(1) })).toMatchObject({ status: 403 })
    // With a token that is for it, a lease has to be the current one all the same.
    const headers = { authorization: `Bearer ${its.worker.token}` }
    const bare = `${manager.url}/v1/commands/${id}/payload?body=response&lease=`
    for (const lease of ["", "lease_x", "../../commands.db"]) expect(await request("PUT", bare + lease, { bytes: Buffer.alloc(1), headers })).toMatchObject({ status: 409 })
    expect(await request("PUT", bare + lease.leaseId, { bytes: Buffer.alloc(1), headers })).toMatchObject({ status: 200 })
  },

  async "of another manager is none"() {
    const other = await bed.start()
    const theirs = await deployment("theirs", other)
    const { storageUpload } = await theirs.begin(1)
    expect(await request("PUT", storageUpload.backend.url.replace(other.url, manager.url), { bytes: Buffer.alloc(1) })).toMatchObject({ status: 403 })
    await other.end()
  },

  async "leads where whoever asks has found the manager"() {
    const its = await deployment("host")
    const at = async (headers) => {
      const { body } = await its.create("go", { params: { mode: "storage" } }, { headers })
      return body.storageUpload.backend.url
    }
    expect(await at({ host: "manager.example:8443", "x-forwarded-proto": "https" })).toMatch(/^https:\/\/manager\.example:8443\/v1\/commands\//)
    expect(await at({ host: "[::1]:7001" })).toMatch(/^http:\/\/\[::1\]:7001\/v1\//)
    expect(await at({ host: 'x"y' })).toMatch(/^\/v1\/commands\//)
  },
}))

describe("a body goes", () => together({
  async "with its command: parameters when it has ended, a result when it is forgotten"() {
    const one = await bed.start()
    const its = await deployment("gone", one)
    const id = await its.bring(randomBytes(200_000))
    const [lease] = await its.worker.lease()
    await put(lease.envelope.responseHandling.storageUploadRequest, randomBytes(200_000))
    expect(filesOf(id, one)).toHaveLength(2)
    await its.worker.respond(lease, its.stored(200_000))
    await eventually(() => filesOf(id, one), (left) => left.length === 1)
    expect(await fetchBody(lease.envelope.params.storageGetRequest)).toMatchObject({ status: 404 })
    expect(await metric(one, ADMIN, "stored_bytes")).toBe(200_000)
    await one.end()
    // What has ended is forgotten at once, when it starts.
    const two = await bed.start({ data: one.data, args: ["--retention-days", "0"] })
    await gone(id, two)
    await eventually(() => metric(two, ADMIN, "stored_bytes"), (bytes) => bytes === 0)
    expect((await two.call("GET", `/v1/commands/${id}`, { token: its.token })).status).toBe(404)
    await two.end()
  },

  async "when it is cancelled, while it comes or after"() {
    const its = await deployment("cancelled")
    const there = await its.bring(randomBytes(200_000))
    await its.cancel(there)
    await gone(there)
    const { commandId, storageUpload } = await its.begin(undefined)
    let go
    const cancelled = new Promise((resolve) => (go = resolve))
    async function* pieces() {
      yield randomBytes(300_000)
      await cancelled
      yield randomBytes(300_000)
    }
    const upload = put(storageUpload, pieces())
    await eventually(() => filesOf(commandId), (files) => files.length === 1)
    await its.cancel(commandId)
    go()
    expect(await upload).toMatchObject({ status: 409 })
    expect(await its.complete(commandId)).toMatchObject({ status: 409, body: { details: { state: "CANCELLED" } } })
    await gone(commandId)
  },

  async "when its command expires before it has come"() {
    const its = await deployment("expired")
    const { commandId, storageUpload } = await its.begin(200_000, { deadline: new Date(Date.now() + 500).toISOString() })
    await put(storageUpload, randomBytes(200_000))
    expect(await its.read(commandId, 30)).toMatchObject({ state: "EXPIRED" })
    await gone(commandId)
    expect(await put(storageUpload, randomBytes(200_000))).toMatchObject({ status: 410, body: { code: "COMMAND_EXPIRED" } })
    expect(await its.complete(commandId)).toMatchObject({ status: 410 })
  },

  async "when whoever sends it goes away half-way; it may be sent again"() {
    const its = await deployment("cut")
    const bytes = randomBytes(1_000_000)
    const { commandId, storageUpload } = await its.begin(bytes.length)
    const { pathname, search } = new URL(storageUpload.backend.url)
    const socket = net.connect(manager.port, "127.0.0.1")
    socket.write(`PUT ${pathname}${search} HTTP/1.1\r\nhost: x\r\ncontent-length: ${bytes.length}\r\n\r\n`)
    socket.write(bytes.subarray(0, 600_000))
    await eventually(() => filesOf(commandId), (there) => there.length === 1)
    socket.destroy()
    await gone(commandId)
    expect(await put(storageUpload, bytes)).toMatchObject({ status: 200, body: { sha256: sha256(bytes) } })
    expect(await its.complete(commandId)).toMatchObject({ status: 200 })
  },

  async "when a newer upload of the same begins"() {
    const its = await deployment("newer")
    const bytes = randomBytes(500_000)
    const { commandId, storageUpload } = await its.begin(undefined)
    let go
    const newer = new Promise((resolve) => (go = resolve))
    async function* pieces() {
      yield randomBytes(300_000)
      await newer
      yield randomBytes(300_000)
    }
    const old = put(storageUpload, pieces())
    await eventually(() => filesOf(commandId), (there) => there.length === 1)
    expect(await put(storageUpload, bytes)).toMatchObject({ status: 200 })
    go()
    expect(await old).toMatchObject({ status: 409 })
    await eventually(() => filesOf(commandId), (there) => there.length === 1)
    expect(await its.complete(commandId, { sha256: sha256(bytes) })).toMatchObject({ status: 200 })
  },
}))

describe("a manager that is killed with -9", () => together({
  async "keeps what it has acknowledged, and nothing of what had not come whole"() {
    let one = await bed.start()
    const its = await deployment("killed", one)
    const bytes = randomBytes(800_000)
    const [put1, half, promised, result] = [await its.begin(bytes.length), await its.begin(bytes.length), await its.begin(bytes.length), await its.submit("go")]
    const [lease] = await its.worker.lease({ leaseSeconds: 600 })
    const waiting = await its.bring(bytes)
    expect(lease.commandId).toBe(result)
    // What was noted of the lease is on the disk with what comes after it.
    expect((await put(put1.storageUpload, bytes)).status).toBe(200)
    expect((await put(lease.envelope.responseHandling.storageUploadRequest, bytes)).status).toBe(200)
    const stalled = put(half.storageUpload, (async function* () {
      yield bytes.subarray(0, 600_000)
      await one.ended
    })()).catch(() => "cut")
    await eventually(() => filesOf(half.commandId, one), (there) => there.length === 1)
    one.child.kill("SIGKILL")
    await one.ended
    expect(await stalled).toBe("cut")
    fs.writeFileSync(path.join(one.data, "blobs", "cmd_unknown.params"), "x")

    one = await bed.start({ data: one.data })
    const ids = (name) => name.split(".")[0]
    expect(files(one).map(ids).sort()).toEqual([put1.commandId, result, waiting].sort())
    expect(await metric(one, ADMIN, "stored_bytes")).toBe(5 * bytes.length)
    const now = { ...its, ...speaker(one, its), worker: one.receiver("killed", "worker", its.worker.token) }
    const at = ({ backend }) => ({ backend: { ...backend, url: backend.url.replace(manager.url, one.url).replace(/^http:\/\/[^/]+/, one.url) } })
    // Between upload and upload-complete: nothing has to be sent again.
    expect(await now.complete(put1.commandId, { size: bytes.length, sha256: sha256(bytes) })).toMatchObject({ status: 200, body: { state: "PENDING" } })
    expect(await now.worker.respond(lease, now.stored(bytes.length))).toMatchObject({ status: 200, body: { state: "SUCCEEDED" } })
    expect(await put(at(half.storageUpload), bytes)).toMatchObject({ status: 200 })
    expect(await now.complete(half.commandId)).toMatchObject({ status: 200 })
    expect(await one.ok(200, "GET", `/v1/commands/${promised.commandId}`, { token: its.token })).toMatchObject({ state: "PENDING_UPLOAD" })
    const leases = await now.worker.lease({ maxLeases: 10 })
    expect(leases.map(({ commandId }) => commandId)).toEqual([put1.commandId, half.commandId, waiting])
    for (const { envelope } of leases) expect((await fetchBody(envelope.params.storageGetRequest)).bytes.equals(bytes)).toBe(true)
    const { response } = await one.ok(200, "GET", `/v1/commands/${result}`, { token: its.token })
    expect((await fetchBody(response.response.storageGetRequest)).bytes.equals(bytes)).toBe(true)
    await one.end()
  },

  async "finds what was changed on the disk meanwhile"() {
    let one = await bed.start()
    const its = await deployment("changed", one)
    const bytes = randomBytes(200_000)
    const { commandId, storageUpload } = await its.begin(bytes.length)
    await put(storageUpload, bytes)
    await one.end()
    fs.writeFileSync(path.join(one.data, "blobs", `${commandId}.params`), Buffer.alloc(bytes.length))
    one = await bed.start({ data: one.data })
    const complete = (body) => one.call("POST", `/v1/commands/${commandId}/upload-complete`, { token: its.token, body })
    expect(await complete({ size: bytes.length, sha256: sha256(bytes) })).toMatchObject({ status: 400, body: { code: "DIGEST_MISMATCH" } })
    await one.end()
  },
}))
