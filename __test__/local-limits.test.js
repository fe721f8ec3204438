"use strict"

// What a daemon may use, and what becomes of one that takes more.

const { existsSync, readFileSync } = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, isAlive, stackOf, testBed, until } = require("./lib/bed.js")
const { groupsOf } = require("./lib/tree.js")

const MIB = 1024 * 1024
const bed = testBed()
let image
let held

const folder = (deployment, id = "d") => path.join(bed.stateDir, "deployments", deployment.name, "daemons", id)
const groups = (deployment, id) => groupsOf(folder(deployment, id))
/** The first of these files that one of the folders has. */
const said = (dirs, ...names) => dirs.flatMap((dir) => names.map((name) => path.join(dir, name))).filter(existsSync).map((file) => readFileSync(file, "utf8").trim())[0]

/** Kills a daemon's supervisor and init. The one may have taken the other along by the time that it is its turn. */
function killHelpers(folder) {
  for (const { pid } of bed.helpers().filter(({ command }) => command.includes(folder))) {
    if (isAlive(pid)) process.kill(pid, "SIGKILL")
  }
}

/** What preflight says of a stack's limits here. */
async function foretold(stack) {
  let report
  await alien.plan(stack, { ...bed.options(), onEvent: (event) => event.type === "preflight" && ({ report } = event) })
  return report.checks.find(({ id }) => id === "limits-are-enforced")
}

beforeAll(async () => {
  image = await bed.image()
  held = (await foretold(stackOf("asked", daemon("d", image).cpu(1).memory("64Mi")))).status === "passed"
  // Root may always, where there are control groups at all.
  if (process.geteuid() === 0) expect(held).toBe(true)
})

/** Where limits can be had. */
const enforced = (name, body) => test(name, async () => {
  if (held) await body()
})

enforced("a daemon that takes more memory than its limit is killed alone, and status says so", async () => {
  const hungry = daemon("hungry", image, "count", "ready", "wait=300", `eat=${96 * MIB}`).memory("32Mi")
  const deployment = await bed.deploy(stackOf("oom", hungry, daemon("beside", image, "ready", `eat=${96 * MIB}`, "print=eaten")))
  await until(deployment, "beside", /^eaten$/)
  const { lastExit, conditions } = await eventually(() => bed.one(deployment, "hungry"), ({ state, restarts }) => state === "crash-looping" && restarts > 1)
  expect(lastExit).toEqual({ signal: "SIGKILL", oom: true, at: expect.any(String) })
  expect(conditions[0].message).toBe("the program ended with OOMKilled: it took more memory than its limit and is started again")
  expect(await bed.one(deployment, "beside")).toMatchObject({ state: "running", restarts: 0 })
})

enforced("a first version that needs more than it may fails the deploy, and says why", async () => {
  const error = await failure(bed.deploy(stackOf("oom-at-once", daemon("d", image, `eat=${96 * MIB}`).memory("32Mi"))))
  expect(error.message).toBe('daemon "d" does not come up: its program ended with OOMKilled: it took more memory than its limit\nIt printed nothing.')
  expect(error).toMatchObject({ code: "DAEMON_NOT_UP", context: { lastExit: { signal: "SIGKILL", oom: true } } })
})

enforced("an end that has other reasons is not called one for want of memory", async () => {
  const deployment = await bed.deploy(stackOf("no-oom", daemon("d", image, "ready", "wait=300", "crash=SIGKILL").memory("64Mi")))
  const { lastExit } = await eventually(() => bed.one(deployment, "d"), ({ lastExit }) => lastExit !== undefined)
  expect(lastExit).toMatchObject({ signal: "SIGKILL", oom: false })
})

enforced("the program, and all that it starts, is in a group of its own, and sees it as the topmost one", async () => {
  const look = ["read=/proc/self/cgroup", "read=/sys/fs/cgroup/memory/memory.limit_in_bytes", "read=/sys/fs/cgroup/memory.max", "write=/sys/fs/cgroup/memory/memory.limit_in_bytes:-1", "write=/sys/fs/cgroup/memory.max:max", "orphan=later", "print=end", "ready"]
  const deployment = await bed.deploy(stackOf("seen", daemon("d", image, ...look).memory("48Mi").cpu("500m")))
  await until(deployment, "d", /^end$/)
  const lines = (await allLines(deployment, "d")).map(({ line }) => line)
  expect(lines.filter((line) => line.startsWith("read /sys/fs/cgroup") && !line.includes("NotFound"))).toEqual([expect.stringMatching(new RegExp(`: ${48 * MIB}$`))])
  expect(lines.filter((line) => line.startsWith("wrote"))).toEqual([])
  // None of the host's groups has a name inside.
  expect(lines.join("\n")).not.toContain("alien-")
  const { pid } = await bed.one(deployment, "d")
  const dirs = groups(deployment)
  for (const dir of dirs) expect(readFileSync(path.join(dir, "cgroup.procs"), "utf8").trim().split("\n")).toContain(`${pid}`)
  expect([said(dirs, "cpu.shares"), said(dirs, "cpu.weight")]).toContain(said(dirs, "cpu.shares") === undefined ? "50" : "512")
  // Whoever keeps it is not; of the helper's processes only pid 1 inside is.
  const outside = bed.helpers().filter(({ pid }) => /^NSpid:\s+\d+$/m.test(readFileSync(`/proc/${pid}/status`, "utf8")))
  expect(outside.length).toBeGreaterThan(1)
  for (const { pid } of outside) expect(dirs.flatMap((dir) => readFileSync(path.join(dir, "cgroup.procs"), "utf8").split("\n"))).not.toContain(`${pid}`)
})

