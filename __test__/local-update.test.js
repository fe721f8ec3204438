"use strict"

// Changes: what is planned, what is restarted, what is kept, and the way back.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, isAlive, processesWith, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { treeOf } = require("./lib/tree.js")

const bed = testBed()
const tree = treeOf(bed)
let image
const pids = async (deployment) => Object.fromEntries((await deployment.status()).resources.map(({ id, pid }) => [id, pid]))
const change = (plan, id) => plan.changes.find((one) => one.id === id)

beforeAll(async () => {
  image = await bed.image()
})

describe("a change of one daemon", () => {
  let deployment
  const build = (edit = (builder) => builder) =>
    stackOf("one", edit(daemon("changed", image, "count", "env", "ready").environment({ LEVEL: "info", KEEP: "1" })), daemon("other", image, "ready"))
  const look = async (stack, options) => change(await alien.plan(stack, bed.options(options)), "changed")

  beforeAll(async () => {
    deployment = await bed.deploy(build())
  })

  /** Deploys, and checks that the one was started again and the other left alone. */
  async function changes(stack, options) {
    const before = await pids(deployment)
    await bed.deploy(stack, options)
    const after = await pids(deployment)
    expect(after.other).toBe(before.other)
    expect(after.changed).not.toBe(before.changed)
    expect(isAlive(before.changed)).toBe(false)
  }

  test("the plan says which fields, from what, to what", async () => {
    const found = await look(build((builder) => builder.environment({ LEVEL: "debug", NEW: "x" }).stopGracePeriodSeconds(5)))
    expect(found).toEqual({
      id: "changed",
      type: "daemon",
      action: "update",
      reason: "environment.KEEP, environment.LEVEL, environment.NEW and 1 more have changed",
      fields: [
        { path: "environment.KEEP", from: "1", to: null },
        { path: "environment.LEVEL", from: "info", to: "debug" },
        { path: "environment.NEW", from: null, to: "x" },
        { path: "stopGracePeriodSeconds", from: null, to: 5 },
      ],
    })
  })

  test("an environment value restarts just that daemon, with its files kept", async () => {
    await changes(build((builder) => builder.environment({ LEVEL: "debug" })))
    const lines = await until(deployment, "changed", /^env LEVEL=debug$/)
    expect(lines).toContain("run 2")
  })

  test("a command restarts just that daemon", async () => {
    const other = build((builder) => builder.command(["/bin/daemon", "count", "print=other words", "ready"]))
    expect((await look(other)).fields).toContainEqual({
      path: "command",
      from: ["/bin/daemon", "count", "env", "ready"],
      to: ["/bin/daemon", "count", "print=other words", "ready"],
    })
    await changes(other)
    expect(await until(deployment, "changed", /^other words$/)).toContain("run 3")
  })

  test("a tag that means another image now restarts just that daemon, with a new root", async () => {
    const dir = path.join(bed.folder, "moving")
    const { testImage } = await tool("test-image.mjs")
    const moving = await testImage(dir, { config: { Labels: { version: "1" } } })
    const stack = stackOf("one", daemon("changed", moving, "count", "ready"), daemon("other", image, "ready"))
    await changes(stack)
    expect((await alien.plan(stack, bed.options())).changes.map(({ action }) => action)).toEqual(["none", "none"])
    const first = await bed.one(deployment, "changed")
    await testImage(dir, { config: { Labels: { version: "2" } } })
    expect((await look(stack)).fields).toEqual([{ path: "digest", from: first.digest, to: expect.stringMatching(/^sha256:/) }])
    await changes(stack)
    expect((await bed.one(deployment, "changed")).digest).not.toBe(first.digest)
    const runs = (await allLines(deployment, "changed")).map(({ line }) => line).filter((line) => line.startsWith("run "))
    expect(runs).toEqual(["run 1", "run 2", "run 3", "run 1", "run 1"])
    // What the former images' daemons wrote is not kept for ever.
    const tops = path.join(bed.stateDir, "deployments/one/daemons/changed/tops")
    await eventually(() => fs.readdirSync(tops), (names) => names.length === 1)
  })
})

