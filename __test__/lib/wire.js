"use strict"

// A real manager in a folder of its own, and the wire protocol spoken to it by hand: what the tests say is what travels.

const fs = require("node:fs")
const http = require("node:http")
const path = require("node:path")
const { testFolder } = require("./bed.js")
const { ADMIN, startManager } = require("./process.js")

/** Bytes, or JSON, as a body that travels in a message; and back. */
const inline = (value) => ({ mode: "inline", inlineBase64: (Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value))).toString("base64") })
const outline = ({ inlineBase64 }) => JSON.parse(Buffer.from(inlineBase64, "base64").toString())

/** A folder in which managers run, one after the other. At the file's end they have ended and it is gone. */
function managerBed() {
  const folder = testFolder("alien-manager-test-")
  const running = new Set()
  let folders = 0

  /** Starts a manager; gives it once it listens, or tells how it ended before. */
  async function start({ data = path.join(folder, `data-${++folders}`), ...how } = {}) {
    const said = startManager({ data, ...how })
    const { child, ended } = said
    running.add(child)
    ended.then(() => running.delete(child))
    const url = await said.listening
    // A connection for each call: one that lies idle is ended by the manager in the moment in which it would be used again.
    const agent = new http.Agent()
    return {
      url, data, child, ended, said, agent, port: Number(new URL(url).port),
      ...speaker(url, agent),
      /** Ends it; gives how it ended. */
      async end(signal = "SIGTERM") {
        child.kill(signal)
        const code = await ended
        agent.destroy()
        return code
      },
    }
  }

  /** Kills a manager with -9 and starts another in its place, which `take` is given before those hear of it who wait for `next`. */
  async function replace(old, args, take) {
    let started
    old.killed = true
    old.next = new Promise((resolve) => (started = resolve))
    await old.end("SIGKILL")
    take(await start({ data: old.data, args }))
    started()
  }

  afterAll(async () => {
    await Promise.all([...running].map((child) => new Promise((resolve) => (child.once("close", resolve), child.kill("SIGKILL")))))
    fs.rmSync(folder, { recursive: true, force: true })
  })

  return { folder, replace, start }
}

/** The calls of the protocol. */
function speaker(url, agent) {
  /** One request; `{status, headers, text, body}`. What is no string is sent as JSON. */
  function call(method, route, { token, body, headers = {}, signal } = {}) {
    const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body)
    const all = { ...(token && { authorization: `Bearer ${token}` }), ...(text !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(text) }), ...headers }
    return new Promise((resolve, reject) => {
      const request = http.request(url + route, { method, agent, headers: all, signal }, (response) => {
        let answer = ""
        response.setEncoding("utf8").on("data", (piece) => (answer += piece)).on("error", reject).on("end", () => {
          const json = response.headers["content-type"]?.startsWith("application/json")
          resolve({ status: response.statusCode, headers: response.headers, text: answer, body: json ? JSON.parse(answer) : undefined })
        })
      })
      request.on("error", reject)
      request.end(text)
    })
  }

  /** The same, where nothing but this status will do; gives the body. */
  async function ok(status, ...request) {
    const answer = await call(...request)
    if (answer.status !== status) throw new Error(`${request[0]} ${request[1]}: ${answer.status} instead of ${status}: ${answer.text}`)
    return answer.body
  }

  const token = (role, deploymentId, resourceId, more = {}) => ok(201, "POST", "/v1/tokens", { token: ADMIN, body: { role, deploymentId, resourceId, ...more } })

  /** A deployment with its caller and its daemons, as those speak. */
  async function deployment(name, ...daemons) {
    const caller = (await token("invoke", name)).token
    const its = {
      name,
      token: caller,
      create: (command, more = {}, { wait = 0, ...rest } = {}) =>
        call("POST", `/v1/commands${wait ? `?wait=${wait}` : ""}`, { token: caller, body: { deploymentId: name, command, ...more }, ...rest }),
      /** The id of a new command. */
      async submit(command, more) {
        const { status, text, body } = await its.create(command, more)
        if (status !== 201) throw new Error(`${command}: ${status} ${text}`)
        return body.commandId
      },
      read: (id, wait = 0) => ok(200, "GET", `/v1/commands/${id}?wait=${wait}`, { token: caller }),
      cancel: (id) => call("POST", `/v1/commands/${id}/cancel`, { token: caller }),
      list: (query = "") => ok(200, "GET", `/v1/commands${query}`, { token: caller }),
    }
    for (const resourceId of daemons) its[resourceId] = receiver(name, resourceId, (await token("receive", name, resourceId)).token)
    return its
  }

  const receiver = (deploymentId, resourceId, its) => ({
    token: its,
    lease: async (more = {}, rest = {}) =>
      (await ok(200, "POST", "/v1/commands/leases", { token: its, body: { deploymentId, target: { resourceId, resourceType: "daemon" }, ...more }, ...rest })).leases,
    renew: (lease, body = {}) => call("POST", `/v1/commands/leases/${lease.leaseId}/renew`, { token: its, body }),
    release: (lease) => call("POST", `/v1/commands/leases/${lease.leaseId}/release`, { token: its }),
    /** Under the signed address, as receivers do that need no token for it. */
    respond: (lease, body) => call("PUT", lease.envelope.responseHandling.submitResponseUrl, { body }),
    succeed: (lease, value = null) => call("PUT", lease.envelope.responseHandling.submitResponseUrl, { body: success(value) }),
  })

  return { call, ok, token, deployment, receiver }
}

const success = (value) => ({ status: "success", response: inline(value) })

module.exports = { ADMIN, inline, managerBed, outline, success }
