// What a command costs from call to result, on disk before every answer; beside BullMQ on a redis-server that promises as
// much (`appendfsync always`), in the same run and the same order of things: a caller, a queue, a worker, a result.
//
// All callers are this one process, and the worker is another, each with its peer's own library: where there are two
// processors for three, the processor time that each of them takes tells what the rates are made of.
//
//   node benches/commands.mjs        needs Debian's redis-server and nats-server; BullMQ and nats are installed into a temporary folder

import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { CommandsClient } from "../js/commands/index.mjs"
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

/** What each peer's worker does, in a process of its own as daemons are: it says `ready`, and works until it is killed. */
const WORKERS = {
  ours: `
    const { createCommandReceiver } = require(process.argv[1])
    const receiver = createCommandReceiver({ concurrency: Number(process.argv[2]) }).command("go", (params) => params)
    receiver.run()
    process.stdout.write("ready")`,
  bullmq: `
    const { Worker } = require(process.argv[1])
    const connection = { path: process.env.SOCKET, maxRetriesPerRequest: null }
    new Worker("bench", async (job) => job.data, { connection, concurrency: Number(process.argv[2]) }).waitUntilReady().then(() => process.stdout.write("ready"))`,
  nats: `
    const { connect } = require(process.argv[1])
    connect({ servers: process.env.SERVER }).then(async (connection) => {
      connection.subscribe("go", { callback: (error, message) => message.respond(message.data) })
      await connection.flush()
      process.stdout.write("ready")
    })`,
}

/** Starts a worker that takes as many commands at once as there are callers; gives its pid, and what ends it. */
async function worker(name, module, callers, env) {
  const child = start(process.execPath, ["-e", WORKERS[name], module, String(Math.min(AT_ONCE, callers))], { env: { ...process.env, ...env } })
  await new Promise((resolve) => child.stdout.once("data", resolve))
  return {
    pid: child.pid,
    async end() {
      child.kill("SIGKILL")
      await new Promise((resolve) => child.once("close", resolve))
    },
  }
}

/** This project's manager, receiver and client, as they are documented. */
async function ours() {
  const admin = join(dir, "admin")
  writeFileSync(admin, "admin", { mode: 0o600 })
  const child = start(join(root, "alien-manager"), ["serve", "--data", join(dir, "manager"), "--listen", "127.0.0.1:0", "--admin-token-file", admin])
  const { url } = JSON.parse(await new Promise((resolve) => child.stdout.setEncoding("utf8").once("data", resolve)))
  const token = async (body) => {
    const headers = { authorization: "Bearer admin", "content-type": "application/json" }
    return (await (await fetch(`${url}/v1/tokens`, { method: "POST", headers, body: JSON.stringify(body) })).json()).token
  }
  const receive = await token({ role: "receive", deploymentId: "bench", resourceId: "worker" })
  const client = new CommandsClient({ managerUrl: url, deploymentId: "bench", token: await token({ role: "invoke", deploymentId: "bench" }) })
  const target = client.target("worker")
  return {
    name: "alien-manager",
    idle: privateMemory(child.pid),
    pid: child.pid,
    worker: (callers) => worker("ours", join(root, "js/commands/index.js"), callers, {
      ALIEN_COMMANDS_URL: url,
      ALIEN_COMMANDS_TOKEN: receive,
      ALIEN_DEPLOYMENT_ID: "bench",
      ALIEN_COMMANDS_TARGET_RESOURCE_ID: "worker",
    }),
    call: () => target.invoke("go", { n: 1 }),
    async end() {
      client.close()
      child.kill()
      await new Promise((resolve) => child.once("close", resolve))
    },
  }
}

/** A folder with a package from npm; gives the package's path. */
function installed(name) {
  const folder = mkdtempSync(join(dir, "npm-"))
  writeFileSync(join(folder, "package.json"), "{}")
  const { status } = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--silent", name], { cwd: folder, stdio: "inherit" })
  if (status !== 0) throw new Error(`${name} cannot be installed`)
  return join(folder, "node_modules", name.replace(/@\d.*$/, ""))
}

