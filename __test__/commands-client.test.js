"use strict"

// Calls of commands, before a real manager and real daemons.

const { execFileSync } = require("node:child_process")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { CommandError, CommandsClient } = require("@alienplatform/core/commands")
const { eventually, failure, needs, root } = require("./lib/bed.js")
const { missing, testManager } = require("./lib/manager.js")

jest.setTimeout(30_000)

needs(missing).describe("with a manager and a daemon", () => {
  const its = testManager()
  let client
  let daemon
  beforeAll(async () => {
    client = await its.client()
    daemon = await its.receiver("d", { options: { concurrency: 8 } })
  })

  test("a call is one exchange, on a connection that is kept", async () => {
    const proxy = await its.proxy(() => undefined)
    const through = await its.client({ managerUrl: proxy.url })
    expect(await through.target("d").invoke("echo", { a: 1 })).toEqual({ a: 1 })
    expect(await through.invoke("echo", 2)).toBe(2)
    expect(proxy.requests).toEqual([expect.stringMatching(/^POST \/v1\/commands\?wait=/), expect.stringMatching(/^POST \/v1\/commands\?wait=/)])
    expect(proxy.connections()).toBe(1)
  })

  test("the manager's address may be given as published clients have it, or with the version", async () => {
    for (const end of ["/", "/v1", "/v1/"]) expect(await (await its.client({ managerUrl: its.url + end })).invoke("echo", end)).toBe(end)
  })

  test("submit returns at once; get tells how it goes, and the result", async () => {
    const { commandId, ...rest } = await client.target("d").submit("gate", { name: "submitted", progress: { done: 1 } })
    expect(rest).toEqual({ state: expect.stringMatching(/^(PENDING|DISPATCHED)$/) })
    expect(await eventually(() => client.get(commandId), ({ progress }) => progress)).toEqual({
      commandId, state: "DISPATCHED", attempt: 1, command: "gate", target: { resourceId: "d", resourceType: "daemon" },
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/), progress: { done: 1 },
    })
    its.open("submitted")
    const done = await eventually(() => client.get(commandId), ({ state }) => state === "SUCCEEDED")
    expect(done).toMatchObject({ result: { name: "submitted", attempt: 1 }, finishedAt: expect.any(String) })
    expect(done.response).toBeUndefined()
    const failed = await client.target("d").submit("fail", { code: "NO", message: "not today" })
    expect(await eventually(() => client.get(failed.commandId), ({ state }) => state === "FAILED")).toMatchObject({ error: { code: "NO", message: "not today" } })
  })

  test("watch gives every change until the end", async () => {
    const { commandId } = await client.target("d").submit("gate", { name: "watched", progress: "half" })
    const states = []
    for await (const { state, progress } of client.watch(commandId, { pollInterval: 10 })) {
      if (states.at(-1) !== state) states.push(state)
      if (progress === "half") its.open("watched")
    }
    expect(states.slice(-2)).toEqual(["DISPATCHED", "SUCCEEDED"])
  })

  test("list: by state and daemon, page by page, the newest first", async () => {
    await its.token("receive", "nobody")
    const sent = []
    for (const name of ["a", "b", "c"]) sent.push((await client.target("nobody").submit(name)).commandId)
    const first = await client.list({ target: "nobody", state: "PENDING", limit: 2 })
    expect(first.commands.map(({ command }) => command)).toEqual(["c", "b"])
    const second = await client.target("nobody").list({ limit: 2, cursor: first.cursor })
    expect(second).toEqual({ commands: [expect.objectContaining({ commandId: sent[0], command: "a", state: "PENDING" })] })
    expect(await client.list({ target: "nobody", state: "FAILED" })).toEqual({ commands: [] })
    for (const id of sent) expect(await client.cancel(id)).toMatchObject({ state: "CANCELLED" })
    expect(await failure(client.get("cmd_nope"))).toMatchObject({ code: "MANAGER_HTTP_ERROR", httpStatusCode: 404, context: { managerCode: "COMMAND_NOT_FOUND" } })
  })

  test("a call that takes too long: its command goes on", async () => {
    const error = await failure(client.target("d").invoke("gate", { name: "slow" }, { timeoutMs: 200 }))
    expect(error).toMatchObject({ code: "COMMAND_TIMEOUT", retryable: true, context: { lastState: "DISPATCHED", command: "gate", timeoutMs: 200 }, hint: expect.stringContaining("cancel") })
    its.open("slow")
    await eventually(() => client.get(error.context.commandId), ({ state }) => state === "SUCCEEDED")
    expect(await failure(client.target("nobody").invoke("x", null, { timeout: 50 }))).toMatchObject({ code: "COMMAND_TIMEOUT", context: { lastState: "PENDING" } })
  })

  test("a signal takes the command back", async () => {
    const controller = new AbortController()
    const reason = new Error("not any more")
    const call = failure(client.target("d").invoke("hold", { name: "aborted" }, { signal: controller.signal }))
    await daemon.until(/^begun aborted 1$/)
    controller.abort(reason)
    expect(await call).toBe(reason)
    await daemon.until(/^aborted aborted /)
    const { commands } = await client.list({ target: "d", limit: 1 })
    expect(commands).toMatchObject([{ command: "hold", state: "CANCELLED" }])
    expect(await failure(client.target("d").invoke("echo", 1, { signal: controller.signal }))).toBe(reason)
    expect((await client.list({ target: "d", limit: 1 })).commands).toEqual(commands)
    expect(await client.target("d").invoke("echo", 1, { signal: new AbortController().signal })).toBe(1)
  })

  test("deadlines that have passed, and a command that somebody cancels", async () => {
    expect(await failure(client.target("nobody").invoke("x", 1, { deadline: new Date(Date.now() + 100) }))).toMatchObject({ code: "COMMAND_EXPIRED", context: { state: "EXPIRED" } })
    expect(await failure(client.target("nobody").invoke("x", 1, { deadline: new Date(0).toISOString() }))).toMatchObject({ code: "COMMAND_EXPIRED" })
    const call = failure(client.target("nobody").invoke("cancelled"))
    const { commands } = await eventually(() => client.list({ target: "nobody", state: "PENDING" }), (page) => page.commands.some(({ command }) => command === "cancelled"))
    for (const { commandId } of commands) await client.cancel(commandId)
    expect(await call).toMatchObject({ code: "COMMAND_CANCELLED" })
  })

  test("the same idempotency key is the same command", async () => {
    const key = { idempotencyKey: "once" }
    const { commandId } = await client.target("d").submit("echo", 7, key)
    expect(await client.target("d").invoke("echo", 7, key)).toBe(7)
    expect((await client.target("d").submit("echo", 7, key)).commandId).toBe(commandId)
    expect(await failure(client.target("d").submit("echo", 8, key))).toMatchObject({ code: "COMMAND_CREATION_FAILED", retryable: false, context: { status: 409, managerCode: "CONFLICT" } })
  })

  test("an answer that is lost on its way makes no second command", async () => {
    const before = (await client.list({ target: "d" })).commands.length
    let cuts = 2
    const proxy = await its.proxy(() => ({ cut: cuts-- > 0 }))
    const through = await its.client({ managerUrl: proxy.url })
    expect(await through.target("d").invoke("echo", "cut")).toBe("cut")
    expect(proxy.requests).toHaveLength(3)
    const { commands } = await client.list({ target: "d", limit: 1 })
    expect(commands).toMatchObject([{ command: "echo", state: "SUCCEEDED", attempt: 1 }])
    expect((await client.list({ target: "d" })).commands).toHaveLength(before + 1)
  })

  test("a manager that is busy is asked again when it says", async () => {
    let busy = 1
    const proxy = await its.proxy(() => (busy-- > 0 ? { status: 429 } : undefined))
    expect(await (await its.client({ managerUrl: proxy.url })).target("d").invoke("echo", 1)).toBe(1)
    expect(proxy.requests).toHaveLength(2)
  })

  test("a manager of the plain protocol is asked again and again", async () => {
    const proxy = await its.plain()
    const plain = await its.client({ managerUrl: proxy.url })
    const call = plain.target("d").invoke("gate", { name: "plain" }, { pollInterval: 5 })
    await eventually(() => proxy.requests.filter((request) => request.startsWith("GET")).length >= 3)
    its.open("plain")
    expect(await call).toEqual({ name: "plain", attempt: 1 })
    const asked = proxy.requests.length
    expect(await failure(plain.target("d").invoke("gate", { name: "never" }, { pollInterval: 20, timeoutMs: 100 }))).toMatchObject({ code: "COMMAND_TIMEOUT" })
    // One that makes the command, and the first of 100 ms at growing intervals of 20; without them there were hundreds.
    expect(proxy.requests.length - asked).toBeLessThanOrEqual(1 + 5)
    its.open("never")
  })

  test("a result in a store is fetched from there; one that cannot be read is an error", async () => {
    const store = await its.store()
    store.objects.set("/result", { text: '{"large":true}' })
    const responding = (response) => its.proxy(() => ({ rewrite: (view) => ({ ...view, response: { status: "success", response } }) }))
    const stored = await responding({ mode: "storage", size: 14, storageGetRequest: store.presigned("GET", "result") })
    expect(await (await its.client({ managerUrl: stored.url })).target("d").invoke("echo")).toEqual({ large: true })
    const broken = await responding({ mode: "inline", inlineBase64: "ew==" })
    expect(await failure((await its.client({ managerUrl: broken.url })).target("d").invoke("echo"))).toMatchObject({ code: "RESPONSE_DECODING_FAILED", source: { code: "BODY_INVALID" } })
  })

  test("a call outlives its manager", async () => {
    const call = client.target("d").invoke("gate", { name: "restart" })
    await daemon.until(/^begun restart 1$/)
    expect(await its.process.kill("SIGTERM")).toBe(0)
    await its.start()
    its.open("restart")
    expect(await call).toMatchObject({ name: "restart" })
  })

  test("what cannot be sent, and where it cannot go", async () => {
    const wrong = await its.client({ token: "hush-hush" })
    const refused = await failure(wrong.target("d").invoke("echo", 1))
    expect(refused).toMatchObject({
      code: "COMMAND_CREATION_FAILED", retryable: false, httpStatusCode: 401, hint: expect.stringContaining("alien token"), source: { code: "MANAGER_HTTP_ERROR" },
    })
    expect(JSON.stringify(refused)).not.toContain("hush")
    expect(await failure(client.target("unheard-of").invoke("echo", 1))).toMatchObject({ code: "COMMAND_CREATION_FAILED", message: expect.stringContaining("unheard-of"), context: { status: 400 } })
    const away = await its.client({ managerUrl: "http://127.0.0.1:1" })
    expect(await failure(away.target("d").invoke("echo", 1, { timeoutMs: 300 }))).toMatchObject({
      code: "COMMAND_CREATION_FAILED", retryable: true, source: { code: "MANAGER_UNREACHABLE" }, context: { idempotencyKey: expect.any(String) },
    })
  })

  test("an error of here can become an AlienError, with all it says", async () => {
    const error = await failure(client.target("d").invoke("fail", { code: "NO", message: "not today", details: { until: "monday" } }))
    expect(error).toBeInstanceOf(CommandError)
    expect(error.context).toMatchObject({ errorCode: "NO", errorMessage: "not today", errorDetails: { until: "monday" } })
    const same = await alien.AlienError.from(error)
    expect(same).toBeInstanceOf(alien.AlienError)
    expect(same.toOptions()).toEqual(error.toOptions())
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ code: "DEPLOYMENT_COMMAND_ERROR", retryable: false, internal: false })
  })

  test("a program ends by itself after a call, without close", async () => {
    const { token } = await its.token("invoke")
    const options = JSON.stringify({ managerUrl: its.url, deploymentId: its.deployment, token })
    const code = `import { CommandsClient } from "@alienplatform/core/commands"; console.log(await new CommandsClient(${options}).target("d").invoke("echo", "bye"))`
    expect(execFileSync(process.execPath, ["--input-type=module", "-e", code], { cwd: root, encoding: "utf8", timeout: 10_000 })).toBe("bye\n")
  })
})

