"use strict"

// The images of a state directory: where they come from, what is listed, and what a prune takes beside running deploys.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, failure, has, needs, stackOf, testBed, tool } = require("./lib/bed.js")
const { missingEngine, testEngine } = require("./lib/engines.js")

const bed = testBed()
let image
beforeAll(async () => {
  image = await bed.image()
})

const mirror = (...urls) => ({ registries: { "registry.test": { mirror: urls } } })
/** An image with a layer of its own above the tests' program. */
const another = (text) => bed.image({ tag: "v1", files: [{ path: "own", data: Buffer.alloc(50_000, text) }], base: true })
const layers = () => fs.readdirSync(path.join(bed.stateDir, "store/layers")).filter((name) => !name.includes("."))

test("what is here needs no registry", async () => {
  const { serveFaulty } = await tool("faulty-registry.mjs")
  const registry = await serveFaulty((await another("offline")).split(":")[1], { blob: () => undefined })
  const stack = stackOf("offline", daemon("d", "registry.test/a:v1", "ready"))
  const events = []
  const first = await bed.deploy(stack, { local: mirror("http://127.0.0.1:9", registry.url), onEvent: (event) => events.push(event) })
  const said = events.filter(({ type, message }) => type === "image" && message !== undefined).map(({ message }) => message)
  expect(said).toEqual([expect.stringMatching(`^asking the mirror ${registry.url} \\(http://127.0.0.1:9: connection refused`)])
  await registry.close()

  const plan = await alien.plan(stack, bed.options({ local: mirror(registry.url) }))
  expect(plan.changes.map(({ action }) => action)).toEqual(["none"])
  await first.destroy()
  const again = await bed.deploy(stack, { local: mirror(registry.url) })
  await again.destroy()
}, 60_000)

test("images are listed with their size and who uses them", async () => {
  const own = await another("listed")
  const deployment = await bed.deploy(stackOf("listed", daemon("a", image, "ready"), daemon("b", own, "ready"), daemon("c", own, "ready")))
  const { images, totalBytes } = await alien.images(bed.options())
  const of = (reference) => images.find(({ references }) => references.includes(reference))
  expect(of(image)).toMatchObject({ digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/), usedBy: [{ deployment: "listed", daemon: "a" }] })
  expect(of(own).usedBy.map(({ daemon }) => daemon)).toEqual(["b", "c"])
  expect(of(own).bytes).toBeGreaterThan(of(image).bytes)
  expect(totalBytes).toBeGreaterThan(of(own).bytes)

  const { code, stdout, stderr } = await bed.cli(["images"])
  expect({ code, head: stdout.split("\n")[0] }).toEqual({ code: 0, head: expect.stringMatching(/^IMAGE +DIGEST +SIZE +USED BY$/) })
  expect(stdout).toMatch(/ [0-9a-f]{12} +\d.* listed\/b, listed\/c$/m)
  expect(stderr).toMatch(/counted once/)
  expect(JSON.parse((await bed.cli(["images", "--json"])).stdout)).toEqual({ images, totalBytes })
  await deployment.destroy()
}, 60_000)

test("a prune takes what no daemon uses, and says before what that is", async () => {
  const used = await another("used")
  const deployment = await bed.deploy(stackOf("kept", daemon("d", used, "ready")))
  const old = path.join(bed.stateDir, "bin", "0123456789abcdef")
  fs.mkdirSync(old)
  fs.writeFileSync(path.join(old, "alien-supervisor"), Buffer.alloc(10_000))
  const top = path.join(bed.stateDir, "deployments/kept/daemons/d/tops/0000000000000000")
  fs.mkdirSync(path.join(top, "upper"), { recursive: true })

  const before = layers()
  const dry = await alien.prune(bed.options({ dryRun: true }))
  expect(dry).toMatchObject({ dryRun: true, tops: 1, helpers: 1 })
  expect(dry.images.length).toBeGreaterThan(0)
  expect(dry.images.flatMap(({ references }) => references)).not.toContain(used)
  expect({ layers: layers(), old: fs.existsSync(old), top: fs.existsSync(top) }).toEqual({ layers: before, old: true, top: true })
  expect((await bed.cli(["prune", "--dry-run"])).stdout).toMatch(/^would remove /)

  const { code, stdout, stderr } = await bed.cli(["prune"])
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^removed /) })
  expect(stderr).toMatch(/^Freed \d.*: .*1 top of a former version, 1 program of another version\.$/m)
  expect({ old: fs.existsSync(old), top: fs.existsSync(top) }).toEqual({ old: false, top: false })
  expect((await alien.images(bed.options())).images.map(({ references }) => references)).toEqual([[used]])
  await deployment.restart("d")
  expect((await bed.one(deployment, "d")).state).toBe("running")
  await deployment.destroy()
  expect(await alien.prune(bed.options())).toMatchObject({ dryRun: false, layers: expect.any(Number), tops: 0, helpers: 0 })
  expect(layers()).toEqual([])
}, 60_000)