describe("a new version that does not stay up", () => {
  test.each([
    ["ends", ["print=I was here", "err=no such thing", "exit=7"], "its program ended with exit code 7", ["I was here", "no such thing"]],
    ["crashes", ["print=oh", "crash=SIGSEGV"], "its program ended with SIGSEGV", ["oh"]],
    ["says nothing", ["exit=1"], "its program ended with exit code 1", []],
  ])("and %s is taken back, with its last lines", async (name, steps, why, lastLines) => {
    const id = name.replace(" ", "-")
    const good = stackOf(id, daemon("d", image, "count", "ready"))
    const deployment = await bed.deploy(good)
    const error = await failure(bed.deploy(stackOf(id, daemon("d", image, ...steps))))
    expect(error.code).toBe("UPDATE_ROLLED_BACK")
    expect(error.message).toContain(`the new version of daemon "d" did not come up: ${why}. The version before runs again.`)
    for (const line of lastLines) expect(error.message).toContain(line)
    expect(error.context).toMatchObject({ daemon: "d", image })
    expect([...error.context.lastLines].sort()).toEqual([...lastLines].sort())
    const after = await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
    expect(after.conditions).toContainEqual(expect.objectContaining({ type: "RolledBack", status: "True", reason: "UpdateFailed" }))
    await until(deployment, "d", /^run 2$/)
    // The next deploy of the version that runs has nothing to do; one of a better version goes through.
    expect((await alien.plan(good, bed.options())).changes[0].action).toBe("none")
    await bed.deploy(stackOf(id, daemon("d", image, "count", "print=better", "ready")))
    expect((await bed.one(deployment, "d")).conditions).toHaveLength(1)
  })
})

test("an update of a daemon that was never up is left as it is; the last that was up is what is gone back to", async () => {
  const stack = (...steps) => stackOf("never", daemon("d", image, ...steps))
  const ends = async (...steps) => failure(bed.deploy(stack(...steps)))
  expect(await ends("exit=3")).toMatchObject({ code: "DAEMON_NOT_UP", context: { lastExit: { code: 3 } } })
  expect(await ends("exit=4")).toMatchObject({ code: "DAEMON_NOT_UP", context: { lastExit: { code: 4 } }, hint: expect.stringContaining("left crash-looping") })
  const deployment = await alien.connect(bed.options({ name: "never" }))
  const isLooping = ({ state, lastExit }) => state === "crash-looping" && lastExit?.code === 4
  await eventually(() => bed.one(deployment, "d"), isLooping)
  // Nothing is wrong with the image, but with its program: nothing has changed then.
  expect(await failure(bed.deploy(stackOf("never", daemon("d", image).command(["/not/there"]))))).toMatchObject({ code: "ENTRYPOINT_MISSING" })
  await eventually(() => bed.one(deployment, "d"), isLooping)
  await bed.deploy(stack("print=up", "ready"))
  expect(await ends("exit=5")).toMatchObject({ code: "UPDATE_ROLLED_BACK", context: { lastExit: { code: 5 } } })
  await until(deployment, "d", /^up$/, 2)
})

describe("a deploy that is cut short over an update", () => {
  const reason = new Error("not now")
  const stack = (name, ...steps) => stackOf(name, daemon("d", image, "count", ...steps))
  /** A deployment whose first version is up, and a deploy of another one that is called off once `begun` is so. */
  async function cutShort(name, next, begun) {
    const deployment = await bed.deploy(stack(name, "print=first", "ready"))
    const controller = new AbortController()
    const deploying = failure(alien.deploy(next, bed.options({ signal: controller.signal })))
    await begun(deployment)
    controller.abort(reason)
    expect(await deploying).toBe(reason)
    return deployment
  }
  const onTrial = (name, image) => cutShort(name, stackOf(name, daemon("d", image, "count", "print=second", "wait=900", "exit=3")), (deployment) => until(deployment, "d", /^second$/))

  describe("while the sandbox is being built", () => {
    const names = (dir) => (fs.existsSync(dir) ? fs.readdirSync(dir) : [])
    let slow
    beforeAll(async () => {
      // What a volume has from the image is copied as the sandbox is built.
      const files = Array.from({ length: 4000 }, (_, index) => ({ path: `data/${index}`, data: "" }))
      slow = await bed.image({ config: { Volumes: { "/data": {} } }, files: [{ path: "data/", type: "dir" }, ...files] })
    }, 60_000)

    test.each([["the same version", "second"], ["another one", "third"]])("is followed by one of %s", async (_, says) => {
      const next = (words) => stackOf(says, daemon("d", slow, "count", `print=${words}`, "ready"))
      const isCopied = () => names(path.join(bed.stateDir, "data", says, "volumes/d")).some((name) => name.endsWith(".partial"))
      const deployment = await cutShort(says, next("second"), () => eventually(isCopied))
      const { pid } = await bed.one(deployment, "d")
      expect(isAlive(pid)).toBe(true)
      await bed.deploy(next(says))
      expect(isAlive(pid)).toBe(false)
      await until(deployment, "d", new RegExp(`^${says}$`))
      const said = (await allLines(deployment, "d")).map(({ line }) => line).filter((line) => !line.startsWith("run "))
      expect(said).toEqual(["first", says])
      expect((await alien.plan(next(says), bed.options())).changes[0].action).toBe("none")
      expect(names(path.join(bed.stateDir, "deployments", says, "daemons/d")).filter((name) => name.startsWith("next."))).toEqual([])
      // What was up before is what a rollback brings back.
      await deployment.rollback("d")
      await until(deployment, "d", /^first$/, 2)
    }, 30_000)
  })

  test("leaves the version that was up as the one to go back to", async () => {
    const deployment = await onTrial("trial", image)
    const error = await failure(bed.deploy(stack("trial", "print=third", "exit=7")))
    expect(error).toMatchObject({ code: "UPDATE_ROLLED_BACK", context: { lastExit: { code: 7 } } })
    await until(deployment, "d", /^first$/, 2)
    expect((await alien.plan(stack("trial", "print=first", "ready"), bed.options())).changes[0].action).toBe("none")
  })

  test("is taken back where its version does not stay up, also by another supervisor", async () => {
    const deployment = await onTrial("killed", image)
    process.kill(tree.supervisor("killed", "d"), "SIGKILL")
    await until(deployment, "d", /^first$/, 2)
    const { conditions } = await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
    expect(conditions).toContainEqual(expect.objectContaining({ type: "RolledBack", status: "True", reason: "UpdateFailed" }))
  })

  test("goes back to the image that was up, whose files are kept", async () => {
    const other = await bed.image({ config: { Labels: { version: "2" } } })
    const deployment = await onTrial("image", other)
    await bed.deploy(stack("image", "print=again", "ready"))
    expect(await until(deployment, "d", /^again$/)).toContain("run 2")
  })
})

