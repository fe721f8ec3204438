// A manager of commands that has much to keep: ten thousand daemons that wait for commands, and a million commands that
// ended long ago.
//
//   node benches/commands-fleet.mjs [DAEMONS] [COMMANDS]        10000 and 1000000; needs python3, which fills the database
//
// Daemons are connections, each with a question that the manager holds for a minute. Callers and daemons of the second part
// are this one process, before a manager that keeps nothing and before one that keeps all that, turn by turn.

import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import commands from "../js/commands/http.js"
import { root } from "./support.mjs"

const [DAEMONS = 10_000, KEPT = 1_000_000] = process.argv.slice(2).map(Number)
const WATCHED_SECONDS = 20
const CALLS = 200
const ROUNDS = 5
const ROUND_SECONDS = 3
const CALLERS = 8

const dir = mkdtempSync(join(tmpdir(), "alien-bench-fleet-"))
const children = new Set()
const admin = join(dir, "admin")
writeFileSync(admin, "admin", { mode: 0o600 })

/** A manager on the folder `name`, with its calls over kept connections. */
async function manager(name, ...more) {
  const args = ["serve", "--data", join(dir, name), "--listen", "127.0.0.1:0", "--admin-token-file", admin, ...more]
  const child = spawn(join(root, "alien-manager"), args, { stdio: ["ignore", "pipe", "inherit"] })
  children.add(child)
  const { url } = JSON.parse(await new Promise((resolve) => child.stdout.setEncoding("utf8").once("data", resolve)))
  const connection = new commands.Connection(url)
  const its = {
    url,
    pid: child.pid,
    async call(method, path, token, json) {
      const { status, json: answer } = await connection.call(method, path, { token, json, timeoutMs: 60_000 })
      if (status > 201) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(answer)}`)
      return answer
    },
    token: async (json) => (await its.call("POST", "v1/tokens", "admin", json)).token,
    async end() {
      connection.close()
      child.kill()
      await new Promise((resolve) => child.once("close", resolve))
      children.delete(child)
    },
  }
  return its
}

/** Private memory in MiB. */
function privateMemory(pid) {
  const sizes = [...readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").matchAll(/^Private_\w+:\s+(\d+)/gm)]
  return sizes.reduce((sum, [, size]) => sum + Number(size), 0) / 1024
}

/** Processor time in seconds: at 100 ticks a second. */
function processorTime(pid) {
  const [, , ...fields] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/\(.*\)/, "()").split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
const sorted = (numbers) => [...numbers].sort((a, b) => a - b)
const at = (numbers, part) => sorted(numbers)[Math.min(numbers.length - 1, Math.floor(numbers.length * part))]

/** Does `work` for every number below `count`, so many at once. */
async function each(count, atOnce, work) {
  let next = 0
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (next < count) await work(next++)
  }))
}

/** A daemon that waits: one connection, and always a question on it. `told` gets what the manager answers. */
function waiting({ url }, token, resourceId, told) {
  const { hostname, port } = new URL(url)
  const text = JSON.stringify({ deploymentId: "fleet", target: { resourceId, resourceType: "daemon" }, waitSeconds: 60 })
  const question = `POST /v1/commands/leases HTTP/1.1\r\nhost: manager\r\nauthorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
  const socket = net.connect(Number(port), hostname)
  socket.setNoDelay(true).on("data", (answer) => {
    told(answer.toString())
    socket.write(question)
  })
  return new Promise((resolve, reject) => {
    socket.once("error", reject)
    socket.once("connect", () => (socket.write(question), resolve(socket)))
  })
}

async function fleet() {
  const its = await manager("fleet")
  const tokens = []
  await each(DAEMONS, 64, async (index) => (tokens[index] = await its.token({ role: "receive", deploymentId: "fleet", resourceId: `d${index}` })))
  const invoke = await its.token({ role: "invoke", deploymentId: "fleet" })
  const before = privateMemory(its.pid)
  const arrived = new Map()
  const sockets = []
  await each(DAEMONS, 64, async (index) => {
    sockets.push(await waiting(its, tokens[index], `d${index}`, (answer) => {
      const id = /"commandId":"(cmd_[^"]+)"/.exec(answer)?.[1]
      if (id !== undefined) arrived.get(`d${index}`)?.(performance.now())
    }))
  })
  // Until all of them have been heard.
  for (let before = -1, now; before !== (now = processorTime(its.pid)); before = now) await pause(1)
  const [memory, used] = [privateMemory(its.pid), processorTime(its.pid)]
  await pause(WATCHED_SECONDS)
  const share = ((processorTime(its.pid) - used) / WATCHED_SECONDS) * 100
  console.log(`${DAEMONS} daemons that wait: ${memory.toFixed(0)} MiB private memory (${before.toFixed(0)} with their tokens alone), ${share.toFixed(2)} % of a processor over ${WATCHED_SECONDS} s`)
  const times = []
  for (let call = 0; call < CALLS; call++) {
    const targetResourceId = `d${Math.floor(Math.random() * DAEMONS)}`
    const begun = performance.now()
    const came = new Promise((resolve) => arrived.set(targetResourceId, resolve))
    await its.call("POST", "v1/commands", invoke, { deploymentId: "fleet", command: "go", targetResourceId })
    times.push((await came) - begun)
  }
  console.log(`a command for one of them is there after p50 ${at(times, 0.5).toFixed(2)} ms, p99 ${at(times, 0.99).toFixed(2)} ms`)
  sockets.forEach((socket) => socket.destroy())
  await its.end()
}