test("prunes beside deploys take nothing that these have fetched or run", async () => {
  const images = [await another("one"), await another("two"), await another("three")]
  let going = true
  let pruned = 0
  const pruning = (async () => {
    while (going) pruned += (await alien.prune(bed.options())).images.length
  })()
  // Daemons that stay, and others that come with another image and go, all beside the prunes.
  const come = async (which) => {
    for (let round = 0; round < 5; round++) {
      const comes = await bed.deploy(stackOf(`comes${which}`, daemon("d", images[(round + which) % 3], "ready")))
      expect((await bed.one(comes, "d")).state).toBe("running")
      if (round % 2 === 1) await comes.destroy()
    }
    await (await alien.connect(bed.options({ name: `comes${which}` }))).destroy()
  }
  const stays = await bed.deploy(stackOf("stays", daemon("d", images[0], "ready")))
  try {
    await Promise.all([come(1), come(2)])
  } finally {
    going = false
  }
  await pruning
  expect(pruned).toBeGreaterThan(0)
  await stays.restart("d")
  expect((await bed.one(stays, "d")).state).toBe("running")
  await stays.destroy()
}, 90_000)

test("a prune that cannot tell what is in use takes nothing", async () => {
  const deployment = await bed.deploy(stackOf("odd", daemon("d", image, "ready")))
  const file = path.join(bed.stateDir, "deployments/odd/daemons/d/later.json")
  fs.writeFileSync(file, '{"run":{"image":1}}')
  const before = layers()
  const error = await failure(alien.prune(bed.options()))
  expect(error).toMatchObject({ code: "STATE_DIR_UNUSABLE", message: expect.stringContaining(file) })
  expect(layers()).toEqual(before)
  fs.rmSync(file)
  await deployment.destroy()
}, 30_000)

test("a store has a limit where it is given one", async () => {
  const stack = stackOf("large", daemon("d", await another("limit"), "ready"))
  expect(await failure(bed.deploy(stack, { local: { storeMaxBytes: "1Ki" } }))).toMatchObject({ code: "STORE_OVER_LIMIT", context: { limitBytes: 1024 } })
  const { code, stderr } = await bed.cli(["images", "--store-limit", "many"])
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining("storeMaxBytes") })
}, 30_000)

needs(has("skopeo") ? undefined : "skopeo is not installed (apt-get install skopeo)").test("an archive of docker save is deployed, and known again", async () => {
  const file = path.join(bed.folder, "saved.tar")
  execFileSync("skopeo", ["copy", "--quiet", "--insecure-policy", image, `docker-archive:${file}:acme/app:1`])
  const stack = stackOf("saved", daemon("d", `docker-archive:${file}:acme/app:1`, "ready"))
  const deployment = await bed.deploy(stack)
  expect((await bed.one(deployment, "d")).state).toBe("running")
  expect((await alien.plan(stack, bed.options())).changes.map(({ action }) => action)).toEqual(["none"])
  await deployment.destroy()
  const away = { local: { dockerHost: `unix://${path.join(bed.folder, "none.sock")}` } }
  const error = await failure(bed.deploy(stackOf("away", daemon("d", "docker-daemon:acme/app:1")), away))
  expect(error).toMatchObject({ code: "DOCKER_UNREACHABLE", hint: expect.stringContaining("systemctl start docker") })
}, 60_000)