describe("secrets", () => {
  const SECRET = "hunter2-the-secret"
  const stack = (more = {}) => stackOf("secretive", daemon("d", image, "env", "ready").environment({ DB_PASSWORD: "open-sesame", PLAIN: "seen", ...more }))
  let deployment
  const events = []

  beforeAll(async () => {
    deployment = await bed.deploy(stack(), { secrets: { d: { API_SECRET: SECRET } }, onEvent: (event) => events.push(event) })
  })

  test("reach the program", async () => {
    const lines = await until(deployment, "d", /^env end$/)
    expect(lines).toEqual(expect.arrayContaining([`env API_SECRET=${SECRET}`, "env DB_PASSWORD=open-sesame", "env PLAIN=seen"]))
  })

  test("are in no event, plan, status or command line, and in files that only their owner may read", async () => {
    const plan = await alien.plan(stack({ DB_PASSWORD: "changed-word" }), bed.options({ secrets: { d: { API_SECRET: "another-secret" } } }))
    expect(plan.changes[0].fields).toEqual([
      { path: "environment.DB_PASSWORD", from: "(secret)", to: "(secret)" },
      { path: "secrets.API_SECRET", from: "(secret)", to: "(secret)" },
    ])
    const told = JSON.stringify([events, plan, await deployment.status()])
    for (const secret of [SECRET, "open-sesame", "changed-word", "another-secret"]) {
      expect(told).not.toContain(secret)
      expect(processesWith(secret)).toEqual([])
    }
    const dir = path.join(bed.stateDir, "deployments/secretive/daemons/d")
    const holding = fs.readdirSync(dir).filter((name) => fs.statSync(path.join(dir, name)).isFile() && fs.readFileSync(path.join(dir, name), "utf8").includes(SECRET))
    expect(holding).toContain("spec.json")
    for (const name of holding) expect((fs.statSync(path.join(dir, name)).mode & 0o777).toString(8)).toBe("600")
    expect((fs.statSync(bed.stateDir).mode & 0o777).toString(8)).toBe("700")
  })

  test("are kept by a deploy that leaves them out", async () => {
    expect((await alien.plan(stack(), bed.options())).changes[0].action).toBe("none")
    await bed.deploy(stack({ PLAIN: "other" }))
    const lines = await until(deployment, "d", /^env PLAIN=other$/)
    expect(lines.filter((line) => line === `env API_SECRET=${SECRET}`)).toHaveLength(2)
  })

  test("a new value is an update", async () => {
    await bed.deploy(stack({ PLAIN: "other" }), { secrets: { d: { API_SECRET: "a-third" } } })
    await until(deployment, "d", /^env API_SECRET=a-third$/)
  })

  test("of a daemon that is not there are refused, without the value", async () => {
    const error = await failure(alien.deploy(stack(), bed.options({ secrets: { dd: { A: SECRET } } })))
    expect(error).toMatchObject({ code: "UNKNOWN_DAEMON", hint: "its daemons are: d" })
    const invalid = await failure(alien.deploy(stack(), bed.options({ secrets: { d: { "not a name": SECRET, ALIEN_X: SECRET, N: 1 } } })))
    expect(invalid).toBeInstanceOf(alien.ValidationError)
    expect(invalid.issues.map((issue) => issue.path.join("."))).toEqual(["secrets.d.not a name", "secrets.d.ALIEN_X", "secrets.d.N"])
    expect(JSON.stringify([error, invalid])).not.toContain(SECRET)
  })
})