/** Puts ended commands into the database of a manager that has ended. */
const FILL = `
import sqlite3, sys, uuid
db = sqlite3.connect(sys.argv[1])
count = int(sys.argv[2])
now = 1760000000000
rows = ((f"cmd_{uuid.UUID(int=(now + n) << 80 | 7 << 76 | n)}", "kept", "worker", "daemon", "go", b'{"n":1}', now + n, f"key-{n}", "SUCCEEDED", 1, now + n + 5, b'{"n":1}') for n in range(count))
db.executemany("INSERT INTO commands (id, deployment, target_id, target_type, name, params, created_at, idempotency_key, state, attempt, finished_at, response) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
db.commit()
`

async function kept() {
  let calls = 0
  await (await manager("full")).end()
  const { status } = spawnSync("python3", ["-c", FILL, join(dir, "full/commands.db"), String(KEPT)], { stdio: "inherit" })
  if (status !== 0) throw new Error("the database could not be filled")
  const peers = []
  // Kept for ever: these are older than any retention.
  for (const name of ["empty", "full"]) {
    const its = await manager(name, "--retention-days", "100000")
    its.invoke = await its.token({ role: "invoke", deploymentId: "kept" })
    its.receive = await its.token({ role: "receive", deploymentId: "kept", resourceId: "worker" })
    peers.push({ name, its, rates: [] })
  }
  const params = { mode: "inline", inlineBase64: Buffer.from('{"n":1}').toString("base64") }
  const target = { resourceId: "worker", resourceType: "daemon" }
  for (let round = 0; round < ROUNDS; round++) {
    for (const { its, rates } of peers) {
      const end = performance.now() + ROUND_SECONDS * 1000
      let done = 0
      await each(CALLERS, CALLERS, async () => {
        while (performance.now() < end) {
          await its.call("POST", "v1/commands", its.invoke, { deploymentId: "kept", command: "go", targetResourceId: "worker", params, idempotencyKey: `${Date.now().toString(36)}-${calls++}` })
          const { leases } = await its.call("POST", "v1/commands/leases", its.receive, { deploymentId: "kept", target, maxLeases: 1 })
          for (const { envelope } of leases) await its.call("PUT", envelope.responseHandling.submitResponseUrl, its.receive, { status: "success", response: params })
          done += 1
        }
      })
      rates.push(done / ROUND_SECONDS)
    }
  }
  for (const { name, its, rates } of peers) {
    const range = `${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)}`
    console.log(`made, leased and answered, ${CALLERS} at once, on a store that is ${name}: ${at(rates, 0.5).toFixed(0)}/s (${range}), ${privateMemory(its.pid).toFixed(0)} MiB private memory`)
    await its.end()
  }
  console.log(`${KEPT} commands kept: ${(at(peers[0].rates, 0.5) / at(peers[1].rates, 0.5)).toFixed(2)} times as long as on an empty store`)
}

try {
  await fleet()
  await kept()
} finally {
  for (const child of children) child.kill("SIGKILL")
  rmSync(dir, { recursive: true, force: true })
}
