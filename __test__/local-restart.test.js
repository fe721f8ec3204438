"use strict"

// What comes back by itself, and what never happens twice.

const { cpSync, mkdirSync, readFileSync, rmSync } = require("node:fs")
const { execFileSync } = require("node:child_process")
const path = require("node:path")
const { allLines, daemon, eventually, isAlive, root, stackOf, testBed, until } = require("./lib/bed.js")

const bed = testBed()
let image

beforeAll(async () => {
  image = await bed.image()
})

const runs = async (deployment, id) => (await allLines(deployment, id)).map(({ line }) => line).filter((line) => /^run \d+$/.test(line))

test("a program that ends is started again, each time later, until it stays; clean ends too", async () => {
  const begin = Date.now()
  const deployment = await bed.deploy(stackOf("flappy", daemon("d", image, "count", "ready")))
  // Twice more it ends by itself, with 0, after it had been up.
  await bed.deploy(stackOf("flappy", daemon("d", image, "count", "ready", "upto=4:0", "print=stays")))
  await until(deployment, "d", /^stays$/)
  const status = await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
  expect(status).toMatchObject({ restarts: expect.any(Number), lastExit: { code: 0 } })
  expect(status.restarts).toBeGreaterThanOrEqual(1)
  expect(Date.now() - begin).toBeGreaterThan(90)
})

test("crash-looping is a state, with the exit, the count and the time of the next try", async () => {
  const deployment = await bed.deploy(stackOf("loop", daemon("d", image, "ready")))
  await bed.deploy(stackOf("loop", daemon("d", image, "print=again", "ready", "wait=50", "exit=3")))
  const status = await eventually(() => bed.one(deployment, "d"), ({ state, restarts }) => state === "crash-looping" && restarts >= 3)
  expect(status).toMatchObject({
    lastExit: { code: 3, oom: false },
    nextStartAt: expect.any(String),
    conditions: [{ type: "Ready", status: "False", reason: "CrashLooping", message: "the program ended with exit code 3 and is started again" }],
  })
  expect(status.pid).toBeUndefined()
  await bed.deploy(stackOf("loop", daemon("d", image, "ready")))
  expect(await bed.one(deployment, "d")).toMatchObject({ state: "running" })
})

test.each([
  ["an exit code", ["exit=7"], { code: 7 }],
  ["a signal, by its name", ["crash=SIGSEGV"], { signal: "SIGSEGV" }],
])("one that was up for a moment and ends by %s is tried later each time, and status says when", async (name, steps, exit) => {
  const id = name.replace(/\W+/g, "-")
  const deployment = await bed.deploy(stackOf(id, daemon("d", image, "ready", "wait=20", ...steps)))
  const waits = []
  for (let restarts = 0; restarts < 4; restarts++) {
    const status = await eventually(() => bed.one(deployment, "d"), (one) => one.restarts === restarts && one.state === "crash-looping")
    expect(status.lastExit).toEqual({ ...exit, oom: false, at: expect.any(String) })
    waits.push(Date.parse(status.nextStartAt) - Date.parse(status.lastExit.at))
  }
  // 100, 200, 400 and 800 ms, a tenth less or more.
  waits.forEach((wait, index) => expect([index, wait >= 89 * 2 ** index]).toEqual([index, true]))
  await deployment.destroy()
})

test("one that says READY and ends at once was up, however late the deploy comes to look", async () => {
  // Of so many some are seen up, and some waiting for their next try.
  const stack = stackOf("brief", ...Array.from({ length: 12 }, (_, index) => daemon(`d${index}`, image, "ready", "exit=3")))
  const deployment = await bed.deploy(stack)
  const last = await eventually(() => bed.one(deployment, "d0"), ({ lastExit }) => lastExit !== undefined)
  expect(last.lastExit).toMatchObject({ code: 3 })
  await deployment.destroy()
})

test("a daemon that never says READY is up once it has lived a second", async () => {
  const begin = Date.now()
  const deployment = await bed.deploy(stackOf("silent", daemon("d", image)))
  expect(Date.now() - begin).toBeGreaterThanOrEqual(1000)
  expect((await bed.one(deployment, "d")).state).toBe("running")
})

test("one that says READY is up at once, before it has lived a second; a child's word counts", async () => {
  // Without that word this deploy would fail: the program ends before it could count as up.
  const deployment = await bed.deploy(stackOf("quick", daemon("d", image, "fork-ready", "wait=500", "exit=3")))
  await eventually(() => bed.one(deployment, "d"), ({ lastExit }) => lastExit?.code === 3)
})

