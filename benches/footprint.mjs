// What stays resident, beside that of others which keep programs: private memory of each of our scanner, supervisors and inits,
// and what they do while nothing happens, as wake-ups and processor time per minute; the same of runit's runsv, Podman's conmon and
// Docker's containerd-shim, one of which is there for each program as well. All keep as many of the same program.
//
//   node benches/footprint.mjs [COUNT] [SECONDS]        takes runit, podman, docker.io and skopeo for the peers, and root

import { spawn } from "node:child_process"
import { mkdirSync, readFileSync, readdirSync, symlinkSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Daemon, Stack, deploy } from "../index.js"
import { closeWorkspace, docker, isThere, podman, privateMemory, program, run, spread, until, workspace } from "./support.mjs"

const count = Number(process.argv[2] ?? 10)
const seconds = Number(process.argv[3] ?? 30)
const indices = Array.from({ length: count }, (_, index) => index)
const space = await workspace()

/** Processes with this text in their command line: `[{pid, ppid, args}]`. */
const processes = (text) =>
  run("ps", ["-eo", "pid=,ppid=,args=", "-ww"]).split("\n").filter((line) => line.includes(text)).map((line) => {
    const [pid, ppid, ...args] = line.trim().split(/\s+/)
    return { pid, ppid, args }
  })

/** By the name of its kind, the processes that keep programs here. */
function tree() {
  const all = processes(space.stateDir).filter(({ args }) => args[0].includes("alien-supervisor"))
  const running = all.filter(({ args }) => args[1] === "run")
  const isInit = ({ ppid }) => running.some(({ pid }) => pid === ppid)
  return { supervisor: running.filter((row) => !isInit(row)), init: running.filter(isInit), scanner: all.filter(({ args }) => args[1] === "scan") }
}

/** How often a process has gone to sleep, in all its threads, and what time it was given, in ms. */
function activity(pid) {
  let [sleeps, time] = [0, 0]
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    sleeps += Number(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8").match(/^voluntary_ctxt_switches:\s+(\d+)/m)[1])
    time += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e6
  }
  return { sleeps, time }
}

/** Says what each of these kinds of processes has and does, once what has begun them is over. */
async function measure(who, kinds, goals = {}) {
  await sleep(5000)
  const before = new Map(Object.values(kinds).flat().map(({ pid }) => [pid, activity(pid)]))
  await sleep(seconds * 1000)
  for (const [kind, rows] of Object.entries(kinds)) {
    const pids = rows.map(({ pid }) => pid)
    if (pids.length === 0) throw new Error(`${who}: no ${kind} is found`)
    const perMinute = (what) => pids.map((pid) => ((activity(pid)[what] - before.get(pid)[what]) * 60) / seconds)
    const goal = goals[kind] ? ` (goal: at most ${goals[kind]})` : ""
    console.log(`${who.padEnd(7)} ${kind.padEnd(16)} ${spread(pids.map(privateMemory), 0)} KiB${goal}; idle, per minute: ${spread(perMinute("sleeps"), 0)} wake-ups, ${spread(perMinute("time"))} ms of processor`)
  }
}

async function alien(many) {
  const stack = new Stack("footprint")
  for (const index of indices.slice(0, many)) stack.add(new Daemon(`d${index}`).code({ type: "image", image: space.image }).permissions("none").build(), "live")
  const deployment = await deploy(stack.build(), { platform: "local", local: { stateDir: space.stateDir } })
  await measure("alien", tree(), { supervisor: 256, init: 32 })
  await deployment.destroy()
}

async function runit() {
  if (!isThere("runsv")) return console.log("runit: not measured, it is not here")
  const all = indices.map((index) => {
    const dir = join(space.dir, "runit", String(index))
    mkdirSync(dir, { recursive: true })
    symlinkSync(program("clock"), join(dir, "run"))
    return spawn("runsv", [dir], { stdio: "ignore" })
  })
  await measure("runit", { runsv: all.map(({ pid }) => ({ pid })) })
  await Promise.all(all.map((child) => {
    const ended = new Promise((resolve) => child.once("exit", resolve))
    child.kill("SIGTERM")
    return ended
  }))
}

/** An engine's keepers of containers, of which there is one for each. */
async function engine(name, its, kind) {
  if (!its) return console.log(`${name}: not measured, it is not here, or this is not root`)
  const image = its.load(space.image)
  const ids = []
  try {
    for (let index = 0; index < count; index++) ids.push(its.cli(["run", "-d", ...its.quirks, "--restart=always", "--network=none", image]))
    const keepers = () => processes(space.dir).filter(({ args }) => args[0].endsWith(kind))
    await until(() => keepers().length === count)
    await measure(name, { [kind]: keepers() })
  } finally {
    if (ids.length > 0) its.cli(["rm", "-f", ...ids])
    await its.stop()
  }
}

console.log(`private memory of each, and what it does in ${seconds} s in which nothing happens`)
await alien(1)
await alien(count)
await runit()
await engine("podman", podman(space), "conmon")
await engine("docker", await docker(space), "containerd-shim-runc-v2")
closeWorkspace(space)
