"use strict"

// What a user's own Jest test does: deploy for real before all tests, and look at logs, status and restarts.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, isAlive, stackOf, testBed, until } = require("./lib/bed.js")

const bed = testBed()
let image
let deployment

const stack = () => stackOf("web", daemon("greeter", image, "count", "print=hello", "err=to stderr", "ready"), daemon("other", image, "ready"))

beforeAll(async () => {
  image = await bed.image()
  deployment = await bed.deploy(stack())
})

test("it runs, and status says so", async () => {
  const status = await deployment.status()
  expect(status).toEqual({
    name: "web",
    platform: "local",
    stackId: "web",
    resources: ["greeter", "other"].map((id) => ({
      id,
      type: "daemon",
      lifecycle: "live",
      state: "running",
      image,
      digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
      pid: expect.any(Number),
      startedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      restarts: 0,
      conditions: [{ type: "Ready", status: "True", reason: "Up", message: "the program is up", since: expect.any(String) }],
    })),
  })
  expect(status.resources.every(({ pid }) => isAlive(pid))).toBe(true)
})

test("its log has both streams, with times", async () => {
  await until(deployment, "greeter", /to stderr/)
  const lines = await allLines(deployment, "greeter")
  expect(lines.map(({ stream, line }) => `${stream} ${line}`).sort()).toEqual(["stderr to stderr", "stdout hello", "stdout run 1"])
  expect(lines.every(({ time }) => Math.abs(Date.now() - Date.parse(time)) < 60_000)).toBe(true)
})

test("a second deploy plans nothing and changes nothing", async () => {
  const before = (await deployment.status()).resources.map(({ pid }) => pid)
  const plan = await alien.plan(stack(), bed.options())
  expect(plan.changes).toEqual(["greeter", "other"].map((id) => ({ id, type: "daemon", action: "none", fields: [], reason: "nothing has changed" })))
  const events = []
  const again = await alien.deploy(stack(), bed.options({ onEvent: (event) => events.push(event.type) }))
  expect(events).toEqual(["preflight", "plan"])
  expect((await again.status()).resources.map(({ pid }) => pid)).toEqual(before)
})

test("killed with -9 it comes back, with the restart counted, and never twice", async () => {
  const before = await bed.one(deployment, "greeter")
  process.kill(before.pid, "SIGKILL")
  await until(deployment, "greeter", /^run 2$/)
  const after = await eventually(() => bed.one(deployment, "greeter"), ({ state, pid }) => state === "running" && pid !== before.pid)
  expect(after).toMatchObject({ restarts: 1, lastExit: { signal: "SIGKILL", oom: false, at: expect.any(String) } })
  expect(isAlive(before.pid)).toBe(false)
})

test("restart stops it and starts it again; that is no restart by itself", async () => {
  const before = await bed.one(deployment, "greeter")
  await deployment.restart("greeter")
  const after = await bed.one(deployment, "greeter")
  expect(after).toMatchObject({ state: "running", restarts: before.restarts })
  expect(after.pid).not.toBe(before.pid)
  await until(deployment, "greeter", /^run 3$/)
})

test("what does not exist is named", async () => {
  expect(await failure(deployment.restart("nobody"))).toMatchObject({ code: "RESOURCE_NOT_FOUND", httpStatusCode: 404 })
  const error = await failure(allLines(deployment, "nobody"))
  expect(error).toMatchObject({ code: "RESOURCE_NOT_FOUND", hint: "there is: greeter, other" })
})

test("connect finds it from its name alone, and what does not exist lists what does", async () => {
  const found = await alien.connect(bed.options({ name: "web" }))
  expect(found).toBeInstanceOf(alien.Deployment)
  expect(await found.status()).toEqual(await deployment.status())
  const error = await failure(alien.connect(bed.options({ name: "nowhere" })))
  expect(error).toBeInstanceOf(alien.AlienError)
  expect(error).toMatchObject({ code: "DEPLOYMENT_NOT_FOUND", httpStatusCode: 404 })
  expect(error.message).toContain("there is: web")
  expect(await alien.deployments(bed.options())).toEqual(["web"])
})

test("a daemon taken out of the stack is stopped and removed, and the others go on", async () => {
  const before = await deployment.status()
  const changes = (await alien.plan(stackOf("web", daemon("other", image, "ready")), bed.options())).changes
  expect(changes.map(({ id, action }) => `${id} ${action}`)).toEqual(["other none", "greeter delete"])
  await bed.deploy(stackOf("web", daemon("other", image, "ready")))
  const after = await deployment.status()
  expect(after.resources.map(({ id, pid }) => ({ id, pid }))).toEqual([{ id: "other", pid: before.resources[1].pid }])
  expect(isAlive(before.resources[0].pid)).toBe(false)
  expect(fs.readdirSync(path.join(bed.stateDir, "deployments/web/daemons"))).toEqual(["other"])
})

test("destroyed, nothing runs and nothing is listed; again is no error", async () => {
  const { resources } = await deployment.status()
  const events = []
  await deployment.destroy({ onEvent: ({ id, state }) => events.push(`${id} ${state}`) })
  expect(events).toEqual(["other stopping", "other removed"])
  expect(resources.some(({ pid }) => isAlive(pid))).toBe(false)
  expect(await alien.deployments(bed.options())).toEqual([])
  expect((await failure(deployment.status())).code).toBe("DEPLOYMENT_NOT_FOUND")
  await deployment.destroy()
  await eventually(() => bed.helpers(), (left) => left.length === 0)
})