describe("kill -9 of", () => {
  let deployment
  beforeAll(async () => {
    deployment = await bed.deploy(stackOf("killed", daemon("d", image, "count", "orphan=here", "ready"), daemon("e", image, "ready")))
  })

  /** The programs that really run in sandboxes of this deployment's `d`: those with its host name. */
  const helper = (pattern) => bed.helpers().filter(({ command }) => pattern.test(command))

  test("the supervisor: its daemon dies with it and runs again, once", async () => {
    const before = await bed.one(deployment, "d")
    const parent = (pid) => Number(readFileSync(`/proc/${pid}/status`, "utf8").match(/^PPid:\s*(\d+)/m)[1])
    const init = parent(before.pid)
    const supervisor = parent(init)
    expect(bed.helpers().map(({ pid }) => pid)).toContain(supervisor)
    process.kill(supervisor, "SIGKILL")
    await until(deployment, "d", /^run 2$/)
    expect(isAlive(before.pid)).toBe(false)
    const after = await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
    expect(after).toMatchObject({ restarts: 1, lastExit: { signal: "SIGKILL" } })
    expect(await runs(deployment, "d")).toEqual(["run 1", "run 2"])
  })

  test("the scanner: daemons go on untouched, and there is a scanner again", async () => {
    const before = (await deployment.status()).resources.map(({ pid }) => pid)
    const scanners = () => helper(/ scan /)
    const [scanner, ...more] = scanners()
    expect(more).toEqual([])
    process.kill(scanner.pid, "SIGKILL")
    await eventually(scanners, (found) => found.length === 1 && found[0].pid !== scanner.pid)
    expect((await deployment.status()).resources.map(({ pid }) => pid)).toEqual(before)
    // The new one keeps what it did not start.
    process.kill(before[0], "SIGKILL")
    await until(deployment, "d", /^run 3$/)
  })

  test("everything at once: the next deploy brings it back", async () => {
    // Stopped first, so that none sees another one end and does something about it.
    const stopped = new Set()
    const signal = (pid, name) => {
      try {
        process.kill(pid, name)
      } catch (error) {
        // One that was on its way out, or whose parent was killed first and took it along.
        if (error.code !== "ESRCH") throw error
      }
    }
    for (let fresh = bed.helpers(); fresh.length > 0; fresh = bed.helpers().filter(({ pid }) => !stopped.has(pid))) {
      for (const { pid } of fresh) stopped.add(pid) && signal(pid, "SIGSTOP")
    }
    for (const pid of stopped) signal(pid, "SIGKILL")
    await eventually(() => bed.helpers(), (left) => left.length === 0)
    expect(await bed.one(deployment, "d")).toMatchObject({ state: "failed", conditions: [{ reason: "SupervisorDown" }] })
    await bed.deploy(stackOf("killed", daemon("d", image, "count", "orphan=here", "ready"), daemon("e", image, "ready")))
    const status = await deployment.status()
    expect(status.resources.map(({ state }) => state)).toEqual(["running", "running"])
    expect(await runs(deployment, "d")).toEqual(["run 1", "run 2", "run 3", "run 4"])
  })

  test("the program, many times: never two at once", async () => {
    let { pid } = await bed.one(deployment, "e")
    for (let round = 1; round <= 3; round++) {
      process.kill(pid, "SIGKILL")
      const now = await eventually(() => bed.one(deployment, "e"), (one) => one.pid !== undefined && one.pid !== pid)
      expect(isAlive(pid)).toBe(false)
      pid = now.pid
    }
  })
})

test("the package may be removed under a running daemon", async () => {
  const scope = path.join(bed.folder, "app/node_modules/@alienplatform")
  mkdirSync(scope, { recursive: true })
  for (const file of ["package.json", "index.js", "js", "alien.linux-x64-gnu.node", "alien-supervisor"]) {
    cpSync(path.join(root, file), path.join(scope, "core", file), { recursive: true })
  }
  const stack = stackOf("moved", daemon("d", image, "count", "ready"))
  const code = `
    const { deploy } = require("@alienplatform/core")
    deploy(${JSON.stringify(stack)}, { local: { stateDir: ${JSON.stringify(path.join(bed.stateDir))} } }).then((d) => d.status()).then((s) => console.log(s.resources[0].pid))`
  const pid = Number(execFileSync(process.execPath, ["-e", code], { cwd: path.join(bed.folder, "app"), encoding: "utf8", timeout: 20_000 }))
  rmSync(path.join(bed.folder, "app"), { recursive: true })
  const { connect } = require("@alienplatform/core")
  const deployment = await connect(bed.options({ name: "moved" }))
  expect((await bed.one(deployment, "d")).pid).toBe(pid)
  process.kill(pid, "SIGKILL")
  await until(deployment, "d", /^run 2$/)
  expect(bed.helpers().every(({ command }) => command.startsWith(path.join(bed.stateDir, "bin")))).toBe(true)
})
