"use strict"

// Receivers of commands as daemons run them: processes of their own, before a real manager.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const net = require("node:net")
const path = require("node:path")
const { createCommandReceiver, command, runReceiver } = require("@alienplatform/core/commands")
const { eventually, failure, has, needs } = require("./lib/bed.js")
const { missing, testManager } = require("./lib/manager.js")

jest.setTimeout(30_000)

const LEASE = { leaseSeconds: 1 }

/** Whether a process has been sent a signal that it has not taken yet. */
function pendingSignals(pid) {
  try {
    return /^(SigPnd|ShdPnd):\s*0*[1-9a-f]/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    // It has ended.
    return false
  }
}

needs(missing).describe("with a manager", () => {
  const its = testManager()
  let client
  beforeAll(async () => {
    client = await its.client()
  })

  /** What a call fails with, as its handler's daemon gave it. */
  const failed = async (target, ...call) => {
    const error = await failure(client.target(target).invoke(...call))
    expect(error.code).toBe("DEPLOYMENT_COMMAND_ERROR")
    const { errorCode, errorMessage, errorDetails } = error.context
    return { errorCode, errorMessage, errorDetails }
  }

  describe("one that takes a command at a time", () => {
    let daemon
    beforeAll(async () => {
      daemon = await its.receiver("one", { options: { schemas: true } })
    })

    test("parameters and results are any JSON, and any character survives", async () => {
      for (const value of [null, 0, "", "ü — 日本 🚀 \u0000 \u2028 \ud83d\ude00", [1, { a: [] }], { __proto__: null, "": false }]) {
        expect(await client.target("one").invoke("echo", value)).toEqual(value)
      }
      expect(await client.target("one").invoke("echo")).toBeNull()
      expect(await client.target("one").invoke("nothing")).toBeNull()
    })

    test("a handler is told about its command", async () => {
      const deadline = new Date(Date.now() + 60_000)
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      expect(await client.target("one").invoke("context", { a: 1 }, { deadline, traceparent, tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE" })).toEqual({
        input: { a: 1 }, params: { a: 1 }, attempt: 1, commandId: expect.stringMatching(/^cmd_/), deadline: deadline.toISOString(),
        target: { resourceId: "one", resourceType: "daemon" }, traceparent, tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", aborted: false, progress: "function",
      })
    })

    test.each([
      ["zod", { since: "never" }, 1, ["since"]],
      ["zod", { since: "2026-05-01", list: [{ n: 1 }, { n: "2" }] }, 1, ["list", 1, "n"]],
      ["valibot", { list: [{ n: "1" }] }, 1, ["list", 0, "n"]],
      ["arktype", { list: { n: "1" } }, 1, ["list", "n"]],
      ["arktype", 5, 1, []],
    ])("parameters that %s refuses never reach the handler: %j", async (name, params, count, place) => {
      const before = await client.target("one").invoke("reached")
      const { errorCode, errorMessage, errorDetails } = await failed("one", name, params)
      expect(errorCode).toBe("INVALID_PARAMS")
      expect(errorDetails.issues).toHaveLength(count)
      expect(errorDetails.issues[0]).toEqual({ path: place, message: expect.any(String) })
      expect(errorMessage).toContain(errorDetails.issues[0].message)
      expect(await client.target("one").invoke("reached")).toBe(before)
    })

    test("handlers get what their schemas give", async () => {
      expect(await client.target("one").invoke("zod", { since: "2026-05-01" })).toBe(2026)
      expect(await client.target("one").invoke("valibot", { list: [{ n: 1 }] })).toBe(1)
      expect(await client.target("one").invoke("arktype", { list: { n: 1 } })).toBe("low")
    })

    test.each([
      ["fail", { code: "QUOTA", message: "no more", details: { limit: 3 } }, { errorCode: "QUOTA", errorMessage: "no more", errorDetails: { limit: 3 } }],
      ["fail", { code: "", message: "ü".repeat(20_000) }, { errorCode: "HANDLER_ERROR", errorMessage: "ü".repeat(8192) }],
      ["fail", { code: 7, message: "seven" }, { errorCode: "HANDLER_ERROR", errorMessage: "seven" }],
      ["fail", { bare: true }, { errorCode: "HANDLER_ERROR", errorMessage: "just a text" }],
      ["fail", { message: "much", much: 600_000 }, { errorCode: "RESPONSE_REFUSED", errorMessage: expect.stringContaining("413") }],
      ["bigint", null, { errorCode: "HANDLER_ERROR", errorMessage: expect.stringContaining("cannot be JSON") }],
      ["too-much-progress", null, { errorCode: "PROGRESS_TOO_LARGE", errorMessage: expect.stringContaining("5002 bytes") }],
      ["nope", null, { errorCode: "UNKNOWN_COMMAND", errorMessage: expect.stringMatching(/no command "nope" here; there is "echo", "context"/) }],
    ])("what goes wrong is told: %s %#", async (name, params, expected) => {
      expect(await failed("one", name, params)).toEqual(expected)
    })

    test("the deadline ends a handler", async () => {
      const error = await failure(client.target("one").invoke("hold", { name: "late" }, { deadline: new Date(Date.now() + 300) }))
      // Receiver and manager notice it in the same moment.
      expect(["COMMAND_EXPIRED", "DEPLOYMENT_COMMAND_ERROR"]).toContain(error.code)
      await daemon.until(/^aborted late HANDLER_TIMEOUT CommandError$/)
    })

    test("one runs at a time, the others wait for it in their order", async () => {
      const all = ["a", "b", "c"].map((name) => client.target("one").invoke("gate", { name }))
      await daemon.until(/^begun a 1$/)
      its.open("b")
      its.open("c")
      expect(daemon.stdout).not.toMatch(/^begun [bc]/m)
      its.open("a")
      expect(await Promise.all(all)).toEqual(["a", "b", "c"].map((name) => ({ name, attempt: 1 })))
      expect(await daemon.until(/^begun [abc] 1$/, 3)).toEqual(["begun a 1", "begun b 1", "begun c 1"])
    })

    test("what it writes about failures has no parameters", () => {
      expect(daemon.stderr).toMatch(/"zod" \(cmd_[^)]+\) failed: INVALID_PARAMS\n/)
      expect(daemon.stderr).toMatch(/"fail" \(cmd_[^)]+\) failed: Error: no more\n    at /)
      expect(daemon.stderr).not.toContain("never")
    })
  })

  test("several run at once, up to the set number", async () => {
    const daemon = await its.receiver("several", { options: { concurrency: 16 } })
    const target = client.target("several")
    await Promise.all(Array.from({ length: 48 }, () => target.invoke("meet", { count: 16 })))
    expect(await target.invoke("peak")).toBe(16)
    expect(daemon.stderr).toBe("")
  })

  test("a command that is cancelled ends its handler, and the next one begins", async () => {
    const proxy = await its.proxy(() => undefined)
    const daemon = await its.receiver("cancelled", { options: { url: proxy.url } })
    const { commandId } = await client.target("cancelled").submit("hold", { name: "unwanted" })
    await eventually(() => proxy.requests.some((request) => request.endsWith("/renew")))
    expect(await client.cancel(commandId)).toMatchObject({ commandId, state: "CANCELLED" })
    await daemon.until(/^aborted unwanted COMMAND_CANCELLED CommandError$/)
    expect(await client.target("cancelled").invoke("echo", 1)).toBe(1)
    expect(proxy.requests.filter((request) => request.startsWith("PUT"))).toHaveLength(1)
  })

  test("a command that is cancelled before its lease was renewed once ends its handler as a cancelled one", async () => {
    const daemon = await its.receiver("early")
    const { commandId } = await client.target("early").submit("hold", { name: "early" })
    await daemon.until(/^begun early 1$/)
    await client.cancel(commandId)
    await daemon.until(/^aborted early /)
    expect(daemon.stdout).toContain("aborted early COMMAND_CANCELLED CommandError\n")
  })

  test("a lease is renewed for as long as its handler runs", async () => {
    // Long enough for a machine that stands still for a second.
    const daemon = await its.receiver("renewing", { options: { leaseSeconds: 3 } })
    expect(await client.target("renewing").invoke("work", { ms: 6500 })).toBe(1)
    expect(daemon.stdout.match(/^working/gm)).toHaveLength(1)
  })

  test("progress is seen by the caller, the newest", async () => {
    await its.receiver("telling")
    const { commandId } = await client.target("telling").submit("gate", { name: "told", progress: { done: 3 } })
    await eventually(() => client.get(commandId), ({ progress }) => progress?.done === 3)
    its.open("told")
    await eventually(() => client.get(commandId), ({ state }) => state === "SUCCEEDED")
  })

  test("a daemon that is killed over a command: it is handed out again, once its lease has ended", async () => {
    const first = await its.receiver("dying", { options: LEASE })
    const call = client.target("dying").invoke("die", { name: "x" })
    expect(await first.ended).toBe("SIGKILL")
    await its.receiver("dying", { options: LEASE })
    expect(await call).toBe(2)
  })

  test("a daemon that stood still too long: somebody else has the command, and its own result counts for nothing", async () => {
    const first = await its.receiver("frozen", { options: LEASE })
    const call = client.target("frozen").invoke("gate", { name: "frozen" })
    await first.until(/^begun frozen 1$/)
    first.signal("SIGSTOP")
    const second = await its.receiver("frozen", { options: LEASE })
    await second.until(/^begun frozen 2$/)
    its.open("frozen")
    expect(await call).toEqual({ name: "frozen", attempt: 2 })
    first.signal("SIGCONT")
    // It goes on with what comes next.
    await second.kill("SIGTERM")
    expect(await client.target("frozen").invoke("echo", "on")).toBe("on")
  })

  test("a lease that is lost ends the handler", async () => {
    let lost = false
    const proxy = await its.proxy((request) => (lost && request.url.endsWith("/renew") ? { status: 409 } : undefined))
    const daemon = await its.receiver("losing", { options: { ...LEASE, url: proxy.url } })
    const { commandId } = await client.target("losing").submit("hold", { name: "lost" })
    await daemon.until(/^begun lost 1$/)
    lost = true
    await daemon.until(/^aborted lost LEASE_LOST CommandError$/)
    await client.cancel(commandId)
  })

  describe("SIGTERM", () => {
    test("handlers finish, nothing new is taken, and the process ends", async () => {
      const daemon = await its.receiver("draining")
      const call = client.target("draining").invoke("gate", { name: "drained" })
      await daemon.until(/^begun drained 1$/)
      daemon.signal("SIGTERM")
      await daemon.until(/^stopping$/)
      const { commandId } = await client.target("draining").submit("echo")
      its.open("drained")
      expect(await call).toEqual({ name: "drained", attempt: 1 })
      expect(await daemon.ended).toBe(0)
      expect(daemon.stdout).toMatch(/ended\n$/)
      expect(await client.get(commandId)).toMatchObject({ state: "PENDING", attempt: 1 })
    })

    test("a command that is on its way in that moment is given back", async () => {
      const { port } = new URL(its.url)
      // Of the first connection, the daemon's question, what the manager answers is held until the daemon waits no more.
      let held
      const way = net.createServer({ allowHalfOpen: true }, (near) => {
        const far = net.connect(port, "127.0.0.1")
        const hold = held === undefined
        held ??= near
        near.pipe(far)
        if (hold) near.once("end", () => far.pipe(near))
        else far.pipe(near)
        for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => {}).on("close", () => other.destroy())
      })
      await new Promise((resolve) => way.listen(0, "127.0.0.1", resolve))
      try {
        const daemon = await its.receiver("leaving", { options: { url: `http://127.0.0.1:${way.address().port}` } })
        await eventually(() => held)
        const { commandId } = await client.target("leaving").submit("echo")
        await eventually(() => client.get(commandId), ({ state }) => state === "DISPATCHED")
        expect(await daemon.kill("SIGTERM")).toBe(0)
        expect(await client.get(commandId)).toMatchObject({ state: "PENDING", attempt: 2 })
      } finally {
        await new Promise((resolve) => way.close(resolve))
      }
    })

    test("one that waits for commands ends at once", async () => {
      const daemon = await its.receiver("idle")
      expect(await client.target("idle").invoke("echo", 1)).toBe(1)
      expect(await daemon.kill("SIGTERM")).toBe(0)
      expect(daemon.stderr).toBe("")
    })

    test.each([
      ["after the drain time", { drainTimeoutMs: 50 }, 1],
      ["at a second signal", { drainTimeoutMs: 60_000 }, 2],
    ])("%s handlers are aborted, and their commands can be had by others at once", async (when, options, signals) => {
      const id = `stopping-${signals}`
      const daemon = await its.receiver(id, { options })
      const { commandId } = await client.target(id).submit("hold", { name: id })
      await daemon.until(new RegExp(`^begun ${id} 1$`))
      for (let sent = 0; sent < signals; sent++) {
        daemon.signal("SIGTERM")
        // The next may otherwise be one with it.
        await eventually(() => pendingSignals(daemon.pid), (pending) => !pending)
      }
      expect(await daemon.ended).toBe(0)
      expect(daemon.stdout).toContain(`aborted ${id} RECEIVER_STOPPED CommandError\n`)
      expect(await client.get(commandId)).toMatchObject({ state: "PENDING", attempt: 2 })
    })
  })

  test("a command that is handed over just as the receiver stops is given back", async () => {
    let go
    const hold = new Promise((resolve) => (go = resolve))
    const proxy = await its.proxy((request) => (request.url === "/v1/commands/leases" ? { hold } : undefined))
    const { ALIEN_COMMANDS_TOKEN: token } = await its.environment("handed")
    const { commandId } = await client.target("handed").submit("never")
    const receiver = createCommandReceiver({ url: proxy.url, token, deploymentId: its.deployment, resourceId: "handed", handleSignals: false, log: () => {} })
    const handled = []
    const running = receiver.command("never", () => handled.push(1)).run()
    await eventually(() => proxy.held === 1)
    // The head of the answer, which was sent before this was asked, has come before this is answered.
    expect(await client.get(commandId)).toMatchObject({ state: "DISPATCHED" })
    const stopped = receiver.stop()
    go()
    await Promise.all([stopped, running])
    expect(handled).toEqual([])
    expect(await client.get(commandId)).toMatchObject({ state: "PENDING", attempt: 2 })
    expect(proxy.requests.at(-1)).toMatch(/^POST \/v1\/commands\/leases\/lease_[^/]+\/release$/)
  })

  test("a manager that ends and comes again: idle or busy, the receiver goes on, and nothing is lost", async () => {
    const daemon = await its.receiver("patient", { options: { concurrency: 2 } })
    const call = client.target("patient").invoke("gate", { name: "outage" })
    await daemon.until(/^begun outage 1$/)
    expect(await its.process.kill("SIGTERM")).toBe(0)
    its.open("outage")
    await eventually(() => daemon.stderr.includes("does not answer"))
    await its.start()
    expect(await call).toMatchObject({ name: "outage" })
    expect(await client.target("patient").invoke("echo", 1)).toBe(1)
    // It came before the answer, but by another way.
    await eventually(() => daemon.stderr, (said) => said.includes("the manager answers again\n"))
    its.process.signal("SIGKILL")
    await its.process.ended
    await its.start()
    expect(await client.target("patient").invoke("echo", 2)).toBe(2)
  })

  test("a token file that is replaced is read again", async () => {
    const file = path.join(its.folder, "token")
    const old = await its.token("receive", "rotating")
    fs.writeFileSync(file, old.token)
    const proxy = await its.proxy(() => undefined)
    const daemon = await its.receiver("rotating", { env: { ALIEN_COMMANDS_TOKEN: "", ALIEN_COMMANDS_TOKEN_FILE: file }, options: { url: proxy.url, waitSeconds: 0.1 } })
    expect(await client.target("rotating").invoke("echo", 1)).toBe(1)
    fs.writeFileSync(file, `${(await its.token("receive", "rotating")).token}\n`)
    await its.ask("DELETE", `/v1/tokens/${old.id}`)
    // The question that is being held was asked with the old one.
    const asked = proxy.requests.length
    await eventually(() => proxy.requests.length > asked + 1)
    expect(await client.target("rotating").invoke("echo", 2)).toBe(2)
    expect(daemon.stderr).toBe("")
  })

  test("a token that is refused is said once, without itself", async () => {
    const proxy = await its.proxy(() => undefined)
    const daemon = await its.receiver("refused", { options: { url: proxy.url, token: "hush-hush", pollIntervalMs: 1 } })
    await eventually(() => proxy.requests.length > 3 && daemon.stderr !== "")
    expect(daemon.stderr).toMatch(/^alien commands: the manager answered the question for commands with 401 UNAUTHORIZED: .*alien token create.*\n$/)
    expect(daemon.stderr).not.toContain("hush")
  })

  describe("a manager of the plain protocol", () => {
    test("is asked again and again, slower and slower", async () => {
      const proxy = await its.plain()
      const daemon = await its.receiver("plain", { options: { url: proxy.url, pollIntervalMs: 10, pollMaxIntervalMs: 40 } })
      for (const value of [1, 2, 3]) expect(await client.target("plain").invoke("echo", value)).toBe(value)
      await client.target("plain").invoke("work", { ms: 700 })
      const [asked, from] = [proxy.requests.length, performance.now()]
      await eventually(() => proxy.requests.length > asked + 15)
      // Between them 15 intervals: one after a command, then 10, 15, 22 and 33 ms and ten of 40, each a tenth shorter at the least.
      expect(performance.now() - from).toBeGreaterThan(0.9 * (10 + 15 + 22 + 33 + 10 * 40))
      expect(proxy.requests.filter((request) => request.endsWith("/renew"))).toHaveLength(1)
      expect(daemon.stderr).toBe("")
    })

    test("gives a handler as long as its lease, less what the answer needs", async () => {
      const proxy = await its.plain()
      const daemon = await its.receiver("hurried", { options: { url: proxy.url, leaseSeconds: 2, pollIntervalMs: 10 } })
      expect(await failed("hurried", "hold", { name: "hurried" })).toMatchObject({ errorCode: "HANDLER_TIMEOUT", errorMessage: expect.stringContaining("could not be renewed") })
      await daemon.until(/^aborted hurried HANDLER_TIMEOUT CommandError$/)
    })
  })

  describe("bodies and addresses that other managers give", () => {
    /** The first lease's envelope, as another manager would have written it. */
    const enveloped = (change) => {
      const rewrite = ({ leases }) => ({ leases: leases.map((lease) => ({ ...lease, envelope: change(lease.envelope) })) })
      return its.proxy((request) => (request.url === "/v1/commands/leases" ? { rewrite } : undefined))
    }

    test("a large result goes to its store, parameters come from theirs, and neither sees the token", async () => {
      const store = await its.store()
      store.objects.set("/params", { text: '{"bytes":200000}' })
      const proxy = await enveloped((envelope) => ({
        ...envelope,
        params: { mode: "storage", storageGetRequest: store.presigned("GET", "params") },
        responseHandling: { ...envelope.responseHandling, submitResponseUrl: `${store.url}/answer`, storageUploadRequest: store.presigned("PUT", "result") },
      }))
      await its.receiver("storing", { options: { url: proxy.url } })
      const { commandId } = await client.target("storing").submit("big")
      const { text, headers } = await eventually(() => store.objects.get("/answer"))
      expect(JSON.parse(text)).toEqual({ status: "success", response: { mode: "storage", size: 200_000, storagePutUsed: true } })
      expect(headers.authorization).toBeUndefined()
      const kept = store.objects.get("/result")
      expect(kept).toMatchObject({ method: "PUT", headers: { "x-signed": "yes", "content-length": "200000" } })
      expect(kept.headers.authorization).toBeUndefined()
      expect(JSON.parse(kept.text)).toHaveLength(199_998)
      await client.cancel(commandId)
    })

    test("a large result has nowhere to go where a manager names no store", async () => {
      const proxy = await enveloped(({ responseHandling: { storageUploadRequest, ...responseHandling }, ...envelope }) => ({ ...envelope, responseHandling }))
      await its.receiver("storeless", { options: { url: proxy.url } })
      for (const [name, params, size] of [["big", { bytes: 150_001 }, { bytes: 150_001 }], ["kind", { kind: "generator", bytes: 150_001 }, {}]]) {
        expect(await failed("storeless", name, params)).toEqual({ errorCode: "RESPONSE_TOO_LARGE", errorMessage: expect.stringContaining("150000"), errorDetails: { ...size, maxInlineBytes: 150_000 } })
      }
      const whole = await client.target("storeless").invoke("kind", { kind: "generator", bytes: 150_000 }, { as: "bytes" })
      expect(whole).toHaveLength(150_000)
    })

    test("an address relative to where leases come from", async () => {
      const proxy = await enveloped((envelope) => {
        const url = envelope.responseHandling.submitResponseUrl.replace("/v1/commands/", "")
        return { ...envelope, responseHandling: { ...envelope.responseHandling, submitResponseUrl: url } }
      })
      await its.receiver("relative", { options: { url: `${proxy.url}/v1` } })
      expect(await client.target("relative").invoke("echo", 1)).toBe(1)
    })

    test("parameters that cannot be read", async () => {
      const proxy = await enveloped((envelope) => ({ ...envelope, params: { mode: "inline", inlineBase64: "/w==" } }))
      await its.receiver("unreadable", { options: { url: proxy.url } })
      expect(await failed("unreadable", "echo", 1)).toMatchObject({ errorCode: "BODY_INVALID", errorMessage: "its 1 bytes are not JSON in UTF-8" })
    })
  })

  needs(!has("openssl") && "openssl is not installed").test("over TLS, with an authority that Node is told of", async () => {
    const [key, cert] = ["key.pem", "cert.pem"].map((name) => path.join(its.folder, name))
    const name = ["-subj", "/CN=manager", "-addext", "subjectAltName=IP:127.0.0.1"]
    const made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "1"]
    execFileSync("openssl", ["req", "-x509", ...made, ...name], { stdio: "pipe" })
    const proxy = await its.proxy(() => undefined, { key: fs.readFileSync(key), cert: fs.readFileSync(cert) })
    await its.receiver("secure", { options: { url: proxy.url }, env: { NODE_EXTRA_CA_CERTS: cert } })
    expect(await client.target("secure").invoke("echo", 1)).toBe(1)
    const untrusting = await its.client({ managerUrl: proxy.url })
    expect(await failure(untrusting.target("secure").invoke("echo", 1, { timeoutMs: 300 }))).toMatchObject({ code: "COMMAND_CREATION_FAILED", message: expect.stringMatching(/self.signed certificate/) })
  })

  test("the folder works where it was copied to alone, in a package of ES modules", async () => {
    const app = path.join(its.folder, "app")
    fs.cpSync(path.join(__dirname, "../js/commands"), path.join(app, "commands"), { recursive: true })
    fs.writeFileSync(path.join(app, "package.json"), '{"type":"module"}')
    const program = path.join(app, "main.js")
    fs.writeFileSync(program, `
      import { command, runReceiver } from "./commands/index.mjs"
      command("double", (n) => 2 * n)
      const running = runReceiver({ concurrency: 2 })
      console.log("started")
      await running
      console.log("ended")`)
    const daemon = await its.receiver("alone", { program })
    expect(await client.target("alone").invoke("double", 21)).toBe(42)
    expect(await daemon.kill("SIGINT")).toBe(0)
    expect(daemon.stdout).toBe("started\nended\n")
  })
})

