// What a command costs from call to result, on disk before every answer; beside BullMQ on a redis-server that promises as
// much (`appendfsync always`), in the same run and the same order of things: a caller, a queue, a worker, a result.
//
// Callers and workers of both are this one process, so with many callers Node is what is measured: the processor time of
// the server itself tells how far that is.
//
//   node benches/commands.mjs        needs Debian's redis-server; BullMQ is installed into a temporary folder

import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import http from "node:http"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { root } from "./support.mjs"

const CALLERS = [1, 8, 32, 256]
/** How long each figure is measured, after as much of warming up as a quarter of it. */
const SECONDS = 4
/** Commands that a worker has at once: as many as there are callers, up to this. */
const AT_ONCE = 100
const ROUNDS = 3

const dir = mkdtempSync(join(tmpdir(), "alien-bench-commands-"))
const children = new Set()

function start(program, args, options) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], ...options })
  children.add(child)
  child.once("close", () => children.delete(child))
  return child
}

/** Private memory in MiB: what a process has for itself. */
function privateMemory(pid) {
  const kilobytes = [...readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").matchAll(/^Private_\w+:\s+(\d+)/gm)].map(([, size]) => Number(size))
  return kilobytes.reduce((sum, size) => sum + size, 0) / 1024
}

/** Processor time that a process has used, in microseconds: at 100 ticks a second. */
function processorTime(pid) {
  const [, , ...fields] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/\(.*\)/, "()").split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

/** This project's manager: callers and a worker that speak its protocol over kept connections. */
async function ours() {
  const admin = join(dir, "admin")
  writeFileSync(admin, "admin", { mode: 0o600 })
  const child = start(join(root, "alien-manager"), ["serve", "--data", join(dir, "manager"), "--listen", "127.0.0.1:0", "--admin-token-file", admin])
  const url = JSON.parse(await new Promise((resolve) => child.stdout.setEncoding("utf8").once("data", resolve))).url
  const { hostname, port } = new URL(url)
  const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: 1024 })
  const call = (method, path, token, body) => new Promise((resolve, reject) => {
    const text = JSON.stringify(body)
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", "content-length": Buffer.byteLength(text) }
    const request = http.request({ hostname, port, path, method, agent, headers }, (response) => {
      let answer = ""
      response.setEncoding("utf8").on("data", (piece) => (answer += piece)).on("end", () => {
        if (response.statusCode > 201) reject(new Error(`${method} ${path}: ${response.statusCode} ${answer}`))
        else resolve(JSON.parse(answer))
      })
    })
    request.on("error", reject)
    request.end(text)
  })
  const token = async (body) => (await call("POST", "/v1/tokens", "admin", body)).token
  const invoke = await token({ role: "invoke", deploymentId: "bench" })
  const receive = await token({ role: "receive", deploymentId: "bench", resourceId: "worker" })
  const idle = privateMemory(child.pid)
  const params = { mode: "inline", inlineBase64: Buffer.from('{"n":1}').toString("base64") }
  return {
    name: "alien-manager",
    idle,
    pid: child.pid,
    async worker(atOnce) {
      let working = true
      const target = { resourceId: "worker", resourceType: "daemon" }
      const running = new Set()
      const loop = (async () => {
        while (working) {
          const { leases } = await call("POST", "/v1/commands/leases", receive, { deploymentId: "bench", target, maxLeases: Math.min(AT_ONCE, atOnce), waitSeconds: 0.5 })
          for (const { envelope } of leases) {
            const done = call("PUT", envelope.responseHandling.submitResponseUrl, receive, { status: "success", response: params })
            running.add(done)
            done.finally(() => running.delete(done))
          }
        }
      })()
      return async () => {
        working = false
        await loop
        await Promise.all(running)
      }
    },
    async call() {
      const { state } = await call("POST", "/v1/commands?wait=60", invoke, { deploymentId: "bench", command: "go", targetResourceId: "worker", params })
      if (state !== "SUCCEEDED") throw new Error(`the command is ${state}`)
    },
    async end() {
      agent.destroy()
      child.kill()
      await new Promise((resolve) => child.once("close", resolve))
    },
  }
}

