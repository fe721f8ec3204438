// The real API server behind a proxy that makes faults on request, for the tests: every answer is the real server's unless
// a fault is asked for.

import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { Agent, createServer, request as ask } from "node:https"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"

/**
 * What goes wrong with one request; nothing where it is undefined.
 *
 * @typedef {object} Fault
 * @property {number} [status] answered in place of the server, with a Status as its body
 * @property {number} [retryAfter] of such an answer: seconds, as a header and in the Status
 * @property {"before" | "after"} [cut] the connection is cut before the server is asked, or in place of its answer
 * @property {number} [delay] milliseconds before the server is asked
 * @property {number} [events] a watch is cut after so many events
 * @property {boolean} [old] a watch is asked for from resource version 1, which the server has long forgotten
 * @property {(body: object) => object} [edit] changes the server's answer
 *
 * @typedef {{number: number, method: string, path: string, query: URLSearchParams, watch: boolean, status?: number, at: number, began: number, ended?: number}} Asked
 *   `at` is in milliseconds; `began` and `ended` count both for all requests, so that they tell which came after which
 */

/**
 * Serves on loopback, with a certificate of the cluster's own authority.
 *
 * @param {{server: string, ca: string, caKey: string}} cluster as `startCluster` gives it
 * @returns {Promise<{url: string, asked: Asked[], fault: (asked: Asked) => Fault | undefined | Promise<Fault | undefined>,
 *   cutStreams(): number, kubeconfig(token: string, namespace: string): object, close(): Promise<void>}>}
 *   `fault` is to be set; a promise holds the request for so long
 */
export async function serveFaulty(cluster) {
  const ca = readFileSync(cluster.ca)
  const agent = new Agent({ keepAlive: true, ca })
  const streams = new Set()
  const proxy = { asked: [], fault: () => undefined }
  let turn = 0

  const server = createServer(certificate(cluster), async (incoming, outgoing) => {
    const { pathname, searchParams } = new URL(incoming.url, "https://proxy")
    const asked = { number: proxy.asked.length + 1, method: incoming.method, path: pathname, query: searchParams, watch: searchParams.get("watch") === "true", at: performance.now(), began: ++turn }
    proxy.asked.push(asked)
    outgoing.on("close", () => (asked.ended = ++turn))
    const cut = () => incoming.socket.destroy()
    const body = await whole(incoming)
    const fault = (await proxy.fault(asked)) ?? {}
    if (fault.delay) await pause(fault.delay)
    if (fault.cut === "before") return cut()
    if (fault.status) return refuse(outgoing, asked, fault)
    if (fault.old) searchParams.set("resourceVersion", "1")
    const headers = { ...incoming.headers, host: new URL(cluster.server).host }
    // An answer that is to be read has to be legible.
    if (fault.edit) delete headers["accept-encoding"]
    const url = new URL(`${pathname}?${searchParams}`, cluster.server)
    const onward = ask(url, { method: incoming.method, headers, agent }, (answer) => {
      asked.status = answer.statusCode
      if (fault.cut === "after") return answer.on("end", cut).resume()
      if (fault.edit) return edited(answer, outgoing, fault.edit)
      outgoing.writeHead(answer.statusCode, answer.headers)
      // A stream is told of at once, even while it says nothing.
      outgoing.flushHeaders()
      streams.add(outgoing)
      let events = 0
      answer.on("data", (bytes) => {
        events += bytes.filter((byte) => byte === 10).length
        // Cut once it is on its way, so that what was told has been told.
        outgoing.write(bytes, () => fault.events !== undefined && events >= fault.events && cut())
      })
      answer.on("end", () => outgoing.end()).on("error", cut)
    })
    onward.on("error", cut).end(body)
    outgoing.on("close", () => (streams.delete(outgoing), onward.destroy()))
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))

  proxy.url = `https://127.0.0.1:${server.address().port}`
  /** Cuts every watch and log that is being followed; how many there were. */
  proxy.cutStreams = () => {
    const open = [...streams]
    for (const stream of open) stream.socket?.destroy()
    return open.length
  }
  proxy.kubeconfig = (token, namespace) => ({
    apiVersion: "v1", kind: "Config", "current-context": "proxy",
    clusters: [{ name: "proxy", cluster: { server: proxy.url, "certificate-authority-data": ca.toString("base64") } }],
    users: [{ name: "proxy", user: { token } }],
    contexts: [{ name: "proxy", context: { cluster: "proxy", user: "proxy", namespace } }],
  })
  proxy.close = async () => {
    await new Promise((resolve) => (server.close(resolve), server.closeAllConnections()))
    agent.destroy()
  }
  return proxy
}

/**
 * The longest chain of requests of which each began after the one before had ended: what a slow server makes one wait.
 *
 * @param {Asked[]} asked
 */
export function chain(asked) {
  let [length, end] = [0, 0]
  for (const { began, ended } of asked.filter((one) => one.ended && !one.watch).sort((a, b) => a.ended - b.ended)) {
    if (began > end) [length, end] = [length + 1, ended]
  }
  return length
}

const whole = async (stream) => Buffer.concat(await stream.toArray())

async function edited(answer, outgoing, edit) {
  const body = Buffer.from(JSON.stringify(edit(JSON.parse(await whole(answer)))))
  outgoing.writeHead(answer.statusCode, { "content-type": "application/json", "content-length": body.length }).end(body)
}

const REASONS = { 401: "Unauthorized", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable" }

/** As the API server refuses (Kubernetes API, `meta/v1.Status`). */
function refuse(outgoing, asked, { status, retryAfter }) {
  asked.status = status
  const details = retryAfter ? { retryAfterSeconds: retryAfter } : {}
  const body = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message: `a fault that a test asked for: ${status}`, reason: REASONS[status], details, code: status }
  outgoing.writeHead(status, { "content-type": "application/json", ...(retryAfter ? { "retry-after": String(retryAfter) } : {}) }).end(JSON.stringify(body))
}

/** A key, and a certificate for loopback. */
function certificate({ ca, caKey }) {
  const folder = mkdtempSync(join(tmpdir(), "alien-proxy-"))
  const file = (name) => join(folder, name)
  const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] })
  try {
    writeFileSync(file("names"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=proxy", "-keyout", file("key"), "-out", file("request"))
    openssl("x509", "-req", "-in", file("request"), "-CA", ca, "-CAkey", caKey, "-set_serial", "1", "-days", "2", "-extfile", file("names"), "-out", file("certificate"))
    return { key: readFileSync(file("key")), cert: readFileSync(file("certificate")) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
