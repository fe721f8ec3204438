// From a kill -9 of a static program to the first instruction of the next one, beside others that keep programs. All keep as
// many of them, each of which has lived for more than ten seconds when it is killed: none counts that as a crash loop, and
// none has to wait.
//
//   node benches/restart.mjs [RUNS]        takes Debian's runit, s6, supervisor and docker.io where they are, and pm2 from npm

import { spawn } from "node:child_process"
import { existsSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { setTimeout as sleep } from "node:timers/promises"
import { Daemon, Stack, deploy } from "../index.js"
import { closeWorkspace, docker, isThere, median, program as programOf, run, spread, until, workspace } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const LIVED = 11_000
const space = await workspace()
const program = programOf("clock")
const indices = Array.from({ length: runs }, (_, index) => index)
const closers = []

const stamps = (file) => (existsSync(file) ? (readFileSync(file, "utf8").match(/\d{19}/g) ?? []) : [])
/** The pid of the child of a process. */
const childOf = (pid) => Number(run("ps", ["-o", "pid=", "--ppid", String(pid)]).split("\n")[0])

/** Each peer starts its programs, and says of each which pid it has and where its starts are told. */
const PEERS = {
  async alien() {
    const stack = new Stack("restart")
    for (const index of indices) stack.add(new Daemon(`d${index}`).code({ type: "image", image: space.image }).permissions("none").build(), "live")
    const deployment = await deploy(stack.build(), { platform: "local", local: { stateDir: space.stateDir } })
    closers.push(() => deployment.destroy())
    const { resources } = await deployment.status()
    return resources.map(({ id, pid }) => ({ pid: () => pid, starts: () => stamps(join(space.stateDir, "deployments/restart/daemons", id, "logs/daemon.log")) }))
  },
  runit: isThere("runsv") && (() => supervised("runit", (dir, out) => spawn("runsv", [dir], { stdio: ["ignore", out, "ignore"] }), "SIGTERM")),
  s6: isThere("s6-supervise") && (() => supervised("s6", (dir, out) => spawn("s6-supervise", [dir], { stdio: ["ignore", out, "ignore"] }), "SIGTERM")),
  supervisor: isThere("supervisord") && (async () => {
    const dir = join(space.dir, "supervisor")
    mkdirSync(dir)
    const file = (index) => join(dir, `${index}.log`)
    const programs = indices.map((index) => `[program:p${index}]\ncommand=${program} ${index}\nautorestart=true\nstartsecs=0\nstdout_logfile=${file(index)}\nstderr_logfile=NONE\n`)
    writeFileSync(join(dir, "conf"), `[supervisord]\nnodaemon=true\nlogfile=${dir}/log\npidfile=${dir}/pid\n${programs.join("")}`)
    const child = spawn("supervisord", ["-c", join(dir, "conf")], { stdio: "ignore" })
    closers.push(() => ended(child, "SIGTERM"))
    await until(() => indices.every((index) => stamps(file(index)).length === 1))
    return byArgument(child.pid, file)
  }),
  pm2: async () => {
    const dir = join(space.dir, "pm2")
    mkdirSync(dir)
    writeFileSync(join(dir, "package.json"), "{}")
    run("npm", ["install", "--no-audit", "--no-fund", "--silent", "pm2@6"], { cwd: dir })
    const env = { ...process.env, PM2_HOME: join(dir, "home") }
    const pm2 = (...args) => run(process.execPath, [join(dir, "node_modules/pm2/bin/pm2"), "--silent", ...args], { env, cwd: dir })
    const file = (index) => join(dir, `${index}.log`)
    const apps = indices.map((index) => ({ name: `p${index}`, script: program, args: [`${index}`], interpreter: "none", out_file: file(index), exec_mode: "fork" }))
    writeFileSync(join(dir, "apps.json"), JSON.stringify({ apps }))
    closers.push(() => pm2("kill"))
    pm2("start", "apps.json")
    await until(() => indices.every((index) => stamps(file(index)).length === 1))
    return byArgument(Number(readFileSync(join(dir, "home/pm2.pid"), "utf8")), file)
  },
  docker: async () => {
    const engine = await docker(space)
    if (!engine) throw new Error("it is not here, or this is not root")
    closers.push(() => engine.stop())
    const image = engine.load(space.image)
    const ids = indices.map(() => engine.cli(["run", "-d", "--restart=always", "--network=none", image]))
    closers.push(() => engine.cli(["rm", "-f", ...ids]))
    return ids.map((id) => ({ pid: () => Number(engine.cli(["inspect", "-f", "{{.State.Pid}}", id])), starts: () => stamps(engine.log(id)) }))
  },
}

/** Ends a process and waits for that. */
function ended(child, signal) {
  const gone = new Promise((resolve) => child.once("exit", resolve))
  child.kill(signal)
  return gone
}

/** One supervising process for each program, whose folder's `run` is the program itself: no shell between. */
async function supervised(name, start, signal) {
  const all = indices.map((index) => {
    const dir = join(space.dir, name, String(index))
    mkdirSync(dir, { recursive: true })
    symlinkSync(program, join(dir, "run"))
    const out = join(space.dir, name, `${index}.out`)
    const child = start(dir, openSync(out, "a"))
    closers.push(() => ended(child, signal))
    return { child, out }
  })
  await until(() => all.every(({ out }) => stamps(out).length === 1))
  return all.map(({ child, out }) => ({ pid: () => childOf(child.pid), starts: () => stamps(out) }))
}

/** Programs that are all children of one process: each by its argument, which is its own. The order in which they began says
 *  nothing of that in which they printed. */
function byArgument(parent, file) {
  const children = run("ps", ["-o", "pid=,args=", "--ppid", String(parent)]).split("\n").map((line) => line.trim().split(/\s+/))
  const pids = new Map(children.map((words) => [words.at(-1), Number(words[0])]))
  return indices.map((index) => ({ pid: () => pids.get(`${index}`), starts: () => stamps(file(index)) }))
}

const medians = {}
for (const [name, start] of Object.entries(PEERS)) {
  if (!start) {
    console.log(`${name}: not measured, it is not here`)
    continue
  }
  try {
    const programs = await start()
    await sleep(LIVED)
    const times = []
    for (const { pid, starts } of programs) {
      const number = pid()
      // Zero would be all of ourselves.
      if (!(number > 1)) throw new Error("its program cannot be found")
      const before = starts().length
      const killed = performance.timeOrigin + performance.now()
      process.kill(number, "SIGKILL")
      const found = await until(() => starts().length > before && starts(), 20)
      times.push(Number(BigInt(found.at(-1)) / 1000n) / 1000 - killed)
    }
    medians[name] = median(times)
    console.log(`${name.padEnd(10)} kill -9 to the next first instruction: ${spread(times)} ms${name === "alien" ? " (goal: at most 2.5)" : `; alien takes ${(medians.alien / medians[name]).toFixed(2)} of it`}`)
  } catch (error) {
    console.log(`${name}: not measured: ${error.message}`)
  }
  for (const close of closers.splice(0).reverse()) await close()
}
await closeWorkspace(space)