describe("wrong uses", () => {
  const thrown = (run) => {
    try {
      run()
    } catch (error) {
      return { code: error.code, message: error.message }
    }
    throw new Error("nothing was thrown")
  }

  test.each([
    ["a name twice", () => createCommandReceiver().command("a", () => 1).command("a", () => 2), 'the command "a" has a handler already'],
    ["the same of the module's own", () => (command("once", () => 1), command("once", () => 2)), 'the command "once" has a handler already'],
    ["no name", () => createCommandReceiver().command("", () => 1), "a text of 1 to 256 characters"],
    ["no handler", () => createCommandReceiver().command("a"), 'the handler of the command "a" is a undefined'],
    ["no schema", () => createCommandReceiver().command("a", { type: "object" }, () => 1), 'the schema of the command "a" is no Standard Schema'],
  ])("%s", (_, run, message) => {
    expect(thrown(run)).toEqual({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) })
  })

  test("all that a receiver is missing is said at once", async () => {
    const error = await failure(runReceiver({ concurrency: 1.5, pollJitter: 2 }))
    expect(error).toMatchObject({ code: "RECEIVER_NOT_CONFIGURED", hint: expect.stringContaining("commandsEnabled") })
    for (const part of ["ALIEN_COMMANDS_URL", "ALIEN_DEPLOYMENT_ID", "ALIEN_COMMANDS_TARGET_RESOURCE_ID", "ALIEN_COMMANDS_TOKEN_FILE", "concurrency is 1.5", "pollJitter is 2"]) {
      expect(error.message).toContain(part)
    }
  })

  test("a receiver is started once; one that was stopped before takes nothing", async () => {
    const receiver = createCommandReceiver({ url: "http://127.0.0.1:1", token: "t", deploymentId: "d", resourceId: "r", handleSignals: false, log: () => {} })
    const running = receiver.run()
    expect(await failure(receiver.run())).toMatchObject({ code: "RECEIVER_RUNNING" })
    await receiver.stop()
    await running
    expect(await failure(createCommandReceiver({ url: "ftp://x", token: "t", deploymentId: "d", resourceId: "r" }).run())).toMatchObject({ code: "INVALID_MANAGER_URL" })
  })
})
