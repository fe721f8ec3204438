"use strict"

// Commands on this machine: a deploy starts the manager, gives each daemon that takes commands a token of its own, and the
// last one takes the manager away again.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { CommandsClient } = require("@alienplatform/core/commands")
const { allLines, daemon, eventually, failure, isAlive, processesWith, stackOf, testBed, tool, until } = require("./lib/bed.js")

jest.setTimeout(60_000)

const bed = testBed()
const file = (...names) => path.join(bed.stateDir, "manager", ...names)
const callers = () => JSON.parse(fs.readFileSync(file("client.json"), "utf8"))
const manager = () => processesWith("/alien-manager serve").find(({ command }) => command.includes(callers().url.split(":").at(-1)))

let image
let node

beforeAll(async () => {
  image = await bed.image()
  const { nodeImage, receiverFiles } = await tool("node-image.mjs")
  const program = path.join(bed.folder, "handlers.js")
  fs.writeFileSync(program, `
    const { command, runReceiver } = require("@alienplatform/core/commands")
    command("echo", (params, { attempt }) => ({ params, attempt, pid: process.pid }))
    command("hang", (params, { signal, attempt }) => attempt > 1 ? { attempt } : new Promise(() => console.log("hanging")))
    command("slow", async () => (console.log("begun"), await new Promise((resolve) => setTimeout(resolve, 500)), { done: true }))
    command("fail", () => { throw Object.assign(new Error("no more this month"), { code: "QUOTA" }) })
    runReceiver({ concurrency: 4, leaseSeconds: Number(process.env.LEASE_SECONDS ?? 2) })
    console.log("ready")`)
  node = `oci:${await nodeImage(path.join(bed.folder, "node"), { tag: "1", program, files: receiverFiles() })}:1`
}, 60_000)

const receiver = (id) => new alien.Daemon(id).code({ type: "image", image: node }).commandsEnabled(true).permissions("p")

test("a daemon is called through a manager that nobody configured", async () => {
  const deployment = await bed.deploy(stackOf("calls", receiver("one"), receiver("two")))
  expect(await deployment.invoke("one", "echo", { text: "ü \u2028 🦀" })).toMatchObject({ params: { text: "ü \u2028 🦀" }, attempt: 1 })
  expect(await failure(deployment.invoke("two", "fail"))).toMatchObject({ code: "DEPLOYMENT_COMMAND_ERROR", context: { errorCode: "QUOTA", errorMessage: "no more this month" } })
  expect(await failure(deployment.invoke("three", "echo"))).toMatchObject({ message: expect.stringContaining("one, two") })
  const { code, stdout } = await bed.cli(["commands", "invoke", "two", "echo", "-n", "calls", "--params", "[1]", "--json"])
  expect({ code, answer: JSON.parse(stdout) }).toMatchObject({ code: 0, answer: { params: [1] } })
  // A second deploy changes nothing.
  expect((await alien.plan(stackOf("calls", receiver("one"), receiver("two")), bed.options())).changes.map(({ action }) => action)).toEqual(["none", "none"])
})

test("what it is given is for it alone, and kept from others", async () => {
  for (const secret of [file("client.json"), file("data/admin.token"), file("data/signing.key"), file("data/commands.db")]) {
    expect([secret, fs.statSync(secret).mode & 0o077]).toEqual([secret, 0])
  }
  expect(fs.statSync(bed.stateDir).mode & 0o077).toBe(0)
  const token = fs.readFileSync(file("receivers/calls/one/token"), "utf8")
  const lease = (resourceId) => fetch(`${callers().url}/v1/commands/leases`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ deploymentId: "calls", target: { resourceId, resourceType: "daemon" } }),
  })
  expect((await lease("one")).status).toBe(200)
  expect((await lease("two")).status).toBe(403)
  const log = await allLines(await alien.connect(bed.options({ name: "calls" })), "one")
  expect(JSON.stringify(log)).not.toContain(token)
  const told = processesWith(bed.stateDir).map(({ command }) => command).join("\n")
  expect(told).not.toContain(token.trim())
})

