"use strict"

const alien = require("@alienplatform/core")
const { preflight } = alien

const daemon = (id) => new alien.Daemon(id).code({ type: "image", image: "i" }).permissions("p")
const stack = new alien.Stack("s").add(daemon("a").build(), "live").add(daemon("b").build(), "live").build()
const check = (report, id) => report.checks.find((one) => one.id === id)

test.each(["aws", "gcp", "azure"])("%s is refused in the documented words", async (platform) => {
  const report = await preflight(stack, { platform })
  expect(report).toMatchObject({ platform, ok: false })
  expect(check(report, "platform-supported")).toMatchObject({
    status: "failed",
    issues: [{ message: `Daemon resources are only supported on Local and Kubernetes. Unsupported daemon resources for ${platform}: a, b` }],
  })
})

test("where a stack can run, every check passes or is skipped", async () => {
  for (const platform of ["local", "kubernetes"]) {
    const report = await preflight(stack, { platform })
    expect(report.ok).toBe(true)
    expect(report.checks.filter(({ status }) => status !== "passed" && status !== "skipped")).toStrictEqual([])
  }
})

test("a binding that is given counts, and has to be one for what it is given for", async () => {
  const bucket = new alien.Storage("bucket").build()
  const linked = new alien.Stack("s").add(bucket, "frozen").add(daemon("d").link(bucket).build(), "live").build()
  const missing = await preflight(linked, { platform: "kubernetes" })
  expect(missing.ok).toBe(false)
  expect(check(missing, "links-can-be-bound")).toMatchObject({ status: "failed", issues: [{ message: 'the storage "bucket" has no binding: Kubernetes has none of its own' }] })
  const s3 = { type: "storage", service: "s3", bucketName: { secretRef: { name: "buckets", key: "one" } } }
  expect((await preflight(linked, { platform: "kubernetes", bindings: { bucket: s3 } })).ok).toBe(true)
  const wrong = { bucket: { type: "queue", service: "sqs", queueUrl: "u" }, d: s3, buckte: s3 }
  expect(check(await preflight(linked, { platform: "kubernetes", bindings: wrong }), "bindings-are-used").issues.map(({ path, message }) => [path, message])).toEqual([
    [["bindings", "bucket"], '"bucket" is a storage, and its binding says queue (sqs)'],
    [["bindings", "buckte"], 'no resource "buckte" is in the stack; did you mean "bucket"?'],
    [["bindings", "d"], '"d" is a daemon, which takes no binding'],
  ])
  expect(check(await preflight(linked, { platform: "local", bindings: { bucket: s3 } }), "bindings-are-used").issues).toMatchObject([{ message: expect.stringContaining("bound by Local itself") }])
})

test("every problem of the bindings is told at once, and no value is", async () => {
  const bindings = {
    a: { type: "storage", service: "s33", bucketName: "x" },
    b: { type: "kv", service: "redis", connectionURL: "redis://:hush@h", database: "0" },
    c: { type: "vault", service: "key-vault", vaultName: { secretRef: { name: "S", key: "k" } } },
  }
  const error = await preflight(stack, { platform: "kubernetes", bindings }).catch((thrown) => thrown)
  expect(error).toBeInstanceOf(alien.ValidationError)
  expect(error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`)).toEqual([
    'bindings.a.service: expected "s3", "blob" or "gcs", received "s33"; did you mean "s3"?',
    'bindings.b: unrecognized key "connectionURL"; did you mean "connectionUrl"?',
    "bindings.b.connectionUrl: required, but not given",
    "bindings.b.database: expected number, received string",
    expect.stringMatching(/^bindings\.c\.vaultName\.secretRef\.name: expected the name of a Secret, .* received "S"$/),
  ])
  expect(JSON.stringify(error)).not.toContain("hush")
})

test.each([
  ["an unbuilt stack", () => preflight(new alien.Stack("s"), { platform: "local" }), "Stack is invalid (1 problem):\n  expected a built stack, received a Stack that was not built (call .build() on it)"],
  ["no stack", () => preflight(undefined, { platform: "local" }), "Stack is invalid (1 problem):\n  expected object, received undefined"],
  ["no options", () => preflight(stack), "The options object is invalid (1 problem):\n  expected object, received undefined"],
  ["no platform", () => preflight(stack, {}), 'The options object is invalid (1 problem):\n  platform: expected "aws", "gcp", "azure", "kubernetes", "local" or "test", received undefined'],
  ["a misspelt option", () => preflight(stack, { platform: "local", bindngs: {} }), 'The options object is invalid (1 problem):\n  unrecognized key "bindngs"; did you mean "bindings"?'],
  ["a misspelt platform", () => preflight(stack, { platform: "locla" }), 'The options object is invalid (1 problem):\n  platform: expected "aws", "gcp", "azure", "kubernetes", "local" or "test", received "locla"; did you mean "local"?'],
  ["bindings of another type", () => preflight(stack, { platform: "local", bindings: 1 }), "The options object is invalid (1 problem):\n  bindings: expected object, received number"],
])("%s is a ValidationError", async (_, work, message) => {
  const error = await work().catch((thrown) => thrown)
  expect(error).toBeInstanceOf(alien.ValidationError)
  expect(error.message).toBe(message)
})

test("a stack from elsewhere is held to the same rules, with the path of each problem", async () => {
  const text = JSON.stringify(stack).replace('"commandsEnabled":false', '"commandsEnabled":1').replace('"b":{"config"', '"c":{"config"')
  const error = await preflight(JSON.parse(text), { platform: "local" }).catch((thrown) => thrown)
  expect(error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`)).toEqual([
    'resources.c.config.id: is "b", but the stack holds it as "c"',
    "resources.a.config.commandsEnabled: expected boolean, received number",
  ])
})

test("the options of a deploy are taken as they are", async () => {
  const options = { platform: "local", name: "n", timeoutMs: 1, onEvent() {}, secrets: { a: { B: "c" } }, local: {}, kubernetes: {} }
  expect((await preflight(stack, options)).ok).toBe(true)
})

test("a signal that was aborted is heard", async () => {
  const reason = new Error("enough")
  await expect(preflight(stack, { platform: "local", signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
})
