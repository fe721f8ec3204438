"use strict"

// A program beside a daemon on this machine: where it is, what it may do, and what is left of it.

const { existsSync, readFileSync } = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, eventually, failure, isAlive, processesWith, stackOf, testBed, until } = require("./lib/bed.js")
const { groupsOf } = require("./lib/tree.js")

const bed = testBed()
let image
let deployment

beforeAll(async () => {
  image = await bed.image()
  deployment = await bed.deploy(stackOf("beside", daemon("d", image, "print=up", "ready").memory("64Mi")))
})

const inside = (...steps) => deployment.exec("d", ["/bin/daemon", ...steps, "exit=0"])

test("it is in the daemon's namespaces, with no more rights than it has", async () => {
  const { stdout } = await inside("hostname", "list=/home", "procs", "ids", "call=165", "call=272:268435456", "read=/proc/self/cgroup")
  const lines = stdout.split("\n")
  expect(lines).toEqual(expect.arrayContaining(["hostname d", "list /home: NotFound", "call 165: 1", "call 272:268435456: 1"]))
  // Pid 1 is the init, 2 the daemon's program.
  expect(lines.find((line) => line.startsWith("procs "))).toMatch(/^procs 1:S 2:S \d+:R$/)
  const ids = lines.find((line) => line.startsWith("ids "))
  expect(ids).toContain("nnp=1")
  const { pid } = await bed.one(deployment, "d")
  const caps = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]
  expect(BigInt(`0x${ids.match(/caps=([0-9a-f]+)/)[1]}`) & ~BigInt(`0x${caps}`)).toBe(0n)
})

test("its memory counts as the daemon's", async () => {
  const { conditions } = await bed.one(deployment, "d")
  if (conditions.some(({ type }) => type === "LimitsEnforced")) return
  expect(await deployment.exec("d", ["/bin/daemon", `eat=${96 * 1024 * 1024}`, "exit=0"])).toMatchObject({ signal: "SIGKILL" })
  expect(await bed.one(deployment, "d")).toMatchObject({ state: "running", restarts: 0 })
})

test("it is the image's user, in its working folder, unless it has none", async () => {
  const from = await bed.image({ config: { WorkingDir: "/made/here" } })
  const its = await bed.deploy(stackOf("folder", daemon("d", from, "ready")))
  expect((await its.exec("d", ["/bin/daemon", "cwd", "exit=0"])).stdout).toBe("cwd /made/here\n")
})

test("a name is looked up in the daemon's PATH; what is missing is named", async () => {
  expect((await deployment.exec("d", ["daemon", "print=found", "exit=0"])).stdout).toBe("found\n")
  const error = await failure(deployment.exec("d", ["no-such"]))
  expect(error).toMatchObject({ code: "ENTRYPOINT_MISSING", message: 'the program "no-such" does not exist in the image\'s PATH' })
})

test("beside a daemon that is not running it cannot be, and that is said", async () => {
  expect(await failure(bed.deploy(stackOf("loops", daemon("loops", image, "exit=1"))))).toMatchObject({ code: "DAEMON_NOT_UP" })
  const looping = await alien.connect(bed.options({ name: "loops" }))
  await eventually(() => bed.one(looping, "loops"), ({ state, pid }) => state === "crash-looping" && pid === undefined)
  const error = await failure(looping.exec("loops", ["/bin/daemon", "exit=0"]))
  expect(error).toMatchObject({ code: "DAEMON_NOT_RUNNING", httpStatusCode: 409 })
})

test("it ends with its daemon, and nothing of it is left", async () => {
  const lines = []
  const running = deployment.exec("d", ["/bin/daemon", "print=runs", "sleep"], { onStdout: (bytes) => lines.push(`${bytes}`) })
  await eventually(() => lines.join("").includes("runs"))
  const helpers = () => processesWith(bed.stateDir).filter(({ command }) => / exec /.test(command))
  expect(helpers().length).toBeGreaterThan(0)
  await deployment.restart("d")
  expect(await running).toMatchObject({ signal: "SIGKILL" })
  await eventually(() => helpers().length === 0)
})

test("a daemon's control group goes with it, also where what was beside it takes a moment longer to end", async () => {
  const its = await bed.deploy(stackOf("goes", daemon("d", image, "ready").memory("64Mi")))
  const groups = groupsOf(path.join(bed.stateDir, "deployments/goes/daemons/d"))
  const { pid } = await bed.one(its, "d")
  const lines = []
  const beside = its.exec("d", ["/bin/daemon", "print=runs", "sleep"], { onStdout: (bytes) => lines.push(`${bytes}`) })
  await eventually(() => lines.join("").includes("runs"))
  const helper = processesWith("/goes/").find(({ command }) => / exec /.test(command)).pid
  process.kill(helper, "SIGSTOP")
  const destroyed = its.destroy()
  await eventually(() => !isAlive(pid))
  process.kill(helper, "SIGCONT")
  await destroyed
  expect(await beside).toMatchObject({ signal: "SIGKILL" })
  expect(groups.filter(existsSync)).toEqual([])
})

test("who asked may go: the program goes on; the connection's end is its terminal's", async () => {
  const controller = new AbortController()
  const run = (steps, options) => {
    let said = ""
    const running = failure(deployment.exec("d", ["/bin/daemon", ...steps], { ...options, signal: controller.signal, onStdout: (bytes) => void (said += bytes) }))
    return { running, said: () => said }
  }
  const plain = run(["write=/plain:begun", "print=begun", "wait=300", "write=/plain:done", "sleep"])
  const terminal = run(["print=begun", "sleep"], { tty: true })
  await eventually(() => plain.said().includes("begun") && terminal.said().includes("begun"))
  const before = processesWith("/bin/daemon").map(({ pid }) => pid)
  controller.abort(new Error("enough"))
  await Promise.all([plain.running, terminal.running])
  await eventually(async () => (await inside("read=/plain")).stdout, (text) => text === "read /plain: done\n")
  // SIGHUP, as where a terminal is closed.
  await eventually(() => before.filter(isAlive).length < before.length)
})

test("the command takes a terminal where it has one, and gives the exit code", async () => {
  const { code, stdout } = await bed.cli(["exec", "d", "-n", "beside", "--", "/bin/daemon", "print=by hand", "exit=5"], { cwd: path.join(bed.folder) })
  expect({ code, stdout }).toEqual({ code: 5, stdout: "by hand\n" })
  await until(deployment, "d", /^up$/)
})