needs(missingEngine("docker", { containerdStore: true })).describe("an engine with containerd's store of images", () => {
  const engine = testEngine("docker", bed, { containerdStore: true })
  const NAME = "acme/app:1"
  const OTHER = "acme/other:1"
  const [own, foreign] = process.arch === "x64" ? ["amd64", "arm64"] : ["arm64", "amd64"]

  /** Loads an image of three platforms into the engine, of which one is all that is there, with what attests how it was built. */
  async function load(name, architecture) {
    const { Layout } = await tool("oci.mjs")
    const dir = (await bed.image({ platform: { architecture } })).split(":")[1]
    const layout = new Layout(dir)
    const [here] = JSON.parse(fs.readFileSync(path.join(dir, "index.json"), "utf8")).manifests
    const json = (value, type) => layout.blob(Buffer.from(JSON.stringify(value)), type)
    const statement = json({ _type: "https://in-toto.io/Statement/v0.1" }, "application/vnd.in-toto+json")
    const nothing = json({ architecture: "unknown", os: "unknown", config: {}, rootfs: { type: "layers", diff_ids: [statement.digest] } }, "application/vnd.oci.image.config.v1+json")
    const attestation = json({ schemaVersion: 2, mediaType: here.mediaType, config: nothing, layers: [statement] }, here.mediaType)
    const attests = { "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": here.digest }
    const absent = (architecture, digit) => ({ mediaType: here.mediaType, digest: `sha256:${digit.repeat(64)}`, size: 500, platform: { architecture, os: "linux" } })
    const manifests = [
      absent("s390x", "1"),
      { ...here, annotations: undefined, platform: { architecture, os: "linux" } },
      absent("riscv64", "2"),
      { ...attestation, annotations: attests, platform: { architecture: "unknown", os: "unknown" } },
    ]
    const type = "application/vnd.oci.image.index.v1+json"
    const index = json({ schemaVersion: 2, mediaType: type, manifests }, type)
    const named = { "io.containerd.image.name": `docker.io/${name}`, "org.opencontainers.image.ref.name": "1" }
    fs.writeFileSync(path.join(dir, "index.json"), JSON.stringify({ schemaVersion: 2, mediaType: type, manifests: [{ ...index, annotations: named }] }))
    const file = path.join(bed.folder, "stored.tar")
    execFileSync("tar", ["--create", "--file", file, "--directory", dir, "blobs", "index.json", "oci-layout"])
    engine.run("load", "--input", file)
    return index.digest
  }

  test("gives what is there of an image of several platforms, which is known again", async () => {
    const digest = await load(NAME, own)
    expect(engine.run("inspect", "--format={{.Id}}", NAME)).toBe(digest)
    const local = { dockerHost: engine.host }
    const stack = stackOf("stored", daemon("d", `docker-daemon:${NAME}`, "ready"))
    const actions = async (more) => (await alien.plan(stack, bed.options({ local: { ...local, ...more } }))).changes.map(({ action }) => action)
    const deployment = await bed.deploy(stack, { local })
    const before = await bed.one(deployment, "d")
    expect(before).toMatchObject({ state: "running", digest })
    expect(await actions()).toEqual(["none"])
    await bed.deploy(stack, { local })
    expect(await bed.one(deployment, "d")).toEqual(before)
    await deployment.destroy()

    // The same, saved, is what an archive of it has always been.
    const file = path.join(bed.folder, "saved-there.tar")
    engine.run("save", "--output", file, NAME)
    const saved = await bed.deploy(stackOf("archived", daemon("d", `docker-archive:${file}:${NAME}`, "ready")))
    expect(await bed.one(saved, "d")).toMatchObject({ state: "running" })
    await saved.destroy()

    // Under that engine itself it becomes one of ours, which goes with the daemon.
    const under = { runtime: "engine", ...local }
    const there = await alien.deploy(stack, bed.options({ local: under }))
    expect((await there.status()).resources).toMatchObject([{ state: "running", digest }])
    expect(await actions(under)).toEqual(["none"])
    await there.destroy()
    expect(engine.run("images", "--all", "--format={{.Repository}}:{{.Tag}}")).toBe(NAME)
  }, 60_000)

  test("has nothing to give of one that it has for other machines alone", async () => {
    await load(OTHER, foreign)
    const error = await failure(bed.deploy(stackOf("foreign", daemon("d", `docker-daemon:${OTHER}`)), { local: { dockerHost: engine.host } }))
    expect(error).toMatchObject({ code: "IMAGE_NOT_FOUND", message: expect.stringContaining(`the Docker engine at ${engine.host} does not have all of it for this machine`) })
    engine.run("rmi", OTHER)
  }, 60_000)
})
