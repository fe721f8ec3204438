"use strict"

// What goes wrong, in words for a person: code and message, exit code 1, nothing half-done, and the former version of the
// daemon still running.

const { spawnSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, isRoot, needs, root, stackOf, testBed, tool, where } = require("./lib/bed.js")
const { freePort, missing, startRegistry } = require("./lib/registry.js")

const bed = testBed()
let image
let deployment
let pid

beforeAll(async () => {
  image = await bed.image()
  // What runs before every fault, and has to run after it.
  deployment = await bed.deploy(stackOf("steady", daemon("d", image, "ready")))
  pid = (await bed.one(deployment, "d")).pid
})

afterEach(async () => {
  expect(await bed.one(deployment, "d")).toMatchObject({ state: "running", pid, restarts: 0 })
  expect((await alien.plan(stackOf("steady", daemon("d", image, "ready")), bed.options())).changes[0].action).toBe("none")
  // Nothing half-made: no partial layer, no aside folder, no update that waits.
  const dir = path.join(bed.stateDir, "deployments/steady/daemons/d")
  expect(fs.readdirSync(dir).filter((name) => /next|tmp|partial/.test(name))).toEqual([])
  expect(fs.readdirSync(path.join(bed.stateDir, "deployments/steady/daemons"))).toEqual(["d"])
})

/** Deploys another image over the daemon that runs; gives the error, and checks that a first deploy of it fails alike. */
async function refused(reference, local = {}) {
  const error = await failure(alien.deploy(stackOf("steady", daemon("d", reference, "ready")), bed.options({ local })))
  expect(error).toBeInstanceOf(alien.AlienError)
  const first = await failure(alien.deploy(stackOf("fresh", daemon("d", reference, "ready")), bed.options({ local })))
  expect(first.code).toBe(error.code)
  const daemons = path.join(bed.stateDir, "deployments/fresh/daemons")
  expect(fs.existsSync(daemons) ? fs.readdirSync(daemons) : []).toEqual([])
  return error
}

/** The same by the command: exit code 1, the message on stderr, nothing on stdout. */
async function refusedByCli(reference, args, env = {}) {
  const file = path.join(bed.folder, `alien-${process.hrtime.bigint()}.js`)
  fs.writeFileSync(file, `
    const alien = require("@alienplatform/core")
    module.exports = { default: new alien.Stack("steady").add(new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(reference)} })
      .command(["/bin/daemon", "ready"]).permissions("execution").build(), "live").build() }`)
  const { code, stdout, stderr } = await bed.cli(["deploy", "--file", file, ...args], { env })
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
  return stderr
}

const mirror = (url) => ({ registries: { "registry.test": { mirror: url } } })