enforced("a share of the processor alone holds too", async () => {
  const deployment = await bed.deploy(stackOf("share", daemon("d", image, "ready").cpu("250m")))
  const { pid, conditions } = await bed.one(deployment, "d")
  const dirs = groups(deployment)
  expect(dirs.map((dir) => readFileSync(path.join(dir, "cgroup.procs"), "utf8").trim().split("\n").includes(`${pid}`))).toEqual([true])
  expect([said(dirs, "cpu.shares", "cpu.weight"), conditions.some(({ type }) => type === "LimitsEnforced")]).toEqual([said(dirs, "cpu.shares") === undefined ? "25" : "256", false])
})

enforced("limits change with a deploy, and outlive a restart and the supervisor's death", async () => {
  const wanted = (size) => stackOf("changing", size === undefined ? daemon("d", image, "ready") : daemon("d", image, "ready").memory(size))
  const most = () => said(groups(deployment), "memory.limit_in_bytes", "memory.max")
  const deployment = await bed.deploy(wanted("32Mi"))
  expect(most()).toBe(`${32 * MIB}`)
  await bed.deploy(wanted("64Mi"))
  expect(most()).toBe(`${64 * MIB}`)
  await deployment.restart("d")
  const { pid } = await bed.one(deployment, "d")
  const dirs = groups(deployment)
  const inGroup = (pid) => dirs.every((dir) => readFileSync(path.join(dir, "cgroup.procs"), "utf8").split("\n").includes(`${pid}`))
  expect(inGroup(pid)).toBe(true)
  killHelpers(folder(deployment))
  const next = await eventually(() => bed.one(deployment, "d"), (one) => one.state === "running" && one.pid !== pid)
  expect(isAlive(pid)).toBe(false)
  expect(inGroup(next.pid)).toBe(true)
  expect(most()).toBe(`${64 * MIB}`)
  await bed.deploy(wanted())
  expect(dirs.filter(existsSync)).toEqual([])
})

enforced("nothing is left of a group when its daemon is gone, also where its supervisor was killed before", async () => {
  const deployment = await bed.deploy(stackOf("gone", daemon("d", image, "ready").memory("32Mi").cpu(2), daemon("e", image, "ready").memory("32Mi")))
  const dirs = [...groups(deployment, "d"), ...groups(deployment, "e")]
  expect(dirs.filter(existsSync)).toEqual(dirs)
  killHelpers(folder(deployment, "d"))
  await deployment.destroy()
  expect(dirs.filter(existsSync)).toEqual([])
})

test("a daemon without limits has no group, and sees none of the host's", async () => {
  const deployment = await bed.deploy(stackOf("unlimited", daemon("d", image, "list=/sys/fs/cgroup", "print=end", "ready")))
  await until(deployment, "d", /^end$/)
  expect((await allLines(deployment, "d")).map(({ line }) => line)).toContain("list /sys/fs/cgroup: ")
  expect(existsSync(path.join(folder(deployment), "cgroup.json"))).toBe(false)
})

test("where limits cannot be had, preflight and status say so and why, and the daemon runs", async () => {
  const stack = stackOf("without", daemon("d", image, "ready").memory("64Mi"))
  const check = await foretold(stack)
  const deployment = await bed.deploy(stack)
  const { conditions, state } = await bed.one(deployment, "d")
  expect(state).toBe("running")
  const unlimited = conditions.find(({ type }) => type === "LimitsEnforced")
  if (held) {
    expect([check.issues, unlimited]).toEqual([[], undefined])
    return
  }
  expect(check).toMatchObject({ status: "warning", issues: [{ path: ["resources", "d", "config", "memory"], message: expect.stringMatching(/^memory cannot be limited: .*; the daemon runs without it$/), hint: expect.stringContaining("deploy as root") }] })
  expect(unlimited).toMatchObject({ status: "False", reason: "LimitsNotEnforced", message: expect.stringMatching(/^memory cannot be limited: /) })
})