test("a command outlives a daemon that is killed over it: it is delivered again", async () => {
  const deployment = await alien.connect(bed.options({ name: "calls" }))
  const answer = deployment.invoke("one", "hang", null, { timeoutMs: 30_000 })
  await until(deployment, "one", /^hanging$/)
  process.kill((await bed.one(deployment, "one")).pid, "SIGKILL")
  expect(await answer).toEqual({ attempt: 2 })
})

test("it is delivered again as soon as its supervisor has seen the daemon end, however long its lease is", async () => {
  const patient = receiver("patient").environment({ LEASE_SECONDS: "3600" })
  const deployment = await bed.deploy(stackOf("patience", patient))
  const answers = [1, 2, 3].map(() => deployment.invoke("patient", "hang", null, { timeoutMs: 50_000 }))
  await until(deployment, "patient", /^hanging$/, 3)
  process.kill((await bed.one(deployment, "patient")).pid, "SIGKILL")
  expect(await Promise.all(answers)).toEqual([{ attempt: 2 }, { attempt: 2 }, { attempt: 2 }])

  // Nobody saw this one end: its supervisor went first, and the next one knows it.
  const again = deployment.invoke("patient", "hang", null, { timeoutMs: 50_000 })
  await until(deployment, "patient", /^hanging$/, 4)
  const supervisor = processesWith(" run ").find(({ command }) => command.includes(bed.stateDir) && command.endsWith("/patience/daemons/patient"))
  process.kill(supervisor.pid, "SIGKILL")
  expect(await again).toEqual({ attempt: 2 })
  await deployment.destroy()
})

test("a command outlives a manager that is killed: it comes back, and nobody notices", async () => {
  const deployment = await alien.connect(bed.options({ name: "calls" }))
  const before = manager().pid
  const answer = deployment.invoke("two", "slow", null, { timeoutMs: 30_000 })
  await until(deployment, "two", /^begun$/)
  process.kill(before, "SIGKILL")
  expect(await answer).toEqual({ done: true })
  expect(isAlive(before)).toBe(false)
  expect(manager().pid).not.toBe(before)
})

test("a daemon without commands gets none of it, and the last one that had them takes the manager away", async () => {
  const plain = await bed.deploy(stackOf("plain", daemon("d", image, "env", "ready")))
  const lines = (await allLines(plain, "d")).map(({ line }) => line)
  expect(lines.filter((line) => line.includes("COMMANDS"))).toEqual([])
  expect(await failure(plain.invoke("d", "echo"))).toMatchObject({ code: "MANAGER_NOT_FOUND", message: expect.stringMatching(/^no daemon of deployment "plain" in .* takes commands; those of "calls" do$/) })
  const { url, tokens } = callers()
  const { pid } = manager()
  // One of two stops taking commands: its token goes, and the manager stays for the other.
  await bed.deploy(stackOf("calls", daemon("one", image, "ready"), receiver("two")))
  expect(fs.existsSync(file("receivers/calls/one"))).toBe(false)
  const client = new CommandsClient({ managerUrl: url, deploymentId: "calls", token: tokens.calls })
  expect(await client.target("two").invoke("echo", 1)).toMatchObject({ params: 1 })
  await (await alien.connect(bed.options({ name: "calls" }))).destroy()
  await eventually(() => !isAlive(pid))
  expect(fs.existsSync(file("client.json"))).toBe(false)
  expect(fs.readdirSync(file())).toEqual(["data"])
  await plain.destroy({ data: true })
  expect(fs.existsSync(file())).toBe(false)
})

test("a stack without commands starts no manager", async () => {
  const deployment = await bed.deploy(stackOf("alone", daemon("d", image, "ready")))
  expect(fs.existsSync(file())).toBe(false)
  expect(await failure(deployment.invoke("d", "x"))).toMatchObject({ code: "MANAGER_NOT_FOUND", hint: expect.stringContaining(".commandsEnabled(true)") })
})
