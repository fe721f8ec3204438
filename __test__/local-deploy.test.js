"use strict"

// What only this machine shows of a deploy: processes, both streams of a log, a kill; the rest is in behaviours.test.js.

const fs = require("node:fs")
const path = require("node:path")
const { allLines, daemon, eventually, isAlive, stackOf, testBed, until } = require("./lib/bed.js")

const bed = testBed()
let image
let deployment

const stack = () => stackOf("web", daemon("greeter", image, "count", "print=hello", "err=to stderr", "ready"), daemon("other", image, "ready"))

beforeAll(async () => {
  image = await bed.image()
  deployment = await bed.deploy(stack())
})

test("it runs, as the process that status names", async () => {
  const { resources } = await deployment.status()
  expect(resources.map(({ id, state }) => `${id} ${state}`)).toEqual(["greeter running", "other running"])
  expect(resources.every(({ pid }) => isAlive(pid))).toBe(true)
})

test("its log has both streams, with times", async () => {
  await until(deployment, "greeter", /to stderr/)
  const lines = await allLines(deployment, "greeter")
  expect(lines.map(({ stream, line }) => `${stream} ${line}`).sort()).toEqual(["stderr to stderr", "stdout hello", "stdout run 1"])
  expect(lines.every(({ time }) => Math.abs(Date.now() - Date.parse(time)) < 60_000)).toBe(true)
})

test("killed with -9 it comes back, with the restart counted, and never twice", async () => {
  const before = await bed.one(deployment, "greeter")
  process.kill(before.pid, "SIGKILL")
  await until(deployment, "greeter", /^run 2$/)
  const after = await eventually(() => bed.one(deployment, "greeter"), ({ state, pid }) => state === "running" && pid !== before.pid)
  expect(after).toMatchObject({ restarts: 1, lastExit: { signal: "SIGKILL", oom: false, at: expect.any(String) } })
  expect(isAlive(before.pid)).toBe(false)
})

test("what has left the stack leaves no folder, and what was destroyed no process", async () => {
  await bed.deploy(stackOf("web", daemon("other", image, "ready")))
  expect(fs.readdirSync(path.join(bed.stateDir, "deployments/web/daemons"))).toEqual(["other"])
  const { resources } = await deployment.status()
  await deployment.destroy()
  expect(resources.some(({ pid }) => isAlive(pid))).toBe(false)
  await eventually(() => bed.helpers(), (left) => left.length === 0)
})
