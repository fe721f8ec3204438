"use strict"

// Bodies that do not fit a message, put and fetched as presigned requests say, by hand: what the tests say is what travels.

const { createHash } = require("node:crypto")
const fs = require("node:fs")
const http = require("node:http")
const net = require("node:net")
const path = require("node:path")

const sha256 = (bytes, encoding = "hex") => createHash("sha256").update(bytes).digest(encoding)

/** One request with bytes: `{status, headers, bytes, body}`. `bytes` may also be what gives them piece by piece. */
function request(method, url, { bytes, headers = {}, agent } = {}) {
  return new Promise((resolve, reject) => {
    const sized = Buffer.isBuffer(bytes) ? { "content-length": bytes.length } : {}
    const asked = http.request(url, { method, headers: { ...sized, ...headers }, agent }, (response) => {
      const all = []
      response.on("data", (piece) => all.push(piece)).on("error", reject).on("end", () => {
        const bytes = Buffer.concat(all)
        const json = response.headers["content-type"]?.startsWith("application/json")
        resolve({ status: response.statusCode, headers: response.headers, bytes, body: json ? JSON.parse(bytes) : undefined })
      })
    })
    asked.on("error", reject)
    if (bytes === undefined || Buffer.isBuffer(bytes)) asked.end(bytes)
    else give(asked, bytes).catch(reject)
  })
}

async function give(asked, pieces) {
  const closed = new Promise((resolve) => asked.once("close", resolve))
  for await (const piece of pieces) if (!asked.write(piece)) await Promise.race([closed, new Promise((resolve) => asked.once("drain", resolve))])
  asked.end()
}

const put = ({ backend: { method, url, headers } }, bytes, more = {}) => request(method, url, { bytes, headers: { ...headers, ...more } })
const fetchBody = ({ backend: { method, url, headers } }, more = {}) => request(method, url, { headers: { ...headers, ...more } })

/** A caller and receivers as they speak who know the plain protocol, with what they say of large bodies. */
function speaker(manager, its) {
  const complete = (id, body, wait) => manager.call("POST", `/v1/commands/${id}/upload-complete${wait ? `?wait=${wait}` : ""}`, { token: its.token, body })
  return {
    complete,
    /** A command whose parameters are to come: the answer to its making. */
    async begin(size, more = {}) {
      const { status, text, body } = await its.create("go", { params: { mode: "storage", size }, ...more })
      if (status !== 201 && status !== 200) throw new Error(`${status} ${text}`)
      return body
    },
    /** A command that has its parameters; its id. */
    async bring(bytes, more) {
      const { commandId, storageUpload } = await this.begin(bytes.length, more)
      const { status, bytes: said } = await put(storageUpload, bytes)
      if (status !== 200) throw new Error(`${status} ${said}`)
      const done = await complete(commandId, { size: bytes.length })
      if (done.status !== 200) throw new Error(`${done.status} ${done.text}`)
      return commandId
    },
    stored: (size, more) => ({ status: "success", response: { mode: "storage", size, storagePutUsed: true, ...more } }),
  }
}

/** The files that a manager keeps beside its database. */
const files = (manager) => fs.readdirSync(path.join(manager.data, "blobs")).sort()

/** A number of a manager's metrics. */
async function metric(manager, admin, name) {
  const { text } = await manager.call("GET", "/metrics", { token: admin })
  return Number(text.match(new RegExp(`^alien_commands_${name} (\\d+)`, "m"))[1])
}

/** The most memory that a process has had, in bytes, since it was last forgotten. */
const peak = (pid) => 1024 * Number(fs.readFileSync(`/proc/${pid}/status`, "utf8").match(/^VmHWM:\s*(\d+) kB$/m)[1])
const forgetPeak = (pid) => fs.writeFileSync(`/proc/${pid}/clear_refs`, "5")

/**
 * Something between peers and a manager that cuts connections: of the first ones whose request begins as one of `cuts` says
 * (`{begins, sent}` or `{begins, received}`), after so many bytes from the peer or to it.
 */
async function cutting(manager, cuts) {
  const { hostname, port } = new URL(manager.url)
  const left = [...cuts]
  const requests = []
  const open = new Set()
  const server = net.createServer((peer) => {
    const onward = net.connect(Number(port), hostname)
    let most
    const meter = (kind, socket) => {
      let bytes = 0
      return (piece) => {
        bytes += piece.length
        if (most?.[kind] !== undefined && bytes >= most[kind]) {
          peer.destroy()
          onward.destroy()
        } else socket.write(piece)
      }
    }
    const [up, down] = [meter("sent", onward), meter("received", peer)]
    peer.on("data", (piece) => {
      const line = piece.toString("latin1").match(/^[A-Z]+ [^ ?]*/)
      if (line !== null) {
        requests.push(line[0])
        const at = left.findIndex(({ begins }) => begins.test(line[0]))
        if (at >= 0) [most] = left.splice(at, 1)
      }
      up(piece)
    })
    onward.on("data", down)
    for (const [one, other] of [[peer, onward], [onward, peer]]) {
      open.add(one)
      one.on("error", () => {}).on("close", () => (open.delete(one), other.destroy()))
    }
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  const close = () => (open.forEach((socket) => socket.destroy()), new Promise((resolve) => server.close(resolve)))
  return { url: `http://127.0.0.1:${server.address().port}`, requests, close, left }
}

module.exports = { cutting,  fetchBody, files, forgetPeak, metric, peak, put, request, sha256, speaker }
