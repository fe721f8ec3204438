"use strict"

// Who may do what: every kind of token against every call, and that errors say nothing about what exists.

const { ADMIN, inline, managerBed, success } = require("./lib/wire.js")
const { speaker } = require("./lib/payload.js")

const bed = managerBed()
let manager
let tokens
const its = {}

/** Deployments whose commands and leases the calls are about, and one that has nothing to do with them. */
beforeAll(async () => {
  manager = await bed.start()
  const expired = await manager.token("invoke", "ours", undefined, { expiresInSeconds: 0 })
  const revoked = await manager.token("receive", "ours", "worker")
  its.ours = await manager.deployment("ours", "worker", "other")
  its.theirs = await manager.deployment("theirs", "worker")
  await manager.ok(204, "DELETE", `/v1/tokens/${revoked.id}`, { token: ADMIN })
  tokens = {
    none: undefined, unknown: "alien_admin_unknown", expired: expired.token, revoked: revoked.token,
    "receive, this daemon": its.ours.worker.token, "receive, another daemon": its.ours.other.token, "receive, another deployment": its.theirs.worker.token,
    "invoke, this deployment": its.ours.token, "invoke, another deployment": its.theirs.token, admin: ADMIN,
  }
})

/** A new command of ours, its lease too. */
async function leased() {
  const id = await its.ours.submit("go", { targetResourceId: "worker" })
  // What other cells gave back comes before it.
  return (await its.ours.worker.lease({ maxLeases: 100 })).find(({ commandId }) => commandId === id)
}

/** A new command of ours whose parameters are to come, its lease if they have come; and where its bodies are. */
const bodies = {
  begin: () => speaker(manager, its.ours).begin(4, { targetResourceId: "other" }),
  async brought() {
    const { commandId, storageUpload } = await this.begin()
    await manager.ok(200, "PUT", at(storageUpload), { body: "null" })
    return commandId
  },
  async leased() {
    const id = await speaker(manager, its.ours).bring(Buffer.from("null"), { targetResourceId: "worker" })
    return (await its.ours.worker.lease({ maxLeases: 100 })).find(({ commandId }) => commandId === id)
  },
  async answered() {
    const lease = await this.leased()
    await manager.ok(200, "PUT", at(lease.envelope.responseHandling.storageUploadRequest), { body: "null" })
    await its.ours.worker.respond(lease, { status: "success", response: { mode: "storage", size: 4, storagePutUsed: true } })
    return (await its.ours.read(lease.commandId)).response.response.storageGetRequest
  },
}
/** A signed address, as a route. */
const at = ({ backend }) => backend.url.replace(manager.url, "")
/** The same without its signature. */
const bare = (request) => at(request).replace(/payload_token=\w+/, `payload_token=${"0".repeat(64)}`)

const acquire = { deploymentId: "ours", target: { resourceId: "worker" } }
const response = (lease) => `/v1/commands/${lease.commandId}/response`
/** Each call makes what it is about, so that every cell begins with the same. */
const calls = {
  "make a command": () => ["POST", "/v1/commands", { deploymentId: "ours", command: "go", targetResourceId: "other", params: inline(1) }],
  "read a command": async () => ["GET", `/v1/commands/${await its.ours.submit("go", { targetResourceId: "other" })}`],
  "cancel a command": async () => ["POST", `/v1/commands/${await its.ours.submit("go", { targetResourceId: "other" })}/cancel`],
  "list a deployment's commands": () => ["GET", "/v1/commands?deploymentId=ours"],
  "list its own commands": () => ["GET", "/v1/commands"],
  "acquire leases": () => ["POST", "/v1/commands/leases", acquire],
  "renew a lease": async () => ["POST", `/v1/commands/leases/${(await leased()).leaseId}/renew`, {}],
  "release a lease": async () => ["POST", `/v1/commands/leases/${(await leased()).leaseId}/release`],
  "give a result": async () => ["PUT", response(await leased()), success(1)],
  "give a result under its address": async () => ["PUT", (await leased()).envelope.responseHandling.submitResponseUrl, success(1)],
  "give a result under another's address": async () => {
    const [one, two] = [await leased(), await leased()]
    return ["PUT", one.envelope.responseHandling.submitResponseUrl.replace(one.commandId, two.commandId).replace(one.leaseId, two.leaseId), success(1)]
  },
  "make a command with a large body": () => ["POST", "/v1/commands", { deploymentId: "ours", command: "go", targetResourceId: "other", params: { mode: "storage", size: 4 } }],
  "say that a body is there": async () => ["POST", `/v1/commands/${await bodies.brought()}/upload-complete`, {}],
  "put parameters under their address": async () => ["PUT", at((await bodies.begin()).storageUpload), "null"],
  "put parameters without a signature": async () => ["PUT", bare((await bodies.begin()).storageUpload), "null"],
  "fetch parameters from their address": async () => ["GET", at((await bodies.leased()).envelope.params.storageGetRequest)],
  "fetch parameters without a signature": async () => ["GET", bare((await bodies.leased()).envelope.params.storageGetRequest)],
  "put a result under its address": async () => ["PUT", at((await bodies.leased()).envelope.responseHandling.storageUploadRequest), "null"],
  "put a result without a signature": async () => ["PUT", bare((await bodies.leased()).envelope.responseHandling.storageUploadRequest), "null"],
  "fetch a result from its address": async () => ["GET", at(await bodies.answered())],
  "fetch a result without a signature": async () => ["GET", bare(await bodies.answered())],
  "say that a daemon ended": () => ["POST", "/v1/deployments/ours/resources/worker/ended"],
  "make a token": () => ["POST", "/v1/tokens", { role: "invoke", deploymentId: "made" }],
  "list tokens": () => ["GET", "/v1/tokens"],
  "revoke a token": async () => ["DELETE", `/v1/tokens/${(await manager.token("invoke", "revoked")).id}`],
  "revoke a deployment's tokens": async () => (await manager.token("invoke", "revoked"), ["DELETE", "/v1/tokens?role=invoke&deploymentId=revoked"]),
  "read metrics": () => ["GET", "/metrics"],
  "ask whether it lives": () => ["GET", "/healthz"],
  "ask whether it can work": () => ["GET", "/readyz"],
  "read the calls' description": () => ["GET", "/openapi.json"],
  "call what is not there": () => ["GET", "/v1/nothing"],
}