/** BullMQ as its documentation has it: `add`, `waitUntilFinished`, a worker; on a redis-server that syncs every write. */
async function bullmq() {
  const folder = mkdtempSync(join(dir, "bullmq-"))
  writeFileSync(join(folder, "package.json"), "{}")
  const { status } = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--silent", "bullmq@5"], { cwd: folder, stdio: "inherit" })
  if (status !== 0) throw new Error("bullmq cannot be installed")
  const { Queue, QueueEvents, Worker } = createRequire(join(folder, "package.json"))("bullmq")
  const socket = join(dir, "redis.sock")
  const child = start("redis-server", ["--port", "0", "--unixsocket", socket, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", folder, "--loglevel", "notice"])
  await new Promise((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text) => /ready to accept connections/i.test(text) && resolve())
    child.once("close", (code) => reject(new Error(`redis-server ended with ${code}`)))
  })
  const idle = privateMemory(child.pid)
  const connection = { path: socket, maxRetriesPerRequest: null }
  const queue = new Queue("bench", { connection })
  const events = new QueueEvents("bench", { connection })
  await events.waitUntilReady()
  // One listener for each call that waits.
  for (const emitter of [queue, events]) emitter.setMaxListeners(0)
  return {
    name: "BullMQ on redis-server, appendfsync always",
    idle,
    pid: child.pid,
    async worker(concurrency) {
      const worker = new Worker("bench", async () => ({ n: 1 }), { connection, concurrency: Math.min(AT_ONCE, concurrency) })
      await worker.waitUntilReady()
      return () => worker.close()
    },
    async call() {
      const job = await queue.add("go", { n: 1 }, { removeOnComplete: 1000 })
      await job.waitUntilFinished(events)
    },
    async end() {
      await Promise.all([queue.close(), events.close()])
      child.kill()
      await new Promise((resolve) => child.once("close", resolve))
    },
  }
}

/** So many callers, each of which calls again as soon as it has its result. Gives their times, sorted, in milliseconds. */
async function measure(peer, callers) {
  const stop = await peer.worker(callers)
  const run = async (milliseconds, times) => {
    const end = performance.now() + milliseconds
    await Promise.all(Array.from({ length: callers }, async () => {
      while (performance.now() < end) {
        const begun = performance.now()
        await peer.call()
        times.push(performance.now() - begun)
      }
    }))
  }
  await run(SECONDS * 250, [])
  const times = []
  const [begun, used] = [performance.now(), processorTime(peer.pid)]
  await run(SECONDS * 1000, times)
  const seconds = (performance.now() - begun) / 1000
  const each = (processorTime(peer.pid) - used) / times.length
  await stop()
  times.sort((a, b) => a - b)
  const at = (part) => times[Math.min(times.length - 1, Math.floor(times.length * part))]
  return { rate: times.length / seconds, p50: at(0.5), p99: at(0.99), each }
}

const middle = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

try {
  const peers = [await ours(), await bullmq()]
  for (const { name, idle } of peers) console.log(`${name}, idle: ${idle.toFixed(1)} MiB private memory`)
  for (const callers of CALLERS) {
    const rounds = new Map(peers.map(({ name }) => [name, []]))
    // Turn by turn, so that what else this machine does hits both.
    for (let round = 0; round < ROUNDS; round++) for (const peer of peers) rounds.get(peer.name).push(await measure(peer, callers))
    for (const [name, all] of rounds) {
      const [rate, p50, p99, each] = ["rate", "p50", "p99", "each"].map((key) => all.map((one) => one[key]))
      const [least, most] = [Math.min(...rate), Math.max(...rate)].map((n) => n.toFixed(0))
      console.log(`${callers} callers, ${name}: ${middle(rate).toFixed(0)}/s (${least}–${most}), p50 ${middle(p50).toFixed(2)} ms, p99 ${middle(p99).toFixed(2)} ms; the server's processor ${middle(each).toFixed(0)} µs each`)
    }
  }
  for (const { name, pid } of peers) console.log(`${name}, after all of it: ${privateMemory(pid).toFixed(1)} MiB private memory`)
  for (const peer of peers) await peer.end()
} finally {
  for (const child of children) child.kill("SIGKILL")
  rmSync(dir, { recursive: true, force: true })
}