describe("a registry", () => {
  needs(missing()).describe("that is real", () => {
    let url
    let registry

    beforeAll(async () => {
      registry = await startRegistry(bed, { username: "ann", password: "right" })
      url = registry.url
      registry.push(image, "team/app:1")
    }, 30_000)

    // A credential goes to the host that it is for: here that is the mirror, not the registry it stands in for.
    const withLogin = (password) => ({ registries: { "registry.test": { mirror: url }, [new URL(url).host]: { username: "ann", password } } })

    test("gives the image to who may have it", async () => {
      const there = await bed.deploy(stackOf("pulled", daemon("d", "registry.test/team/app:1", "ready")), { local: withLogin("right") })
      expect(await bed.one(there, "d")).toMatchObject({ state: "running", image: "registry.test/team/app:1" })
      expect((await alien.plan(stackOf("pulled", daemon("d", "registry.test/team/app:1", "ready")), bed.options({ local: withLogin("right") }))).changes[0].action).toBe("none")
      await there.destroy()
    })

    test("that does not know the tag", async () => {
      const error = await refused("registry.test/team/app:2", withLogin("right"))
      expect(error).toMatchObject({ code: "IMAGE_NOT_FOUND", httpStatusCode: 404, context: { registry: "registry.test", repository: "team/app", tag: "2", daemon: "d" } })
      expect(error.message).toMatch(/registry\.test.*team\/app.*2.*404/s)
    })

    test("that does not know the caller", async () => {
      const nobody = await refused("registry.test/team/app:1", mirror(url))
      expect(nobody).toMatchObject({ code: "IMAGE_UNAUTHORIZED", context: { registry: "registry.test", repository: "team/app", tag: "1", status: 401 } })
      expect(nobody.message).toContain("no credentials are known")
      const wrong = await refused("registry.test/team/app:1", withLogin("wrong-word"))
      expect(wrong).toMatchObject({ code: "IMAGE_UNAUTHORIZED" })
      expect(JSON.stringify(wrong) + wrong.stack).not.toContain("wrong-word")
    })

    test("is asked with the credentials of the Docker configuration", async () => {
      const reference = `${registry.host}/team/app:1`
      const there = await bed.deploy(stackOf("config", daemon("d", reference, "ready")), { local: { dockerConfig: registry.dockerConfig() } })
      expect((await bed.one(there, "d")).state).toBe("running")
      await there.destroy()
    })

    test("by the command: exit code 1 and the same words", async () => {
      expect(await refusedByCli("registry.test/team/app:2", ["--mirror", `registry.test=${url}`])).toMatch(/^error: the image registry\.test\/team\/app:2 .* 401.*\nhint: /m)
    })
  })

  test("that is down", async () => {
    const url = `http://127.0.0.1:${await freePort()}`
    const error = await refused("registry.test/team/app:1", mirror(url))
    expect(error).toMatchObject({ code: "REGISTRY_UNREACHABLE", retryable: true, httpStatusCode: 503 })
    expect(error.message).toContain(url)
    expect(error.message).toMatch(/refused/)
    expect(await refusedByCli("registry.test/team/app:1", ["--mirror", `registry.test=${url}`])).toContain("error: the registry cannot be reached")
  }, 30_000)

  describe("that cuts, corrupts or loses a layer", () => {
    let layout
    let serveFaulty
    let count = 0
    /** A name of its own for each test: what a tag means is remembered. */
    const name = () => `registry.test/a${count}:v1`

    beforeAll(async () => {
      ;({ serveFaulty } = await tool("faulty-registry.mjs"))
    })

    /** Each test needs layers that the store has not seen. */
    beforeEach(async () => {
      const files = [{ path: "big", data: Buffer.alloc(300_000, `${++count}`) }]
      layout = (await bed.image({ tag: "v1", files, base: true })).split(":")[1]
    })

    async function faulty(blob) {
      const registry = await serveFaulty(layout, { blob })
      bed.later(registry.close)
      return registry
    }

    test("a few times: goes on from where it was", async () => {
      const registry = await faulty(({ number }) => (number <= 3 ? "cut" : undefined))
      const there = await bed.deploy(stackOf("resumed", daemon("d", name(), "ready")), { local: mirror(registry.url) })
      expect((await bed.one(there, "d")).state).toBe("running")
      expect(registry.requests.some(({ range }) => range !== undefined)).toBe(true)
      await there.destroy()
    }, 30_000)

    test("always: gives up, and says so", async () => {
      const registry = await faulty(() => "cut")
      const error = await refused(name(), mirror(registry.url))
      expect(error).toMatchObject({ code: "REGISTRY_UNREACHABLE", retryable: true })
    }, 60_000)

    test("whose digest is wrong", async () => {
      const registry = await faulty(() => "corrupt")
      const error = await refused(name(), mirror(registry.url))
      expect(error.code).toBe("IMAGE_CORRUPT")
      expect(error.message).toMatch(/sha256:/)
      // The right bytes are taken afterwards: nothing of the wrong ones was kept.
      const good = await faulty()
      const there = await bed.deploy(stackOf("mended", daemon("d", name(), "ready")), { local: mirror(good.url) })
      await there.destroy()
    }, 60_000)

    test("that it does not have any more", async () => {
      const registry = await faulty(() => 404)
      expect(await refused(name(), mirror(registry.url))).toMatchObject({ code: "IMAGE_NOT_FOUND" })
    })
  })
})

