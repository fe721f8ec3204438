"use strict"

// Supervisors and scanners that are stopped (SIGSTOP): nobody waits for them, status says so, and whoever changes
// something replaces them.

const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, isAlive, stackOf, testBed, until } = require("./lib/bed.js")
const { stateOf, treeOf } = require("./lib/tree.js")

jest.setTimeout(60_000)

const bed = testBed()
const tree = treeOf(bed)
let image
beforeAll(async () => {
  image = await bed.image()
})

/** Stops a process, and waits until it is. */
async function stop(pid) {
  process.kill(pid, "SIGSTOP")
  await eventually(() => stateOf(pid), (state) => state === "T")
  return pid
}

const stopped = { state: "failed", conditions: [{ type: "Ready", status: "False", reason: "SupervisorUnresponsive", message: "the supervisor is stopped (SIGSTOP)" }] }
const stack = (name, ...words) => stackOf(name, daemon("d", image, "count", "ready", ...words), daemon("e", image, "ready"))

/** A fresh deployment whose supervisor of `d` is stopped, and the pids that there were. */
async function withStopped(name) {
  const deployment = await bed.deploy(stack(name))
  const [d, e] = (await deployment.status()).resources.map(({ pid }) => pid)
  return { deployment, d, e, supervisor: await stop(tree.supervisor(name, "d")) }
}

/** `d` runs anew under another supervisor, once, and `e` was left alone. */
async function replaced({ deployment, d, e, supervisor }) {
  const status = await eventually(() => deployment.status(), ({ resources }) => resources.every(({ state }) => state === "running"))
  expect(status.resources[1].pid).toBe(e)
  expect(status.resources[0].pid).not.toBe(d)
  expect([d, supervisor].filter(isAlive)).toEqual([])
  await until(deployment, "d", /^run 2$/)
  await bed.note(deployment)
}

describe("a stopped supervisor", () => {
  test("is told of by status, and nobody waits for it", async () => {
    const { deployment, d, e, supervisor } = await withStopped("status")
    const status = await deployment.status()
    expect(status.resources).toMatchObject([stopped, { state: "running", pid: e }])
    const { code, stdout } = await bed.cli(["status", "-n", "status", "--json"])
    expect([code, JSON.parse(stdout).resources[0].conditions[0].reason]).toEqual([0, "SupervisorUnresponsive"])
    expect((await allLines(deployment, "d")).map(({ line }) => line)).toEqual(["run 1"])
    await expect(deployment.exec("d", ["/bin/daemon"])).rejects.toMatchObject({ code: "SUPERVISOR_UNRESPONSIVE" })
    // The plan says what deploy would do, and does not do it.
    const { changes } = await alien.plan(stack("status"), bed.options())
    expect(changes).toMatchObject([{ action: "restart", reason: "the supervisor is stopped (SIGSTOP)" }, { action: "none" }])
    expect(isAlive(d)).toBe(true)
    // One that goes on has lost nothing.
    process.kill(supervisor, "SIGCONT")
    expect((await eventually(() => deployment.status(), ({ resources }) => resources[0].state === "running")).resources[0].pid).toBe(d)
  })

  test("more calls than its socket takes do not wait for each other", async () => {
    const { deployment, supervisor } = await withStopped("crowd")
    const all = await Promise.all(Array.from({ length: 300 }, () => deployment.status()))
    expect(new Set(all.map(({ resources }) => resources[0].conditions[0].reason))).toEqual(new Set(["SupervisorUnresponsive"]))
    process.kill(supervisor, "SIGCONT")
    await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
  })

  test("is followed by --watch into its stop, and out of it", async () => {
    const { deployment, supervisor } = await withStopped("watched")
    const reasons = []
    for await (const { resources } of deployment.watch({ signal: AbortSignal.timeout(20_000) })) {
      reasons.push(resources[0].conditions[0].reason)
      if (reasons.at(-1) === "SupervisorUnresponsive" && reasons.length === 1) process.kill(supervisor, "SIGCONT")
      if (reasons.at(-1) === "Up" && reasons.length === 2) await stop(supervisor)
      if (reasons.length === 3) break
    }
    expect(reasons).toEqual(["SupervisorUnresponsive", "Up", "SupervisorUnresponsive"])
    process.kill(supervisor, "SIGCONT")
  })

  test("is replaced by a deploy", async () => {
    const before = await withStopped("same")
    await bed.deploy(stack("same"))
    await replaced(before)
  })

  test("is replaced by a deploy of another version", async () => {
    const before = await withStopped("update")
    await bed.deploy(stack("update", "print=new"))
    await replaced(before)
    await until(before.deployment, "d", /^new$/)
  })

  test("is replaced by a restart, and by a rollback", async () => {
    const before = await withStopped("again")
    await before.deployment.restart("d")
    await replaced(before)
    await bed.deploy(stack("again", "print=new"))
    await stop(tree.supervisor("again", "d"))
    await before.deployment.rollback("d")
    expect((await alien.plan(stack("again"), bed.options())).changes[0].action).toBe("none")
    await until(before.deployment, "d", /^run 4$/)
  })

  test("in the middle of an update is replaced by that", async () => {
    const { deployment, d } = await bed.deploy(stack("middle")).then(async (deployment) => ({ deployment, d: (await bed.one(deployment, "d")).pid }))
    // It never says that it is up, and takes its time.
    const slow = stackOf("middle", daemon("d", image, "count", "print=slow").stopGracePeriodSeconds(1), daemon("e", image, "ready"))
    let supervisor
    // The deploy that is on its way may end it before anybody sees it stopped.
    const follow = until(deployment, "d", /^slow$/).then(() => process.kill((supervisor = tree.supervisor("middle", "d")), "SIGSTOP"))
    await bed.deploy(slow)
    await follow
    await eventually(() => [d, supervisor].filter(isAlive), (left) => left.length === 0)
    expect((await bed.one(deployment, "d")).state).toBe("running")
  })

  test("is destroyed with its daemon", async () => {
    const { deployment, d, e, supervisor } = await withStopped("destroyed")
    await deployment.destroy({ timeoutMs: 20_000 })
    expect([d, e, supervisor].filter(isAlive)).toEqual([])
  })
})

describe("a stopped scanner is replaced by", () => {
  let deployment
  beforeAll(async () => {
    deployment = await bed.deploy(stack("scanner"))
  })

  test.each([
    ["a first deploy", () => bed.deploy(stack("new"))],
    ["an update", () => bed.deploy(stack("scanner", "print=new"))],
    ["a destroy", async () => (await alien.connect(bed.options({ name: "new" }))).destroy()],
    ["a restart whose supervisor is stopped too", async () => {
      await stop(tree.supervisor("scanner", "d"))
      await deployment.restart("d")
    }],
    ["a destroy whose supervisors are stopped too", async () => {
      for (const id of ["d", "e"]) await stop(tree.supervisor("scanner", id))
      await deployment.destroy()
    }],
  ])("%s", async (_, change) => {
    const scanner = await stop(tree.scanner())
    await change()
    expect(isAlive(scanner)).toBe(false)
  })
})