describe("wrong uses", () => {
  const options = { managerUrl: "http://127.0.0.1:1", deploymentId: "d", token: "t" }
  const circular = {}
  circular.self = circular

  test.each([
    ["no token", async () => new CommandsClient({ ...options, token: "" }), "needs token"],
    ["nothing at all", async () => new CommandsClient(), "needs managerUrl"],
    ["a timeout of none", async () => new CommandsClient({ ...options, timeout: 0 }), "timeout is a number"],
    ["a timeout that is a text", () => new CommandsClient(options).invoke("a", 1, { timeoutMs: "1" }), 'timeoutMs is a number of milliseconds from 1 to 2147483647, not "1"'],
    ["no name", () => new CommandsClient(options).invoke("", 1), "a command's name"],
    ["no daemon", async () => new CommandsClient(options).target(""), "the id of a daemon"],
    ["no command", () => new CommandsClient(options).get(""), "named by its id"],
    ["a deadline that is none", () => new CommandsClient(options).invoke("a", 1, { deadline: "soon" }), 'RFC 3339 time, not "soon"'],
    ["what JSON cannot hold", () => new CommandsClient(options).invoke("a", { n: 1n }), 'the parameters of "a" cannot be JSON'],
    ["a circle", () => new CommandsClient(options).invoke("a", circular), 'the parameters of "a" cannot be JSON'],
    ["a form that there is not", () => new CommandsClient(options).invoke("a", 1, { as: "text" }), 'as is one of "json", "bytes", "stream", not "text"'],
    ["a function", () => new CommandsClient(options).invoke("a", () => 1), 'the parameters of "a" cannot be JSON'],
  ])("%s", async (_, run, message) => {
    expect(await failure(run())).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message), httpStatusCode: 400 })
  })

  test("an address that is none", () => {
    expect(() => new CommandsClient({ ...options, managerUrl: "manager.example" })).toThrow(expect.objectContaining({ code: "INVALID_MANAGER_URL" }))
  })

  test("require and import give the same classes, and the package alone loads none of them", () => {
    const run = (code, type) => execFileSync(process.execPath, [`--input-type=${type}`, "-e", code], { cwd: root, encoding: "utf8" }).trim()
    expect(run(`import * as esm from "@alienplatform/core/commands"; import { createRequire } from "node:module"
      const cjs = createRequire(process.cwd() + "/x.js")("@alienplatform/core/commands")
      console.log(Object.keys(cjs).length, Object.keys(cjs).every((name) => cjs[name] === esm[name]))`, "module")).toBe("6 true")
    expect(run(`require("@alienplatform/core"); console.log(Object.keys(require.cache).filter((file) => file.includes("commands")).length)`, "commonjs")).toBe("0")
    expect(run(`require("@alienplatform/core/commands"); console.log(Object.keys(require.cache).every((file) => file.startsWith(${JSON.stringify(path.join(root, "js/commands/"))})))`, "commonjs")).toBe("true")
  })
})
