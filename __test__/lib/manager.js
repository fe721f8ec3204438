"use strict"

// A real manager of commands for one test file, real receivers, and what may stand between them and it.

const fs = require("node:fs")
const http = require("node:http")
const https = require("node:https")
const path = require("node:path")
const { CommandsClient } = require("@alienplatform/core/commands")
const { eventually, isAlive, processesWith, removeTree, testFolder } = require("./bed.js")
const { ADMIN, program: PROGRAM, start, startManager } = require("./process.js")

/** All that a stream has, as text. */
async function whole(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** The manager; it runs from `beforeAll`, or from when the test starts it, to the file's end. */
function testManager({ start: startsItself = true } = {}) {
  const folder = testFolder()
  const pids = new Set()
  const closers = []
  const its = { folder, deployment: "edge", admin: ADMIN }
  let listen = "127.0.0.1:0"

  /** Starts the manager, by default where the one before was, with these arguments. */
  its.start = async (args = [], at = undefined) => {
    its.process = startManager({ data: path.join(folder, "data"), listen: at ?? listen, args })
    pids.add(its.process.pid)
    its.url = await its.process.listening
    listen = new URL(its.url).host
  }
  its.ask = async (method, where, body, token = ADMIN) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
    const { request } = its.url.startsWith("https:") ? https : http
    const response = await new Promise((resolve, reject) => {
      const options = { method, headers, ca: its.ca, agent: false }
      request(its.url + where, options, resolve).on("error", reject).end(body && JSON.stringify(body))
    })
    const text = await whole(response)
    return { status: response.statusCode, json: text === "" ? undefined : JSON.parse(text) }
  }
  /** A new token: `{token, id}`. A daemon that has one to receive takes commands. */
  its.token = async (role, resourceId) => (await its.ask("POST", "/v1/tokens", { role, deploymentId: its.deployment, resourceId })).json
  its.client = async (options) => {
    const { token } = await its.token("invoke")
    const client = new CommandsClient({ managerUrl: its.url, deploymentId: its.deployment, token, timeout: 20_000, ...options })
    closers.push(() => client.close())
    return client
  }
  /** A daemon's environment. */
  its.environment = async (id) => ({
    PATH: process.env.PATH,
    ALIEN_COMMANDS_URL: its.url,
    ALIEN_COMMANDS_TOKEN: (await its.token("receive", id)).token,
    ALIEN_DEPLOYMENT_ID: its.deployment,
    ALIEN_COMMANDS_TARGET_RESOURCE_ID: id,
    ALIEN_COMMANDS_TARGET_RESOURCE_TYPE: "daemon",
  })
  /** A daemon that takes commands: __test__/lib/receiver.js with these options, unless another program is given. */
  its.receiver = async (id, { options = {}, env = {}, program = path.join(__dirname, "receiver.js") } = {}) => {
    const receiver = start(process.execPath, [program, JSON.stringify(options), folder], { env: { ...(await its.environment(id)), ...env } })
    pids.add(receiver.pid)
    await receiver.until(/^started$/)
    return receiver
  }
  /** Lets handlers that wait at a gate go on. */
  its.open = (gate) => fs.writeFileSync(path.join(folder, `gate-${gate}`), "")

  /**
   * Something between a peer and the manager. `change(request, body)` may give another `{url, body}`, or `{status}`, which is
   * the answer then; `cut: true` closes the connection when the manager has answered; of an answer with `hold`, a promise,
   * only the head goes on before that; `rewrite` gives another answer for what the manager said.
   */
  its.proxy = async (change, tls) => {
    const agent = new http.Agent({ keepAlive: true })
    let connections = 0
    const proxy = { requests: [], held: 0, connections: () => connections }
    const handle = async (request, response) => {
      const text = await whole(request)
      proxy.requests.push(`${request.method} ${request.url}`)
      const { url = request.url, body = text, status, cut, hold, rewrite } = change(request, text) ?? {}
      if (status !== undefined) return response.writeHead(status).end()
      const headers = { ...request.headers, "content-length": Buffer.byteLength(body) }
      const onward = http.request(its.url + url, { method: request.method, headers, agent }, (answer) => {
        if (cut) return answer.resume().on("end", () => request.socket.destroy())
        if (rewrite) return whole(answer).then((text) => response.writeHead(answer.statusCode).end(JSON.stringify(rewrite(JSON.parse(text)))))
        response.writeHead(answer.statusCode, answer.headers)
        response.flushHeaders()
        if (hold !== undefined) proxy.held += 1
        Promise.resolve(hold).then(() => answer.pipe(response))
      })
      onward.on("error", () => response.destroy())
      response.on("close", () => onward.destroy())
      onward.end(body)
    }
    const server = tls === undefined ? http.createServer(handle) : https.createServer(tls, handle)
    server.on("connection", () => (connections += 1))
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
    closers.push(() => (agent.destroy(), server.closeAllConnections(), new Promise((resolve) => server.close(resolve))))
    proxy.url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${server.address().port}`
    return proxy
  }
  /** A store of presigned URLs: keeps what is put, and how. */
  its.store = async () => {
    const store = { objects: new Map() }
    const server = http.createServer(async (request, response) => {
      if (request.method === "GET") return response.end(store.objects.get(request.url).text)
      store.objects.set(request.url, { method: request.method, headers: request.headers, text: await whole(request) })
      response.end()
    })
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
    closers.push(() => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve))))
    store.url = `http://127.0.0.1:${server.address().port}`
    /** As managers hand it out. */
    store.presigned = (method, name) => {
      const backend = { type: "http", url: `${store.url}/${name}`, method, headers: { "x-signed": "yes" } }
      return { backend, expiration: "2100-01-01T00:00:00Z", operation: method, path: name }
    }
    return store
  }
  /** A manager that knows the plain protocol alone: it holds no answers and renews no leases. */
  its.plain = () =>
    its.proxy((request, text) => {
      const [where, query] = request.url.split("?")
      if (where.endsWith("/renew")) return { status: 404 }
      const left = new URLSearchParams(query)
      left.delete("wait")
      const { waitSeconds, ...body } = text === "" ? {} : JSON.parse(text)
      return { url: left.size === 0 ? where : `${where}?${left}`, body: text === "" ? "" : JSON.stringify(body) }
    })

  if (startsItself) beforeAll(() => its.start())
  afterAll(async () => {
    for (const close of closers) await close()
    for (const pid of [...pids].filter(isAlive)) process.kill(pid, "SIGKILL")
    await eventually(() => processesWith(folder), (left) => left.length === 0)
    removeTree(folder)
  })
  return its
}

/** Why there is no manager here; undefined where there is one. */
const missing = fs.existsSync(PROGRAM) ? undefined : "alien-manager is not built (npm run build)"

module.exports = { missing, testManager }
