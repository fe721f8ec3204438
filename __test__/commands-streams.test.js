"use strict"

// Bodies of any size from callers to handlers and back, as users of the library send and take them: real receivers, a real
// manager, and connections that are cut.

const { randomBytes } = require("node:crypto")
const fs = require("node:fs")
const path = require("node:path")
const { Readable } = require("node:stream")
const { createCommandReceiver } = require("@alienplatform/core/commands")
const { eventually, failure, needs } = require("./lib/bed.js")
const { missing, testManager } = require("./lib/manager.js")
const { cutting, forgetPeak, peak, sha256 } = require("./lib/payload.js")

jest.setTimeout(90_000)

const MIB = 1024 * 1024
const LIMIT = 150_000
/** What a body that is streamed through may add to the memory of a process of Node, and of the manager. */
const NODE_MORE = 96 * MIB
const MANAGER_MORE = 16 * MIB

/** The same bytes in every way in which a caller may give some. */
const kinds = (bytes, file) => ({
  Buffer: bytes,
  Uint8Array: new Uint8Array(bytes),
  ArrayBuffer: new Uint8Array(bytes).buffer,
  Blob: new Blob([bytes]),
  "a file that is read": fs.createReadStream(file),
  "a stream of the web": new Blob([bytes]).stream(),
  "a generator": (async function* () {
    yield bytes.subarray(0, 10)
    yield bytes.subarray(10)
  })(),
})

