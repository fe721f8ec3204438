"use strict"

// What holds for every call of the engine: signals, time-outs, events, listeners, several at once, and the end of it.

const { spawnSync } = require("node:child_process")
const fs = require("node:fs")
const http = require("node:http")
const path = require("node:path")
const { Worker } = require("node:worker_threads")
const alien = require("@alienplatform/core")
const { DEADLINE, daemon, eventually, failure, root, stackOf, testBed } = require("./lib/bed.js")

const bed = testBed()
let image
let hanging

/** A registry that takes connections and never answers. */
async function hang() {
  let asked
  const server = http.createServer(() => asked?.())
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  bed.later(() => (server.closeAllConnections(), new Promise((resolve) => server.close(resolve))))
  return {
    registries: { "hangs.test": { mirror: `http://127.0.0.1:${server.address().port}` } },
    asked: () => new Promise((resolve) => (asked = resolve)),
  }
}

beforeAll(async () => {
  image = await bed.image()
  hanging = await hang()
})

const small = (id, ...steps) => stackOf(id, daemon("d", image, ...(steps.length > 0 ? steps : ["ready"])))
const never = (id) => stackOf(id, daemon("d", "hangs.test/a/b:1"))
const leftOf = (name) => fs.existsSync(path.join(bed.stateDir, "deployments", name, "daemons"))