describe("an image", () => {
  test.each([
    ["whose entry point is missing", ["/bin/nothing"], "ENTRYPOINT_MISSING", "/bin/nothing"],
    ["whose entry point is not in its PATH", ["nothing"], "ENTRYPOINT_MISSING", "nothing"],
    ["whose entry point is not executable", ["/etc/image"], "ENTRYPOINT_NOT_EXECUTABLE", "/etc/image"],
    ["whose entry point is a folder", ["/etc"], "ENTRYPOINT_NOT_EXECUTABLE", "/etc"],
    ["without any program", [], "ENTRYPOINT_MISSING", "neither an entry point nor a command"],
    ["whose user is not in it", ["/bin/daemon"], "IMAGE_USER_UNKNOWN", "nobody-here", { User: "nobody-here" }],
    ["whose script's interpreter is missing", ["/bin/script"], "EXEC_FAILED", "/bin/script", {}, [{ path: "bin/script", data: "#!/bin/no-such\n", mode: 0o755 }]],
    ["whose program is none", ["/bin/text"], "EXEC_FAILED", "/bin/text", {}, [{ path: "bin/text", data: "\0no program", mode: 0o755 }]],
  ])("%s", async (_, entrypoint, code, words, config = {}, files = []) => {
    const reference = await bed.image({ config: { Entrypoint: entrypoint, ...config }, files })
    const stack = (name) => stackOf(name, daemon("d", reference))
    const error = await failure(alien.deploy(stack("steady"), bed.options()))
    const first = await failure(alien.deploy(stack("fresh"), bed.options()))
    expect(first.code).toBe(code)
    expect(first.message).toContain(words)
    expect(first.hint).toEqual(expect.any(String))
    expect(first.context).toMatchObject({ daemon: "d", image: reference })
    // What cannot be known before it is executed is a version that did not stay up.
    expect([code, "UPDATE_ROLLED_BACK"]).toContain(error.code)
    expect(error.message).toContain(words)
    if (error.code === "UPDATE_ROLLED_BACK") {
      await eventually(() => bed.one(deployment, "d"), ({ state }) => state === "running")
      await deployment.destroy()
      deployment = await bed.deploy(stackOf("steady", daemon("d", image, "ready")))
      pid = (await bed.one(deployment, "d")).pid
    }
  })

  test("for another architecture only", async () => {
    const error = await refused(await bed.image({ platform: { architecture: "s390x" } }))
    expect(error).toMatchObject({ code: "IMAGE_PLATFORM_MISMATCH" })
    expect(error.message).toMatch(/linux\/amd64.*linux\/s390x/s)
  })

  test("that is not in its folder", async () => {
    expect(await refused(`oci:${path.join(bed.folder, "nowhere")}:1`)).toMatchObject({ code: "IMAGE_NOT_FOUND" })
    expect(await refused(image.replace(/:1$/, ":2"))).toMatchObject({ code: "IMAGE_NOT_FOUND" })
  })

  test("that reaches out of its root", async () => {
    const reference = await bed.image({ files: [{ path: "../../escaped", data: "x" }] })
    expect(await refused(reference)).toMatchObject({ code: "IMAGE_UNSAFE" })
    expect(fs.existsSync(path.join(bed.stateDir, "escaped"))).toBe(false)
  })
})

describe("a program that ends at once", () => {
  test("and is deployed again unmended: is tried again", async () => {
    const stack = stackOf("unmended", daemon("d", image, "count", "upto=3:1", "print=better", "ready"))
    expect(await failure(alien.deploy(stack, bed.options()))).toMatchObject({ code: "DAEMON_NOT_UP" })
    const plan = await alien.plan(stack, bed.options())
    expect(["restart", "none"]).toContain(plan.changes[0].action)
    const there = await alien.connect(bed.options({ name: "unmended" }))
    await eventually(() => bed.one(there, "d"), ({ state }) => state === "running")
    expect((await allLines(there, "d")).at(-1).line).toBe("better")
    await there.destroy()
  })
})

