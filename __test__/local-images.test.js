"use strict"

// The images of a state directory: where they come from, what is listed, and what a prune takes beside running deploys.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, failure, has, needs, stackOf, testBed, tool } = require("./lib/bed.js")

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