describe("a signal", () => {
  const reason = new Error("I changed my mind")

  test("that was aborted before stops everything before it begins", async () => {
    const options = () => bed.options({ name: "aborted", signal: AbortSignal.abort(reason) })
    for (const work of [() => alien.deploy(small("aborted"), options()), () => alien.plan(small("aborted"), options()), () => alien.connect(options()), () => alien.deployments(options())]) {
      expect(await failure(work())).toBe(reason)
    }
    expect(leftOf("aborted")).toBe(false)
  })

  test("while an image is fetched ends the call at once, with its reason, and nothing is left", async () => {
    const controller = new AbortController()
    const asked = hanging.asked()
    const deploying = failure(alien.deploy(never("mid"), bed.options({ signal: controller.signal, local: { registries: hanging.registries } })))
    await asked
    // The registry goes on hanging: the download's own deadline is later than this test's.
    controller.abort(reason)
    expect(await deploying).toBe(reason)
    expect(await alien.deployments(bed.options())).not.toContain("mid")
    // The deployment's lock is free again.
    await bed.deploy(small("mid"))
  })

  test("while a daemon comes up leaves it to its supervisor, and the next deploy goes on from there", async () => {
    const controller = new AbortController()
    const error = await failure(alien.deploy(small("late", "wait=300", "ready"), bed.options({
      signal: controller.signal,
      onEvent: ({ state }) => state === "starting" && controller.abort(reason),
    })))
    expect(error).toBe(reason)
    const deployment = await bed.deploy(small("late", "wait=300", "ready"))
    expect(await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")).toMatchObject({ restarts: 0 })
  })

  // The next deploy finds a supervisor that is just beginning, and asks it to start what it is about to start.
  test("while a sandbox is made ends no call with two of them made at once", async () => {
    const cutShort = async (name) => {
      const controller = new AbortController()
      // One or the other may be done before it hears of it.
      await alien.deploy(small(name), bed.options({
        signal: controller.signal,
        onEvent: ({ state }) => state === "starting" && controller.abort(reason),
      })).catch((error) => expect(error).toBe(reason))
      return bed.one(await bed.deploy(small(name)), "d")
    }
    // Side by side, so that they hold each other up at every moment.
    const statuses = await Promise.all(Array.from({ length: 60 }, (_, index) => cutShort(`cut-${index}`)))
    for (const status of statuses) expect(status).toMatchObject({ state: "running", restarts: 0 })
  }, 60_000)
})

test("a time-out says what the call was doing", async () => {
  const error = await failure(alien.deploy(never("slow"), bed.options({ timeoutMs: 150, local: { registries: hanging.registries } })))
  expect(error).toMatchObject({ name: "AlienError", code: "TIMEOUT", retryable: true, httpStatusCode: 504 })
  expect(error.message).toMatch(/^not done within 0\.15 s; it was /)
  expect(error.stack).toContain("engine-calls.test.js")
  const up = await failure(alien.deploy(small("slow", "wait=30000"), bed.options({ timeoutMs: 400 })))
  expect(up.message).toBe('not done within 0.4 s; it was at "d", which is starting')
})

test("events come in order: preflight, plan, image, resource; and all of them can be read afterwards", async () => {
  const events = []
  const deployment = await alien.deploy(small("events"), bed.options({ onEvent: (event) => events.push(event) }))
  const order = events.map(({ type }) => type).filter((type, index, all) => type !== all[index - 1])
  expect(order).toEqual(["preflight", "plan", "image", "resource"])
  expect(events.find(({ type }) => type === "preflight").report).toMatchObject({ ok: true, platform: "local" })
  expect(events.find(({ type }) => type === "plan").plan.changes).toMatchObject([{ id: "d", action: "create", reason: "it does not exist yet" }])
  expect(events.filter(({ type }) => type === "image").at(-1)).toMatchObject({ id: "d", image, phase: "ready", digest: expect.stringMatching(/^sha256:/) })
  expect(events.filter(({ type }) => type === "resource").map(({ state }) => state)).toEqual(["starting", "running"])
  const recorded = []
  for await (const event of deployment.events()) recorded.push(event)
  expect(recorded).toEqual(events)
})

test("events() follows what is going on", async () => {
  const deployment = await alien.deploy(small("following"), bed.options())
  const restarting = deployment.restart("d")
  const states = []
  for await (const event of deployment.events()) if (event.type === "resource") states.push(event.state)
  await restarting
  expect(states).toEqual(["starting", "running", "restarting", "running"])
})

test("a listener that throws ends the call with its own error", async () => {
  const own = new Error("mine")
  const error = await failure(alien.deploy(small("thrown"), bed.options({ onEvent: ({ type }) => { if (type === "plan") throw own } })))
  expect(error).toBe(own)
  await bed.deploy(small("thrown"))
})

test("two deploys of one name at once: one waits and says so, both end well, one daemon runs", async () => {
  const waited = []
  const one = (number) => alien.deploy(small("twice", "wait=200", "ready"), bed.options({ onEvent: (event) => event.type === "waiting" && waited.push([number, event.message]) }))
  await Promise.all([one(1), one(2)])
  expect(waited).toHaveLength(1)
  expect(waited[0][1]).toMatch(/^another deploy of "twice" is under way( \(process \d+\))?; waiting for it$/)
  const deployment = await alien.connect(bed.options({ name: "twice" }))
  expect(await bed.one(deployment, "d")).toMatchObject({ state: "running", restarts: 0 })
  const runs = await alien.plan(small("twice", "wait=200", "ready"), bed.options())
  expect(runs.changes[0].action).toBe("none")
})

test("two processes that deploy one name, and one that destroys it meanwhile, end well", async () => {
  const stack = JSON.stringify(small("raced", "count", "ready"))
  const code = `require("@alienplatform/core").deploy(${stack}, { local: { stateDir: ${JSON.stringify(bed.stateDir)} } }).then(() => console.log("ok"), (e) => console.log(e))`
  const { spawn } = require("node:child_process")
  const run = () => new Promise((resolve) => {
    let out = ""
    const child = spawn(process.execPath, ["-e", code], { cwd: root })
    child.stdout.on("data", (text) => (out += text))
    child.on("close", () => resolve(out.trim()))
  })
  await bed.deploy(small("raced", "count", "ready"))
  const destroying = alien.connect(bed.options({ name: "raced" })).then((deployment) => deployment.destroy())
  const results = await Promise.all([run(), run(), destroying.then(() => "ok")])
  expect(results).toEqual(["ok", "ok", "ok"])
})

test("different deployments are changed side by side, and share the image", async () => {
  const names = Array.from({ length: 8 }, (_, index) => `side-${index}`)
  await Promise.all(names.map((name) => bed.deploy(small(name))))
  expect(await alien.deployments(bed.options())).toEqual(expect.arrayContaining(names))
  await Promise.all(names.map(async (name) => (await alien.connect(bed.options({ name }))).destroy()))
})

test("several daemons that fail are one error with all of them; the others are up", async () => {
  const stack = stackOf("several", daemon("a", image, "print=a", "exit=1"), daemon("b", image, "exit=2"), daemon("c", image, "ready"))
  const error = await failure(alien.deploy(stack, bed.options()))
  expect(error.code).toBe("DEPLOY_FAILED")
  expect(error.message).toMatch(/^2 resources of "several" failed:/)
  expect(error.context.errors.map(({ code }) => code)).toEqual(["DAEMON_NOT_UP", "DAEMON_NOT_UP"])
  const deployment = await alien.connect(bed.options({ name: "several" }))
  expect((await bed.one(deployment, "c")).state).toBe("running")
})

test.each([
  ["no stack", () => alien.deploy(undefined, bed.options()), "Stack is invalid"],
  ["an unbuilt stack", () => alien.deploy(new alien.Stack("x"), bed.options()), "call .build() on it"],
  ["a misspelt option", () => alien.deploy(small("x"), bed.options({ timeoutMS: 1 })), 'unrecognized key "timeoutMS"; did you mean "timeoutMs"?'],
  ["a time-out of none", () => alien.deploy(small("x"), bed.options({ timeoutMs: 0 })), "timeoutMs"],
  ["a relative state directory", () => alien.deploy(small("x"), bed.options({ local: { stateDir: "state" } })), "local.stateDir: expected an absolute path"],
  ["a name that is none", () => alien.deploy(small("x"), bed.options({ name: "../x" })), "name"],
  ["a mirror that is no URL", () => alien.deploy(small("x"), bed.options({ local: { registries: { "ghcr.io": { mirror: "x" } } } })), 'local.registries["ghcr.io"].mirror'],
  ["a namespace that is none", () => alien.deploy(small("x"), bed.options({ kubernetes: { namespace: "My_Team" } })), 'kubernetes.namespace: expected at most 63 lower-case letters, digits and -, a letter or digit at either end, received "My_Team"'],
  ["an end that is none", () => alien.deploy(small("x"), bed.options({ kubernetes: { onFailure: "rollbak" } })), 'kubernetes.onFailure: expected "rollback" or "keep", received "rollbak"; did you mean "rollback"?'],
  ["a misspelt option of Kubernetes", () => alien.deploy(small("x"), bed.options({ kubernetes: { nameSpace: "x" } })), 'kubernetes: unrecognized key "nameSpace"; did you mean "namespace"?'],
  ["a registry with a path", () => alien.deploy(small("x"), bed.options({ kubernetes: { registries: { "ghcr.io": { host: "https://r.corp/x" } } } })), 'kubernetes.registries["ghcr.io"].host: expected HOST or HOST:PORT'],
  ["half a credential", () => alien.deploy(small("x"), bed.options({ kubernetes: { registries: { "ghcr.io": { username: "u" } } } })), 'kubernetes.registries["ghcr.io"]: username and password go together'],
  ["a binding of no service", () => alien.deploy(small("x"), bed.options({ bindings: { b: { type: "queue" } } })), 'bindings.b.service: required, but not given (where it is: "sqs", "pubsub" or "servicebus")'],
  ["a name missing", () => alien.connect(bed.options()), "name the deployment"],
])("%s is a ValidationError that says where", async (_, work, message) => {
  const error = await failure(work())
  expect(error).toBeInstanceOf(alien.ValidationError)
  expect(`${error.message} ${error.issues.map(({ hint }) => hint)}`).toContain(message)
})

test("a platform without an engine gets its preflight first", async () => {
  expect(await failure(alien.deploy(small("x"), bed.options({ platform: "aws" })))).toMatchObject({
    code: "PREFLIGHT_FAILED",
    message: "Daemon resources are only supported on Local and Kubernetes. Unsupported daemon resources for aws: d",
    context: { report: { ok: false, platform: "aws" } },
  })
  for (const platform of ["aws", "gcp", "azure", "test"]) {
    expect(await failure(alien.plan(small("x"), bed.options({ platform })))).toMatchObject({ code: "PREFLIGHT_FAILED" })
    expect(await failure(alien.connect(bed.options({ platform, name: "x" })))).toMatchObject({
      code: "PLATFORM_NOT_SUPPORTED", message: `Stacks are deployed to Local and Kubernetes only, not to ${platform}`, httpStatusCode: 400,
    })
  }
})

test("bindings and names fail in preflight, before a cluster is looked for", async () => {
  const bucket = new alien.Storage("bucket").build()
  const stack = stackOf("bound", bucket, daemon("d", "ghcr.io/a/b:1").link(bucket))
  const options = bed.options({ platform: "kubernetes", kubernetes: { kubeconfig: "/no/such/kubeconfig" } })
  expect(await failure(alien.deploy(stack, options))).toMatchObject({ code: "PREFLIGHT_FAILED", message: 'the storage "bucket" has no binding: Kubernetes has none of its own' })
  const bindings = { bucket: { type: "kv", service: "redis", connectionUrl: "redis://h" } }
  expect(await failure(alien.plan(stack, { ...options, bindings }))).toMatchObject({ code: "PREFLIGHT_FAILED", message: '"bucket" is a storage, and its binding says kv (redis)' })
  expect(await failure(alien.deploy(stack, bed.options({ bindings })))).toMatchObject({ code: "PREFLIGHT_FAILED", message: expect.stringContaining('"bucket" is bound by Local itself') })
})

test("what is said of the other platform is checked, and does not matter", async () => {
  const kubernetes = {
    kubeconfig: "/a:/b", context: "c", namespace: "n", createNamespace: true, forceConflicts: true, onFailure: "keep",
    registries: { "docker.io": { host: "registry.corp:5000", username: "u", password: "p" }, "ghcr.io": {} }, dockerConfig: "/d",
  }
  expect((await alien.plan(small("both"), bed.options({ kubernetes }))).changes).toHaveLength(1)
})

describe("a process that deploys", () => {
  const work = (load) => `
    ${load}
    const stack = new alien.Stack("script").add(new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(image)} }).command(["/bin/daemon", "ready"]).permissions("p").build(), "live").build()
    alien.deploy(stack, { local: { stateDir: ${JSON.stringify(bed.stateDir)} } }).then(async (deployment) => {
      for await (const line of deployment.logs("d")) void line
      console.log((await deployment.status()).resources[0].state)
    })`

  test.each([
    ["CommonJS", [], `const alien = require("@alienplatform/core")`],
    ["an ES module", ["--input-type=module"], `import * as alien from "@alienplatform/core"`],
  ])("ends by itself: %s", (_, flags, load) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, "-e", work(load)], { cwd: root, encoding: "utf8", timeout: DEADLINE })
    expect({ status, stdout: stdout.trim(), stderr }).toEqual({ status: 0, stdout: "running", stderr: "" })
  })

  test("a worker thread may, and ends too", async () => {
    const code = `
      const { parentPort } = require("node:worker_threads")
      const { createRequire } = require("node:module")
      const alien = createRequire(${JSON.stringify(path.join(root, "x.js"))})("@alienplatform/core")
      const console = { log: (text) => parentPort.postMessage(text) }
      ${work("")}`
    const worker = new Worker(code, { eval: true })
    const said = []
    worker.on("message", (text) => said.push(text))
    const code_ = await new Promise((resolve, reject) => (worker.on("exit", resolve), worker.on("error", reject)))
    expect({ code: code_, said }).toEqual({ code: 0, said: ["running"] })
  })
})
