// From a kill -9 of a static program to the first instruction of the next one, beside others that keep programs. All keep as
// many of them, each of which has lived for more than ten seconds when it is killed: none counts that as a crash loop, and
// none has to wait.
//
//   node benches/restart.mjs [RUNS]        takes Debian's runit, s6, supervisor and docker.io where they are, and pm2 from npm

import { spawn, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import { setTimeout as sleep } from "node:timers/promises"
import { Daemon, Stack, deploy } from "../index.js"
import { closeWorkspace, program as programOf, median, spread, workspace } from "./support.mjs"

const runs = Number(process.argv[2] ?? 20)
const LIVED = 11_000
const space = await workspace()
const program = programOf("clock")
const indices = Array.from({ length: runs }, (_, index) => index)
const closers = []

const has = (name) => (process.env.PATH ?? "").split(":").concat("/usr/sbin", "/sbin").some((dir) => existsSync(join(dir, name)))
const run = (name, args, options) => {
  const { status, stdout, stderr, error } = spawnSync(name, args, { encoding: "utf8", ...options })
  if (status !== 0) throw new Error(`${name} ${args.join(" ")}: ${error?.message ?? stderr}`)
  return stdout.trim()
}

/** Asks until there is an answer. */
async function until(ask, what) {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(2)) {
    const answer = ask()
    if (answer) return answer
  }
  throw new Error(`${what} has not come`)
}

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
  runit: has("runsv") && (() => supervised("runit", (dir, out) => spawn("runsv", [dir], { stdio: ["ignore", out, "ignore"] }), "SIGTERM")),
  s6: has("s6-supervise") && (() => supervised("s6", (dir, out) => spawn("s6-supervise", [dir], { stdio: ["ignore", out, "ignore"] }), "SIGTERM")),
  supervisor: has("supervisord") && (async () => {
    const dir = join(space.dir, "supervisor")
    mkdirSync(dir)
    const file = (index) => join(dir, `${index}.log`)
    const programs = indices.map((index) => `[program:p${index}]\ncommand=${program}\nautorestart=true\nstartsecs=0\nstdout_logfile=${file(index)}\n`)
    writeFileSync(join(dir, "conf"), `[supervisord]\nnodaemon=true\nlogfile=${dir}/log\npidfile=${dir}/pid\n${programs.join("")}`)
    const child = spawn("supervisord", ["-c", join(dir, "conf")], { stdio: "ignore" })
    closers.push(() => ended(child, "SIGTERM"))
    await until(() => indices.every((index) => stamps(file(index)).length === 1), "supervisord's programs")
    return byOutput(child.pid, indices.map(file))
  }),
  pm2: async () => {
    const dir = join(space.dir, "pm2")
    mkdirSync(dir)
    writeFileSync(join(dir, "package.json"), "{}")
    run("npm", ["install", "--no-audit", "--no-fund", "--silent", "pm2@6"], { cwd: dir })
    const env = { ...process.env, PM2_HOME: join(dir, "home") }
    const pm2 = (...args) => run(process.execPath, [join(dir, "node_modules/pm2/bin/pm2"), "--silent", ...args], { env, cwd: dir })
    const file = (index) => join(dir, `${index}.log`)
    const apps = indices.map((index) => ({ name: `p${index}`, script: program, interpreter: "none", out_file: file(index), exec_mode: "fork" }))
    writeFileSync(join(dir, "apps.json"), JSON.stringify({ apps }))
    closers.push(() => pm2("kill"))
    pm2("start", "apps.json")
    await until(() => indices.every((index) => stamps(file(index)).length === 1), "pm2's programs")
    return byOutput(Number(readFileSync(join(dir, "home/pm2.pid"), "utf8")), indices.map(file))
  },
  docker: has("dockerd") && process.geteuid() === 0 && (async () => {
    const dir = join(space.dir, "docker")
    mkdirSync(dir)
    const host = `unix://${dir}/sock`
    const args = ["--data-root", `${dir}/data`, "--exec-root", `${dir}/exec`, "-H", host, "--pidfile", `${dir}/pid`, "--bridge=none", "--iptables=false", "--ip6tables=false"]
    const child = spawn("dockerd", args, { stdio: "ignore" })
    const docker = (...words) => run("docker", ["-H", host, ...words])
    closers.push(() => ended(child, "SIGTERM"))
    await until(() => spawnSync("docker", ["-H", host, "info"]).status === 0, "dockerd")
    const context = join(dir, "image.tar")
    run("tar", ["-C", join(program, ".."), "-cf", context, "clock"])
    docker("import", "-c", 'ENTRYPOINT ["/clock"]', context, "clock")
    const ids = indices.map(() => docker("run", "-d", "--restart=always", "--network=none", "clock"))
    closers.push(() => docker("rm", "-f", ...ids))
    return ids.map((id) => ({ pid: () => Number(docker("inspect", "-f", "{{.State.Pid}}", id)), starts: () => stamps(join(dir, "data/containers", id, `${id}-json.log`)) }))
  }),
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
  await until(() => all.every(({ out }) => stamps(out).length === 1), `${name}'s programs`)
  return all.map(({ child, out }) => ({ pid: () => childOf(child.pid), starts: () => stamps(out) }))
}

/** Programs that are all children of one process: each by the file that its output goes to, in the order of their starts. */
function byOutput(parent, files) {
  const first = (pid) => Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")[19])
  const pids = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ").map(Number)
  const started = pids.sort((a, b) => first(a) - first(b) || a - b)
  const order = files.toSorted((a, b) => (stamps(a)[0] < stamps(b)[0] ? -1 : 1))
  return order.map((file, index) => ({ pid: () => started[index], starts: () => stamps(file) }))
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
      const found = await until(() => starts().length > before && starts(), `${name}'s next program`)
      times.push(Number(BigInt(found.at(-1)) / 1000n) / 1000 - killed)
    }
    medians[name] = median(times)
    console.log(`${name.padEnd(10)} kill -9 to the next first instruction: ${spread(times)} ms${name === "alien" ? " (goal: at most 2.5)" : `; alien takes ${(medians.alien / medians[name]).toFixed(2)} of it`}`)
  } catch (error) {
    console.log(`${name}: not measured: ${error.message}`)
  }
  for (const close of closers.splice(0).reverse()) await close()
}
rmSync(join(space.dir, "docker"), { recursive: true, force: true })
await closeWorkspace(space)
