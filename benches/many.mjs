// A thousand daemons of one image on this machine: deployed, all killed at once and up again, and their status; beside runit's
// runsvdir with as many services of the same program, which neither unpacks, isolates nor logs.
//
//   node benches/many.mjs [COUNT]        needs runit for the peer

import { spawn } from "node:child_process"
import { chmodSync, mkdirSync, readFileSync, readdirSync, readlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { Daemon, Stack, deploy } from "../index.js"
import { closeWorkspace, isThere, privateMemory, program, spread, until, workspace } from "./support.mjs"

const count = Number(process.argv[2] ?? 1000)
const space = await workspace()
const seconds = (since) => (performance.now() - since) / 1000

/** Pids whose executable has this name: the programs themselves, however they are seen. */
function programs(name) {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readlinkSync(`/proc/${pid}/exe`).endsWith(name) && !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))
    } catch {
      return false
    }
  }).map(Number)
}

/** Kills all of them at once; seconds until as many others run. */
async function killAll(name) {
  const former = new Set(programs(name))
  const start = performance.now()
  for (const pid of former) process.kill(pid, "SIGKILL")
  await until(() => programs(name).filter((pid) => !former.has(pid)).length >= count, 120)
  return seconds(start)
}

async function ours() {
  const stack = new Stack("many")
  for (let index = 0; index < count; index++) {
    stack.add(new Daemon(`d${index}`).code({ type: "image", image: space.image }).permissions("none").build(), "live")
  }
  const options = { platform: "local", local: { stateDir: space.stateDir } }
  const built = stack.build()
  let start = performance.now()
  const deployment = await deploy(built, options)
  const deployed = seconds(start)
  start = performance.now()
  await deploy(built, options)
  const unchanged = seconds(start)
  const status = []
  for (let round = 0; round < 10; round++) {
    start = performance.now()
    const { resources } = await deployment.status()
    status.push(performance.now() - start)
    if (resources.filter(({ state }) => state === "running").length !== count) throw new Error("not all of them run")
  }
  // Those that have lived for ten seconds are started again at once.
  await new Promise((resolve) => setTimeout(resolve, 10_000))
  const restarted = await killAll("/clock")
  const tree = readdirSync("/proc").filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(space.stateDir)
    } catch {
      return false
    }
  })
  const memory = tree.reduce((sum, pid) => sum + privateMemory(pid), 0) / 1024
  start = performance.now()
  await deployment.destroy()
  return { deployed, unchanged, status, restarted, memory, destroyed: seconds(start) }
}

async function runit() {
  if (!isThere("runsvdir")) return undefined
  const services = join(space.dir, "services")
  for (let index = 0; index < count; index++) {
    const dir = join(services, `d${index}`)
    mkdirSync(dir, { recursive: true })
    writeFileSync(join(dir, "run"), `#!/bin/sh\nexec ${program("clock")} >/dev/null\n`)
    chmodSync(join(dir, "run"), 0o755)
  }
  const start = performance.now()
  const runsvdir = spawn("runsvdir", [services], { stdio: "ignore" })
  await until(() => programs("/benches/clock").length >= count, 120)
  const deployed = seconds(start)
  await new Promise((resolve) => setTimeout(resolve, 10_000))
  const restarted = await killAll("/benches/clock")
  runsvdir.kill("SIGHUP")
  await until(() => programs("/benches/clock").length === 0 && programs("/runsv").length === 0, 120)
  return { deployed, restarted }
}

const alien = await ours()
const peer = await runit()
console.log(`${count} daemons of one image`)
console.log(`deployed, each up:           ${alien.deployed.toFixed(2)} s (goal: at most 10)${peer ? `; runsvdir, started: ${peer.deployed.toFixed(2)} s` : ""}`)
console.log(`deployed again, unchanged:   ${alien.unchanged.toFixed(2)} s`)
console.log(`status:                      ${spread(alien.status, 0)} ms (goal: at most 100)`)
console.log(`all killed, all run again:   ${alien.restarted.toFixed(2)} s (goal: at most 5)${peer ? `; runsvdir: ${peer.restarted.toFixed(2)} s, ${(peer.restarted / alien.restarted).toFixed(1)} ×` : ""}`)
console.log(`private memory of the tree:  ${alien.memory.toFixed(0)} MiB, ${((alien.memory * 1024) / count).toFixed(0)} KiB each with its init`)
console.log(`destroyed:                   ${alien.destroyed.toFixed(2)} s`)
closeWorkspace(space)