describe("the state directory", () => {
  test("below a file", async () => {
    const file = path.join(bed.folder, "file")
    fs.writeFileSync(file, "")
    const error = await failure(alien.deploy(stackOf("x", daemon("d", image, "ready")), { local: { stateDir: path.join(file, "state") } }))
    expect(error.code).toBe("PREFLIGHT_FAILED")
    expect(error.message).toContain(file)
    expect(error.hint).toContain("ALIEN_STATE_DIR")
  })

  where(!isRoot).test("that may not be written", async () => {
    const dir = path.join(bed.folder, "read-only")
    fs.mkdirSync(dir, { mode: 0o555 })
    const error = await failure(alien.deploy(stackOf("x", daemon("d", image, "ready")), { local: { stateDir: path.join(dir, "state") } }))
    expect(error.message).toContain(path.join(dir, "state"))
    expect(error.hint).toContain("ALIEN_STATE_DIR")
  })

  const alone = spawnSync("unshare", isRoot ? ["-m", "true"] : ["-Urm", "true"]).status === 0
  needs(!alone && "this machine allows no mount namespaces (unshare)").test("that is full: nothing half-made is used, and with space again it works", async () => {
    // In a mount namespace of its own, so that the small tmpfs is nobody else's. What is deployed there ends with it.
    const big = await bed.image({ files: [{ path: "big", data: Buffer.alloc(24 << 20, "x") }] })
    const script = path.join(bed.folder, "full.sh")
    const stateDir = path.join(bed.folder, "small")
    fs.mkdirSync(stateDir)
    const program = (reference) => `
      const alien = require("@alienplatform/core")
      const stack = new alien.Stack("x").add(new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(reference)} }).command(["/bin/daemon", "ready"]).permissions("p").build(), "live").build()
      alien.deploy(stack, { local: { stateDir: ${JSON.stringify(stateDir)} } }).then((d) => d.status()).then((s) => console.log(s.resources[0].state, s.resources[0].pid), (e) => console.log(e.code, e.message, e.hint))`
    const destroy = `require("@alienplatform/core").connect({ name: "x", local: { stateDir: ${JSON.stringify(stateDir)} } }).then((d) => d.destroy()).then(() => console.log("destroyed"), (e) => console.log(e))`
    let files = 0
    const run = (code) => {
      const file = path.join(bed.folder, `full-${++files}.js`)
      fs.writeFileSync(file, code.replace("@alienplatform/core", root))
      return `${process.execPath} ${file}`
    }
    fs.writeFileSync(script, [
      "set -e",
      `mount -t tmpfs -o size=16m tmpfs ${stateDir}`,
      run(program(image)), run(program(big)), run(program(big)), run(program(image)),
      // Without what mount finds in the table: the owner there is one of another user namespace.
      `mount --options-mode=ignore -t tmpfs -o remount,size=96m tmpfs ${stateDir}`,
      run(program(big)), run(destroy),
      `ls ${stateDir}/deployments`,
    ].join("\n"))
    const { stdout, stderr } = spawnSync("unshare", [...(isRoot ? ["-m"] : ["-Urm"]), "sh", script], { cwd: root, encoding: "utf8", timeout: 40_000 })
    expect(stderr).toBe("")
    const [first, full, again, same, roomy, ...end] = stdout.trim().split("\n")
    expect(first).toMatch(/^running \d+$/)
    expect(full).toMatch(/^STORE_FULL the image store is full: .*small.* free space/)
    expect(again).toMatch(/^STORE_FULL/)
    expect(same).toBe(first)
    expect(roomy).toMatch(/^running \d+$/)
    expect(end).toEqual(["destroyed"])
  }, 60_000)
})