needs(missing).describe("with a manager and a daemon", () => {
  const its = testManager()
  const closers = []
  let client
  let daemon
  let target
  beforeAll(async () => {
    client = await its.client()
    daemon = await its.receiver("d", { options: { concurrency: 8 } })
    target = client.target("d")
  })
  afterAll(async () => {
    for (const close of closers) await close()
  })

  const blobs = () => fs.readdirSync(path.join(its.folder, "data", "blobs"))
  /** A client behind something that cuts its connections. */
  const behind = async (...cuts) => {
    const proxy = await cutting(its, cuts)
    closers.push(proxy.close)
    return { proxy, client: await its.client({ managerUrl: proxy.url }) }
  }
  const puts = ({ requests }) => requests.filter((request) => /^PUT .*payload$/.test(request)).length
  const gets = ({ requests }) => requests.filter((request) => /^GET .*payload$/.test(request)).length

  describe("JSON", () => {
    test.each([LIMIT - 1, LIMIT, LIMIT + 1, 3_000_000])("of %i bytes goes there and back, in a message or beside it", async (size) => {
      const value = "x".repeat(size - 2)
      expect(await target.invoke("echo", value)).toBe(value)
      expect(await target.invoke("big", { bytes: size })).toHaveLength(size - 2)
    })

    test("is read from what was submitted, got and watched as well", async () => {
      const { commandId } = await target.submit("big", { bytes: 200_000, filler: "y".repeat(200_000) })
      let last
      for await (last of client.watch(commandId, { pollInterval: 50 }));
      expect(last).toMatchObject({ state: "SUCCEEDED", result: expect.stringMatching(/^x{199998}$/) })
      expect((await client.get(commandId)).result).toHaveLength(199_998)
      expect((await client.get(commandId, { as: "bytes" })).result).toEqual(Buffer.from(JSON.stringify("x".repeat(199_998))))
    })

    test("with the same idempotency key is one command, also where it goes beside the message", async () => {
      const key = { idempotencyKey: "large" }
      const { commandId } = await target.submit("echo", "z".repeat(200_000), key)
      expect(await target.invoke("echo", "z".repeat(200_000), key)).toHaveLength(200_000)
      expect((await target.submit("echo", "z".repeat(200_000), key)).commandId).toBe(commandId)
    })
  })

  describe("bytes", () => {
    let file
    const bytes = randomBytes(400_000)
    beforeAll(() => {
      file = path.join(its.folder, "bytes")
      fs.writeFileSync(file, bytes)
    })

    test.each(["Buffer", "Uint8Array", "ArrayBuffer", "Blob", "a file that is read", "a stream of the web", "a generator"])("are sent as %s", async (kind) => {
      const sum = { bytes: bytes.length, size: bytes.length, sha256: sha256(bytes), same: true }
      expect(await target.invoke("sum", kinds(bytes, file)[kind])).toEqual(sum)
      const small = bytes.subarray(0, 100)
      fs.writeFileSync(`${file}-small`, small)
      expect(await target.invoke("sum", kinds(small, `${file}-small`)[kind])).toMatchObject({ bytes: 100, size: 100, sha256: sha256(small) })
    })

    test.each(["buffer", "uint8Array", "arrayBuffer", "blob", "readable", "webStream", "generator"])("are given as a %s", async (kind) => {
      for (const size of [100, LIMIT, LIMIT + 1, 400_000]) {
        const expected = Buffer.alloc(size, "kind")
        const got = await target.invoke("kind", { kind, bytes: size }, { as: "bytes" })
        expect(got.equals(expected)).toBe(true)
        const stream = await target.invoke("kind", { kind, bytes: size }, { as: "stream" })
        expect(stream.size).toBe(size)
        expect(Buffer.concat(await stream.toArray()).equals(expected)).toBe(true)
      }
    })

    test("of none are some too", async () => {
      for (const source of [Buffer.alloc(0), Readable.from([])]) {
        expect(await target.invoke("sum", source)).toMatchObject({ bytes: 0, size: 0 })
      }
      expect(await target.invoke("kind", { kind: "buffer", bytes: 0 }, { as: "bytes" })).toHaveLength(0)
      // As an empty body always was.
      expect(await target.invoke("kind", { kind: "buffer", bytes: 0 })).toBeNull()
    })

    test("that are JSON are JSON, and JSON is bytes", async () => {
      expect(await target.invoke("echo", Buffer.from('{"a":1}'))).toEqual({ a: 1 })
      expect(await target.invoke("copy", { a: "ü" })).toEqual({ a: "ü" })
      expect(await target.invoke("sum", "ü")).toMatchObject({ bytes: 4 })
      expect(await failure(target.invoke("echo", Buffer.from([255])))).toMatchObject({ code: "DEPLOYMENT_COMMAND_ERROR", context: { errorCode: "BODY_INVALID" } })
      for (const size of [10, 200_000]) {
        expect(await failure(target.invoke("kind", { kind: "buffer", bytes: size }))).toMatchObject({ code: "RESPONSE_DECODING_FAILED", hint: expect.stringContaining('as: "bytes"') })
      }
    })

    test("that a handler does not read, or not all of, are dropped", async () => {
      const said = daemon.stderr
      expect(await target.invoke("size", bytes)).toBe(bytes.length)
      expect(await target.invoke("first", Buffer.alloc(8 * MIB, 7))).toBe(7)
      expect(daemon.stderr).toBe(said)
    })

    test("come piece by piece: a handler that does not go on holds them back", async () => {
      const sent = async () => {
        const metrics = await fetch(`${its.url}/metrics`, { headers: { authorization: `Bearer ${its.admin}` } })
        return Number((await metrics.text()).match(/^alien_commands_sent_bytes_total (\d+)$/m)[1])
      }
      const before = await sent()
      const call = target.invoke("gated", Buffer.alloc(64 * MIB))
      await daemon.until(/^begun gated 1$/)
      let last
      await eventually(async () => {
        const [now, known] = [await sent(), last]
        last = now
        return now === known && now > before
      })
      // What the system takes for a connection, and little more.
      expect(last - before).toBeLessThan(32 * MIB)
      expect(await target.invoke("echo", "meanwhile")).toBe("meanwhile")
      its.open("gated")
      expect(await call).toBe(1)
    })

    test("that are no bytes are refused, and nobody waits for the rest", async () => {
      expect(await failure(target.invoke("sum", Readable.from([{ a: 1 }])))).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("Uint8Array") })
      expect((await client.list({ target: "d", limit: 1 })).commands).toMatchObject([{ command: "sum", state: "CANCELLED" }])
    })
  })

  test("go through what serves the manager below a path of its own", async () => {
    const proxy = await its.proxy(({ url }) => (url.startsWith("/below/commands/v1/") ? { url: url.slice("/below/commands".length) } : { status: 404 }))
    const address = `${proxy.url}/below/commands`
    await its.receiver("below", { options: { url: address } })
    const target = (await its.client({ managerUrl: address })).target("below")
    const value = "x".repeat(200_000)
    expect(await target.invoke("echo", value)).toBe(value)
    expect(proxy.requests.filter((request) => request.includes("/payload?"))).toHaveLength(4)
  })

  test("256 MiB go from caller to handler and back, and no process needs memory for them", async () => {
    const size = 256 * MIB
    const { token } = await its.token("invoke")
    const program = path.join(its.folder, "caller.js")
    fs.writeFileSync(program, `
      const { createHash } = require("node:crypto")
      const { CommandsClient } = require(${JSON.stringify(path.join(__dirname, "../js/commands"))})
      const client = new CommandsClient(${JSON.stringify({ managerUrl: its.url, deploymentId: its.deployment, token })})
      async function trip(size) {
        const [sent, got] = [createHash("sha256"), createHash("sha256")]
        const body = (async function* () {
          for (let left = size, count = 0; left > 0; count++) {
            const piece = Buffer.alloc(Math.min(left, 65536), count)
            sent.update(piece)
            left -= piece.length
            yield piece
          }
        })()
        let bytes = 0
        for await (const piece of await client.target("d").invoke("copy", body, { as: "stream" })) {
          got.update(piece)
          bytes += piece.length
        }
        return { bytes, same: sent.digest("hex") === got.digest("hex") }
      }
      console.log("started")
      trip(8e6).then(() => console.log("warm"))
      process.on("SIGUSR2", async () => {
        console.log(JSON.stringify(await trip(${size})))
        process.exit()
      })
      setInterval(() => {}, 1e6)`)
    const caller = await its.receiver("caller", { program })
    await caller.until(/^warm$/)
    const pids = { caller: caller.pid, daemon: daemon.pid, manager: its.process.pid }
    for (const pid of Object.values(pids)) forgetPeak(pid)
    const before = Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, peak(pid)]))
    caller.signal("SIGUSR2")
    let most = 0
    const line = await eventually(() => {
      try {
        most = peak(caller.pid)
      } catch {
        // It has ended.
      }
      return caller.stdout.match(/^\{.*\}$/m)?.[0]
    }, Boolean, 80_000)
    expect(JSON.parse(line)).toEqual({ bytes: size, same: true })
    expect(most - before.caller).toBeLessThan(NODE_MORE)
    expect(peak(daemon.pid) - before.daemon).toBeLessThan(NODE_MORE)
    expect(peak(its.process.pid) - before.manager).toBeLessThan(MANAGER_MORE)
  })

  describe("a connection that is cut", () => {
    const bytes = randomBytes(4 * MIB)

    test("while a result is fetched: the rest is asked for", async () => {
      const cut = { begins: /^GET .*payload$/, received: MIB }
      const { proxy, client } = await behind(cut, cut, cut)
      const got = await client.target("d").invoke("copy", bytes, { as: "bytes" })
      expect(got.equals(bytes)).toBe(true)
      expect([gets(proxy), proxy.left]).toEqual([4, []])
      const stream = await client.target("d").invoke("copy", bytes, { as: "stream" })
      expect(Buffer.concat(await stream.toArray()).equals(bytes)).toBe(true)
    })

    test("while parameters are fetched: the handler does not notice", async () => {
      const proxy = await cutting(its, [{ begins: /^GET .*payload$/, received: MIB }])
      closers.push(proxy.close)
      await its.receiver("cut", { options: { url: proxy.url } })
      expect(await client.target("cut").invoke("sum", bytes)).toMatchObject({ bytes: bytes.length, sha256: sha256(bytes) })
      expect(gets(proxy)).toBe(2)
    })

    test("while parameters are sent: what can be read again is sent again", async () => {
      const { proxy, client } = await behind({ begins: /^PUT .*payload$/, sent: MIB })
      expect(await client.target("d").invoke("sum", new Blob([bytes]))).toMatchObject({ sha256: sha256(bytes) })
      expect(puts(proxy)).toBe(2)
    })

    test("before a byte of a stream was sent: it is sent then", async () => {
      const { proxy, client } = await behind({ begins: /^PUT .*payload$/, sent: 1 })
      expect(await client.target("d").invoke("sum", Readable.from([bytes]))).toMatchObject({ sha256: sha256(bytes) })
      expect(puts(proxy)).toBe(2)
    })

    test("while a stream is sent: that cannot be had again, and the command is taken back", async () => {
      const { client } = await behind({ begins: /^PUT .*payload$/, sent: MIB })
      const stream = Readable.from([bytes])
      const error = await failure(client.target("d").invoke("sum", stream))
      expect(error).toMatchObject({ code: "COMMAND_CREATION_FAILED", retryable: true, source: { code: "MANAGER_UNREACHABLE" } })
      expect((await client.list({ target: "d", limit: 1 })).commands).toMatchObject([{ command: "sum", state: "CANCELLED" }])
      expect(stream.destroyed).toBe(true)
    })

    test("while a result is sent: what can be read again is sent again", async () => {
      const proxy = await cutting(its, [{ begins: /^PUT .*payload$/, sent: MIB }])
      closers.push(proxy.close)
      await its.receiver("cut-result", { options: { url: proxy.url } })
      expect(await client.target("cut-result").invoke("kind", { kind: "blob", bytes: 4 * MIB }, { as: "bytes" })).toHaveLength(4 * MIB)
      expect(puts(proxy)).toBe(2)
    })

    test("by a manager that is killed: both sides go on with the next one", async () => {
      let killed = false
      const source = new Blob([bytes])
      const again = { size: source.size, arrayBuffer: () => source.arrayBuffer(), stream: () => Readable.from((async function* () {
        yield bytes.subarray(0, MIB)
        if (!killed) {
          killed = true
          await its.process.kill("SIGKILL")
          await its.start()
        }
        yield bytes.subarray(MIB)
      })()) }
      expect(await target.invoke("sum", again)).toMatchObject({ sha256: sha256(bytes) })
      expect(killed).toBe(true)
      expect(blobs().filter((name) => name.startsWith("."))).toEqual([])
    })
  })

  test.each([
    ["as it is told when it is used", {}, "echo", JSON.parse],
    // Some proxies take what they are sent before they ask: what can be read once is not sent there in vain.
    ["as its own time says", { expiration: "2026-01-01T00:00:00Z" }, "copy", (text) => Readable.from([Buffer.from(text)])],
  ])("an address that is not good any more, %s: the token does as well", async (when, change, name, source) => {
    const late = (answer) =>
      JSON.parse(JSON.stringify(answer), (name, value) => {
        if (name === "url") return value.replace(/payload_token=./, "payload_token=x")
        return change[name] ?? value
      })
    const proxy = await its.proxy(({ url }) => (url.includes("/payload?") ? undefined : { rewrite: late }))
    const id = `late-${when.length}`
    await its.receiver(id, { options: { url: proxy.url } })
    const target = (await its.client({ managerUrl: proxy.url })).target(id)
    const text = JSON.stringify("x".repeat(300_000))
    expect(await target.invoke(name, source(text))).toBe(JSON.parse(text))
  })

  describe("what goes wrong on the way", () => {
    test("a source that fails: the caller gets what it threw, and the command is taken back", async () => {
      const error = new Error("the disk is gone")
      const call = target.invoke("sum", (async function* () {
        yield Buffer.alloc(300_000)
        throw error
      })())
      expect(await failure(call)).toBe(error)
      expect((await client.list({ target: "d", limit: 1 })).commands).toMatchObject([{ command: "sum", state: "CANCELLED" }])
    })

    test("a handler's source that fails: the caller gets that as its error", async () => {
      expect(await failure(target.invoke("breaks"))).toMatchObject({ code: "DEPLOYMENT_COMMAND_ERROR", context: { errorCode: "BROKE", errorMessage: "no more of it" } })
    })

    test("a signal, while parameters are sent: the command is taken back, and the source is let go of", async () => {
      const controller = new AbortController()
      const reason = new Error("not any more")
      let ended = false
      const call = failure(target.invoke("sum", (async function* () {
        try {
          for (;;) {
            yield Buffer.alloc(300_000)
            controller.abort(reason)
          }
        } finally {
          ended = true
        }
      })(), { signal: controller.signal }))
      expect(await call).toBe(reason)
      await eventually(() => ended)
      expect((await client.list({ target: "d", limit: 1 })).commands).toMatchObject([{ command: "sum", state: "CANCELLED" }])
    })

    test("a signal, while a result is fetched, ends its stream", async () => {
      const controller = new AbortController()
      const reason = new Error("enough")
      const stream = await target.invoke("copy", Buffer.alloc(16 * MIB), { as: "stream", signal: controller.signal })
      const read = (async () => {
        for await (const _ of stream) controller.abort(reason)
      })()
      expect(await failure(read)).toBe(reason)
    })

    test("bytes that were changed on the disk are not taken for what was sent", async () => {
      await its.token("receive", "later")
      const { commandId } = await client.target("later").submit("sum", randomBytes(MIB))
      fs.writeFileSync(path.join(its.folder, "data", "blobs", `${commandId}.params`), Buffer.alloc(MIB))
      await its.receiver("later")
      const view = await eventually(() => client.get(commandId), ({ state }) => state === "FAILED")
      expect(view.error).toMatchObject({ code: "BODY_CORRUPT" })
      const submitted = await target.submit("copy", randomBytes(MIB))
      await eventually(() => client.get(submitted.commandId, { as: "stream" }), ({ state, result }) => (result?.destroy(), state === "SUCCEEDED"))
      const [file] = blobs().filter((name) => name.startsWith(`${submitted.commandId}.response`))
      fs.writeFileSync(path.join(its.folder, "data", "blobs", file), Buffer.alloc(MIB))
      expect(await failure(client.get(submitted.commandId, { as: "bytes" }))).toMatchObject({ code: "RESPONSE_DECODING_FAILED", source: { code: "BODY_CORRUPT" } })
      const { result } = await client.get(submitted.commandId, { as: "stream" })
      expect(await failure(result.toArray())).toMatchObject({ code: "BODY_CORRUPT" })
    })

    test("a command that is cancelled while its result is sent", async () => {
      const { commandId } = await target.submit("slow", { pieces: 1000, ms: 20 })
      await daemon.until(/^begun slow 1$/)
      await eventually(() => blobs().some((name) => name.includes(commandId)) || client.get(commandId).then(({ state }) => state === "DISPATCHED"))
      expect(await client.cancel(commandId)).toMatchObject({ state: "CANCELLED" })
      await eventually(() => !blobs().some((name) => name.includes(commandId)))
      expect(await target.invoke("echo", "next")).toBe("next")
    })
  })

  test("a lease is renewed for as long as a result is sent, and a receiver that stops sends it to its end", async () => {
    const one = await its.receiver("sending", { options: { leaseSeconds: 3 } })
    const call = client.target("sending").invoke("slow", { pieces: 12, ms: 500 }, { as: "bytes" })
    await one.until(/^begun slow 1$/)
    one.signal("SIGTERM")
    expect(await call).toHaveLength(12_000)
    expect(await one.ended).toBe(0)
    expect(one.stdout.match(/^begun slow/gm)).toHaveLength(1)
  })

  test("what a manager does not take is said", async () => {
    expect(await its.process.kill("SIGTERM")).toBe(0)
    await its.start(["--most-body-bytes", "1000000", "--most-storage-bytes", "1000000000"])
    const large = await failure(target.invoke("sum", Buffer.alloc(1_000_001)))
    expect(large).toMatchObject({ code: "PARAMS_TOO_LARGE", context: { bytes: 1_000_001, managerCode: "BODY_TOO_LARGE", details: { mostBodyBytes: 1_000_000 } }, httpStatusCode: 413 })
    // Of a stream nobody knows before; whoever sends it hears at once, however much there is left of it.
    const long = (async function* () {
      for (let count = 0; count < 200; count++) yield Buffer.alloc(MIB)
    })()
    expect(await failure(target.invoke("sum", long))).toMatchObject({ code: "PARAMS_TOO_LARGE" })
    expect(await failure(target.invoke("sum", Readable.from([Buffer.alloc(1_000_001)])))).toMatchObject({ code: "PARAMS_TOO_LARGE" })
    const result = await failure(target.invoke("big", { bytes: 1_000_001 }))
    expect(result).toMatchObject({ code: "DEPLOYMENT_COMMAND_ERROR", context: { errorCode: "RESPONSE_TOO_LARGE", errorMessage: expect.stringContaining("1000001 bytes"), errorDetails: { bytes: 1_000_001, mostBodyBytes: 1_000_000 } } })
    expect(await failure(target.invoke("kind", { kind: "generator", bytes: 1_000_001 }))).toMatchObject({ context: { errorCode: "RESPONSE_TOO_LARGE" } })
    await its.process.kill("SIGTERM")
    await its.start(["--most-storage-bytes", "100000"])
    expect(await failure(target.invoke("sum", Buffer.alloc(200_000)))).toMatchObject({ code: "COMMAND_CREATION_FAILED", context: { managerCode: "STORAGE_FULL" }, httpStatusCode: 507 })
    expect(await failure(target.invoke("big", { bytes: 200_000 }))).toMatchObject({ context: { errorCode: "MANAGER_HTTP_ERROR", errorMessage: expect.stringContaining("507 STORAGE_FULL") } })
  })
})

test("a handler of a stream is registered like others", async () => {
  const receiver = createCommandReceiver()
  expect(receiver.stream("a", () => 1)).toBe(receiver)
  expect(() => receiver.stream("a", () => 1)).toThrow(expect.objectContaining({ message: 'the command "a" has a handler already' }))
  expect(() => receiver.stream("b")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }))
  const { command } = require("@alienplatform/core/commands")
  expect(command.stream("streamed", () => 1)).toEqual({ name: "streamed" })
})