/** BullMQ as its documentation has it: `add`, `waitUntilFinished`, a worker; on a redis-server that syncs every write. */
async function bullmq() {
  const module = installed("bullmq@5")
  const { Queue, QueueEvents } = createRequire(import.meta.url)(module)
  const [data, socket] = [mkdtempSync(join(dir, "redis-")), join(dir, "redis.sock")]
  const child = start("redis-server", ["--port", "0", "--unixsocket", socket, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", data, "--loglevel", "notice"])
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
    worker: (callers) => worker("bullmq", module, callers, { SOCKET: socket }),
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

/** NATS request and reply: nothing is kept anywhere. What passing a message on costs, and no promise of anything. */
async function nats() {
  const module = installed("nats@2")
  const { connect } = createRequire(import.meta.url)(module)
  const [data, ports] = [mkdtempSync(join(dir, "nats-")), mkdtempSync(join(dir, "ports-"))]
  const child = start("nats-server", ["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", ports, "--store_dir", data], { stdio: ["ignore", "pipe", "ignore"] })
  let file
  while ((file = readdirSync(ports)[0]) === undefined) await new Promise((resolve) => setTimeout(resolve, 20))
  let server
  while (server === undefined) {
    try {
      server = JSON.parse(readFileSync(join(ports, file), "utf8")).nats[0]
    } catch {
      // Half written.
    }
  }
  const connection = await connect({ servers: server })
  const payload = new TextEncoder().encode('{"n":1}')
  return {
    name: "NATS request and reply, not kept",
    idle: privateMemory(child.pid),
    pid: child.pid,
    worker: (callers) => worker("nats", module, callers, { SERVER: server }),
    call: () => connection.request("go", payload, { timeout: 60_000 }),
    async end() {
      await connection.close()
      child.kill()
      await new Promise((resolve) => child.once("close", resolve))
    },
  }
}

/** So many callers, each of which calls again as soon as it has its result. Gives their times, sorted, in milliseconds. */
async function measure(peer, callers) {
  const worker = await peer.worker(callers)
  const used = () => [peer.pid, worker.pid, process.pid].map(processorTime)
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
  const [begun, before] = [performance.now(), used()]
  await run(SECONDS * 1000, times)
  const seconds = (performance.now() - begun) / 1000
  const each = used().map((now, index) => (now - before[index]) / times.length)
  await worker.end()
  times.sort((a, b) => a - b)
  const at = (part) => times[Math.min(times.length - 1, Math.floor(times.length * part))]
  return { rate: times.length / seconds, p50: at(0.5), p99: at(0.99), each }
}

const middle = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

try {
  const peers = [await ours(), await bullmq(), await nats()]
  for (const { name, idle } of peers) console.log(`${name}, idle: ${idle.toFixed(1)} MiB private memory`)
  for (const callers of CALLERS) {
    const rounds = new Map(peers.map(({ name }) => [name, []]))
    // Turn by turn, so that what else this machine does hits both.
    for (let round = 0; round < ROUNDS; round++) for (const peer of peers) rounds.get(peer.name).push(await measure(peer, callers))
    for (const [name, all] of rounds) {
      const [rate, p50, p99] = ["rate", "p50", "p99"].map((key) => all.map((one) => one[key]))
      const each = [0, 1, 2].map((index) => middle(all.map((one) => one.each[index])).toFixed(0))
      const [least, most] = [Math.min(...rate), Math.max(...rate)].map((n) => n.toFixed(0))
      console.log(`${callers} callers, ${name}: ${middle(rate).toFixed(0)}/s (${least}–${most}), p50 ${middle(p50).toFixed(2)} ms, p99 ${middle(p99).toFixed(2)} ms; processor, µs each: server ${each[0]}, worker ${each[1]}, caller ${each[2]}`)
    }
  }
  for (const { name, pid } of peers) console.log(`${name}, after all of it: ${privateMemory(pid).toFixed(1)} MiB private memory`)
  for (const peer of peers) await peer.end()
} finally {
  for (const child of children) child.kill("SIGKILL")
  rmSync(dir, { recursive: true, force: true })
}