const roles = ["none", "unknown", "expired", "revoked", "receive, this daemon", "receive, another daemon", "receive, another deployment", "invoke, this deployment", "invoke, another deployment", "admin"]
/** One column for each of the roles, in their order. */
const table = {
  "make a command":                         [401, 401, 401, 401, 403, 403, 403, 201, 403, 201],
  "read a command":                         [401, 401, 401, 401, 403, 403, 403, 200, 404, 200],
  "cancel a command":                       [401, 401, 401, 401, 403, 403, 403, 200, 404, 200],
  "list a deployment's commands":           [401, 401, 401, 401, 403, 403, 403, 200, 403, 200],
  "list its own commands":                  [401, 401, 401, 401, 403, 403, 403, 200, 200, 200],
  "acquire leases":                         [401, 401, 401, 401, 200, 403, 403, 403, 403, 403],
  "renew a lease":                          [401, 401, 401, 401, 200, 404, 404, 403, 403, 403],
  "release a lease":                        [401, 401, 401, 401, 200, 404, 404, 403, 403, 403],
  "give a result":                          [401, 401, 401, 401, 200, 404, 404, 403, 403, 403],
  "give a result under its address":        [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "give a result under another's address":  [401, 401, 401, 401, 200, 404, 404, 403, 403, 403],
  "make a command with a large body":       [401, 401, 401, 401, 403, 403, 403, 201, 403, 201],
  "say that a body is there":               [401, 401, 401, 401, 403, 403, 403, 200, 404, 200],
  "put parameters under their address":     [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "put parameters without a signature":     [403, 403, 403, 403, 403, 403, 403, 200, 403, 200],
  "fetch parameters from their address":    [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "fetch parameters without a signature":   [403, 403, 403, 403, 200, 403, 403, 403, 403, 403],
  "put a result under its address":         [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "put a result without a signature":       [403, 403, 403, 403, 200, 403, 403, 403, 403, 403],
  "fetch a result from its address":        [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "fetch a result without a signature":     [403, 403, 403, 403, 403, 403, 403, 200, 403, 200],
  "say that a daemon ended":                [401, 401, 401, 401, 200, 403, 403, 403, 403, 200],
  "make a token":                           [401, 401, 401, 401, 403, 403, 403, 403, 403, 201],
  "list tokens":                            [401, 401, 401, 401, 403, 403, 403, 403, 403, 200],
  "revoke a token":                         [401, 401, 401, 401, 403, 403, 403, 403, 403, 204],
  "revoke a deployment's tokens":           [401, 401, 401, 401, 403, 403, 403, 403, 403, 200],
  "read metrics":                           [401, 401, 401, 401, 403, 403, 403, 403, 403, 200],
  "ask whether it lives":                   [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "ask whether it can work":                [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "read the calls' description":            [200, 200, 200, 200, 200, 200, 200, 200, 200, 200],
  "call what is not there":                 [404, 404, 404, 404, 404, 404, 404, 404, 404, 404],
}

test("the table has every call", () => expect(Object.keys(table)).toEqual(Object.keys(calls)))

const codes = { 401: "UNAUTHORIZED", 403: "FORBIDDEN" }

describe.each(Object.entries(table))("%s", (name, statuses) => {
  test.each(roles.map((role, index) => [role, statuses[index]]))("with %s: %i", async (role, expected) => {
    const [method, route, body] = await calls[name]()
    const { status, headers, text, body: answer } = await manager.call(method, route, { token: tokens[role], body })
    expect({ status, text }).toEqual({ status: expected, text: expect.anything() })
    if (codes[status] !== undefined) {
      // The same words whatever there is, and none of what was asked for.
      if (route.includes("/payload?")) return expect(answer.code).toBe("SIGNATURE_INVALID")
      expect(answer).toEqual({ code: codes[status], message: status === 401 ? "this needs a valid token: Authorization: Bearer TOKEN" : "the token is not for this" })
      expect(headers["www-authenticate"]).toBe(status === 401 ? "Bearer" : undefined)
    }
  })
})

describe("whoever asks for what is another's", () => {
  /** What is answered, but for the time. */
  const told = async (...request) => {
    const { status, text } = await manager.call(...request)
    return { status, text }
  }
  const missing = "00000000-0000-7000-8000-000000000000"

  test.each([
    ["receive, another daemon"], ["receive, another deployment"], ["invoke, another deployment"], ["receive, this daemon"],
  ])("is told the same as for what is not there: %s", async (role) => {
    const lease = await leased()
    const foreign = role === "receive, this daemon" ? await theirs() : lease
    const token = tokens[role]
    for (const [method, there, not, body] of [
      ["GET", `/v1/commands/${foreign.commandId}`, `/v1/commands/cmd_${missing}`],
      ["POST", `/v1/commands/${foreign.commandId}/cancel`, `/v1/commands/cmd_${missing}/cancel`],
      ["POST", `/v1/commands/leases/${foreign.leaseId}/renew`, `/v1/commands/leases/lease_${missing}/renew`, {}],
      ["POST", `/v1/commands/leases/${foreign.leaseId}/release`, `/v1/commands/leases/lease_${missing}/release`],
      ["PUT", response(foreign), `/v1/commands/cmd_${missing}/response`, success(1)],
      ["GET", "/v1/commands?deploymentId=ours&state=DISPATCHED".replace("ours", role === "receive, this daemon" ? "theirs" : "ours"), "/v1/commands?deploymentId=missing&state=DISPATCHED"],
    ]) expect(await told(method, there, { token, body })).toEqual(await told(method, not, { token, body }))
    const create = (deploymentId) => ({ deploymentId, command: "go", targetResourceId: "worker" })
    const other = role === "receive, this daemon" ? "theirs" : "ours"
    expect(await told("POST", "/v1/commands", { token, body: create(other) })).toEqual(await told("POST", "/v1/commands", { token, body: create("missing") }))
    expect(await told("POST", "/v1/commands/leases", { token, body: { ...acquire, deploymentId: role === "receive, this daemon" ? "theirs" : "missing" } })).toEqual(
      await told("POST", "/v1/commands/leases", { token, body: { ...acquire, deploymentId: "missing" } }))
    // And nothing was done to it.
    expect(await its[other].read(foreign.commandId)).toMatchObject({ state: "DISPATCHED", attempt: 1 })
  })

  async function theirs() {
    await its.theirs.submit("go")
    return (await its.theirs.worker.lease())[0]
  }

  test("sees only the own deployment's in a list", async () => {
    await its.ours.submit("go", { targetResourceId: "other" })
    const { commands } = await manager.ok(200, "GET", "/v1/commands", { token: its.theirs.token })
    const { commands: all } = await manager.ok(200, "GET", "/v1/commands?deploymentId=theirs", { token: ADMIN })
    expect(commands).toEqual(all)
  })
})

describe("a token", () => {
  test("is refused where its role and its place do not fit", async () => {
    for (const body of [
      { role: "root" }, { role: "receive", deploymentId: "x" }, { role: "receive", resourceId: "x" }, { role: "invoke" },
      { role: "invoke", deploymentId: "x", resourceId: "y" }, { role: "admin", deploymentId: "x" }, {},
    ]) expect(await manager.call("POST", "/v1/tokens", { token: ADMIN, body })).toMatchObject({ status: 400, body: { code: "INVALID_COMMAND" } })
  })

  test("is told once, and only as what it is for after that", async () => {
    const made = await manager.token("receive", "told", "worker", { expiresInSeconds: 3600 })
    expect(made).toEqual({ token: expect.stringMatching(/^alien_receive_[\w-]{43}$/), id: expect.stringMatching(/^tok_/), role: "receive", deploymentId: "told", resourceId: "worker", createdAt: expect.any(String), expiresAt: expect.any(String) })
    const { text, body } = await manager.call("GET", "/v1/tokens", { token: ADMIN })
    expect(text).not.toContain(made.token)
    const { token: _, ...rest } = made
    expect(body.tokens).toContainEqual(rest)
  })

  test("ends with its time, and its daemon takes no commands any more", async () => {
    await manager.token("receive", "brief", "worker", { expiresInSeconds: 0 })
    const { token } = await manager.token("invoke", "brief")
    expect(await manager.call("POST", "/v1/commands", { token, body: { deploymentId: "brief", command: "go" } })).toMatchObject({ status: 400 })
  })

  test("that is revoked while its receiver waits gets nothing any more; who comes next does", async () => {
    const its = await manager.deployment("waits", "worker")
    const revoked = await manager.token("receive", "waits", "worker")
    const body = { deploymentId: "waits", target: { resourceId: "worker", resourceType: "daemon" }, waitSeconds: 50 }
    const waiting = manager.call("POST", "/v1/commands/leases", { token: revoked.token, body })
    await manager.ok(204, "DELETE", `/v1/tokens/${revoked.id}`, { token: ADMIN })
    const id = await its.submit("go")
    expect((await waiting).status).toBe(401)
    expect((await its.worker.lease({ waitSeconds: 20 }))[0].commandId).toBe(id)
  })

  test("that is revoked stays so through a restart, and the others are good", async () => {
    let one = await bed.start()
    const two = await one.deployment("kept", "worker")
    const gone = await one.token("invoke", "kept")
    await one.ok(204, "DELETE", `/v1/tokens/${gone.id}`, { token: ADMIN })
    expect(await one.call("DELETE", `/v1/tokens/${gone.id}`, { token: ADMIN })).toMatchObject({ status: 404, body: { code: "TOKEN_NOT_FOUND" } })
    // The one in the file goes with the file, and not by a call.
    expect((await one.call("DELETE", "/v1/tokens/tok_file", { token: ADMIN })).status).toBe(404)
    await one.end("SIGKILL")
    one = await bed.start({ data: one.data })
    const status = async (token) => (await one.call("GET", "/v1/commands", { token })).status
    expect(await Promise.all([gone.token, two.token, ADMIN].map(status))).toEqual([401, 200, 200])
    expect(await one.ok(200, "DELETE", "/v1/tokens?role=receive&deploymentId=kept&resourceId=worker", { token: ADMIN })).toEqual({ revoked: 1 })
    expect((await one.call("POST", "/v1/commands/leases", { token: two.worker.token, body: { deploymentId: "kept", target: { resourceId: "worker" } } })).status).toBe(401)
    await one.end()
  })

  test("is taken as the header has it, and no other way", async () => {
    const status = async (headers) => (await manager.call("GET", "/v1/tokens", { headers })).status
    expect(await Promise.all([`Bearer ${ADMIN}`, `bearer ${ADMIN}`, `Basic ${ADMIN}`, ADMIN, "Bearer", "Bearer ", `Bearer ${ADMIN}x`].map((authorization) => status({ authorization })))).toEqual([200, 200, 401, 401, 401, 401, 401])
    expect((await manager.call("GET", `/v1/tokens?access_token=${ADMIN}`)).status).toBe(401)
  })
})

describe("a signed address", () => {
  test.each([
    ["another command", (url, one, two) => url.replace(two.commandId, one.commandId)],
    ["another time", (url) => url.replace(/expires=(\d+)/, (_, at) => `expires=${Number(at) + 1}`)],
    ["a time too far ahead", (url) => url.replace(/expires=\d+/, "expires=99999999999")],
    ["another signature", (url) => url.replace(/response_token=./, (text) => text.slice(0, -1) + (text.endsWith("0") ? "1" : "0"))],
    ["half a signature", (url) => url.replace(/response_token=.{32}/, "response_token=")],
    ["no signature", (url) => url.replace(/response_token=\w+/, "")],
  ])("with %s is none", async (...[, change]) => {
    const [one, two] = [await leased(), await leased()]
    const own = (lease) => lease.envelope.responseHandling.submitResponseUrl
    // Two's signature for one's command, or one's own that was changed.
    const url = change.length === 1 ? change(own(one)) : change(own(two), one, two)
    expect((await manager.call("PUT", url, { body: success(1) })).status).toBe(401)
    expect(await its.ours.read(one.commandId)).toMatchObject({ state: "DISPATCHED" })
  })

  test("of another manager is none", async () => {
    const other = await bed.start()
    const lease = await leased()
    expect((await other.call("PUT", lease.envelope.responseHandling.submitResponseUrl, { body: success(1) })).status).toBe(401)
    await other.end()
  })
})
