"use strict"

// What is only true of daemons under a container engine: whose containers are whose, and what becomes of them when a deploy
// or the engine is killed.

const { spawn } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { authority, missing: noOpenssl } = require("./lib/authority.js")
const { allLines, daemon, eventually, failure, isAlive, needs, processesWith, root, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { missingEngine, testEngine } = require("./lib/engines.js")
const { missing: noManager, testManager } = require("./lib/manager.js")

jest.setTimeout(60_000)

/** An engine has the images of what runs and of what may come back, and not one more. */
async function imagesComeAndGo(bed, engine) {
  const options = bed.options({ local: { runtime: "engine", dockerHost: engine.host } })
  const [one, two, three, four] = await Promise.all(["one", "two", "three", "four"].map((data) => bed.image({ files: [{ path: "own", data }] })))
  const build = (image, ...steps) => stackOf("comes", daemon("d", image, "print=I am comes", "catch", ...steps))
  const deploy = (...what) => alien.deploy(build(...what), options)
  const actions = async (...what) => (await alien.plan(build(...what), options)).changes.map(({ action }) => action)
  const copies = () => processesWith("I am comes").filter(({ command }) => command.startsWith("/bin/daemon ")).map(({ pid }) => pid)
  // Also those without a name.
  const held = () => engine.run("images", "--all", "--format={{.Repository}}:{{.Tag}}").split("\n").filter(Boolean).sort()
  const named = (...digests) => digests.map((digest) => `localhost/alien:${digest.slice("sha256:".length)}`).sort()
  const digest = async () => (await deployment.status()).resources[0].digest

  const deployment = await deploy(one)
  const first = await digest()
  expect(held()).toEqual(named(first))
  const before = copies()
  expect(await actions(one)).toEqual(["none"])
  await deploy(one)
  expect(copies()).toEqual(before)

  await deploy(two)
  const second = await digest()
  expect(held()).toEqual(named(first, second))
  await deployment.rollback("d")
  expect([await digest(), held()]).toEqual([first, named(first, second)])
  expect((await deployment.exec("d", ["/bin/daemon", "read=/own", "exit=0"])).stdout).toBe("read /own: one\n")
  await deploy(three)
  expect(held()).toEqual(named(first, await digest()))
  expect(await failure(deploy(four, "exit=1"))).toMatchObject({ code: "UPDATE_ROLLED_BACK" })
  expect(held()).toEqual(named(first, await digest()))
  expect(await actions(three)).toEqual(["none"])
  await deployment.destroy()
  expect([held(), copies()]).toEqual([[], []])
}

/** Everything that is asked of an engine, once, where how it is asked is what matters. */
async function livesThere(bed, engine) {
  const options = bed.options({ local: { runtime: "engine", dockerHost: engine.address } })
  const image = await bed.image()
  const build = (level) => stackOf("ported", daemon("d", image, "print=I am ported", `print=level ${level}`, "catch", "sleep"))
  const deployment = await alien.deploy(build("one"), options)
  expect((await deployment.status()).resources).toMatchObject([{ id: "d", state: "running" }])
  const stdin = "0123456789abcdef\n".repeat(100_000)
  const beside = await deployment.exec("d", ["/bin/daemon", "cat", "err=beside", "exit=3"], { stdin })
  expect([beside.code, beside.stdout === stdin, beside.stderr]).toEqual([3, true, "beside\n"])
  expect((await deployment.exec("d", ["/bin/daemon", "tty", "exit=0"], { tty: true, size: { columns: 101, rows: 33 } })).stdout).toBe("tty 101x33\r\n")
  const following = until(deployment, "d", /^level two$/)
  await alien.deploy(build("two"), options)
  expect((await following).filter((line) => line.startsWith("level"))).toEqual(["level one", "level two"])
  const [{ pid }] = processesWith("I am ported").filter(({ command }) => command.startsWith("/bin/daemon "))
  process.kill(pid, "SIGKILL")
  const status = async () => (await deployment.status()).resources[0]
  expect(await eventually(status, ({ restarts, lastExit }) => restarts > 0 && lastExit !== undefined)).toMatchObject({ lastExit: { signal: "SIGKILL", oom: false } })
  await deployment.destroy()
  expect(processesWith("I am ported")).toEqual([])
}

describe.each(["docker", "podman"])("%s", (name) => {
  needs(missingEngine(name)).describe("as an engine", () => {
    const bed = testBed()
    const engine = testEngine(name, bed)
    let image
    beforeAll(async () => {
      image = await bed.image()
    })
    const options = (more = {}) => bed.options({ ...more, local: { runtime: "engine", dockerHost: engine.host, ...more.local } })
    const deploy = (stack, more) => alien.deploy(stack, options(more))
    const containers = (...filters) => engine.run("ps", "--all", "--no-trunc", "--format={{.ID}} {{.Names}}", ...filters).split("\n").filter(Boolean).map((line) => line.split(" "))
    const of = (deployment, id = "d") => containers(`--filter=label=alien.dev/deployment=${deployment}`, `--filter=label=alien.dev/daemon=${id}`)
    const copies = (text) => processesWith(text).filter(({ command }) => command.startsWith("/bin/daemon "))
    const status = async (deployment, id = "d") => (await deployment.status()).resources.find((resource) => resource.id === id)
    const stack = (id, ...steps) => stackOf(id, daemon("d", image, `print=I am ${id}`, "catch", ...steps))

    test("preflight says which runtime it is, and why", async () => {
      const told = []
      await alien.plan(stack("told"), options({ onEvent: (event) => told.push(event) }))
      const check = told[0].report.checks.find(({ id }) => id === "local-runtime")
      const words = name === "docker" ? /^Daemons run under Docker \d/ : /^Daemons run under Podman \d/
      expect(check).toMatchObject({ status: "passed", description: expect.stringMatching(words) })
      expect(check.description).toContain(`at ${engine.host}: runtime "engine" was asked for`)
    })

    test("a second deploy adopts the container; so does one that says nothing of the runtime", async () => {
      const deployment = await deploy(stack("adopted"))
      const [[id]] = of("adopted")
      await deploy(stack("adopted"))
      await alien.deploy(stack("adopted"), bed.options())
      expect(of("adopted")).toEqual([[id, expect.any(String)]])
      expect(copies("I am adopted")).toHaveLength(1)
      const error = await failure(deploy(stack("adopted"), { local: { runtime: "process" } }))
      expect(error).toMatchObject({ code: "PREFLIGHT_FAILED", hint: expect.stringContaining("destroy it first") })
      expect(error.message).toBe('deployment "adopted" runs under a container engine, and runtime "process" was asked for')
      // Found by its record alone.
      const found = await alien.connect(bed.options({ name: "adopted" }))
      expect(await status(found)).toMatchObject({ state: "running" })
      await deployment.destroy()
      expect(of("adopted")).toEqual([])
      expect(engine.run("images", "--format={{.Repository}}").split("\n").filter((line) => line === "localhost/alien")).toEqual([])
    })

    test("a program that is killed is started again by the engine, with nothing of ours there", async () => {
      const deployment = await deploy(stack("revived"))
      const [{ pid }] = copies("I am revived")
      process.kill(pid, "SIGKILL")
      const again = await eventually(() => copies("I am revived"), (now) => now.length === 1 && now[0].pid !== pid)
      expect(again[0].pid).not.toBe(pid)
      expect(bed.helpers()).toEqual([])
      const { restarts, lastExit } = await eventually(() => status(deployment), ({ restarts, lastExit }) => restarts > 0 && lastExit !== undefined)
      expect({ restarts, lastExit }).toMatchObject({ restarts: 1, lastExit: { signal: "SIGKILL", oom: false } })
      await deployment.destroy()
    })

    test("an image's volume is filled from it, outlives updates, and is removed with the data", async () => {
      const volumes = await bed.image({ config: { Volumes: { "/var/lib/app": {} } }, files: [{ path: "var/lib/app/", type: "dir" }, { path: "var/lib/app/first", data: "from the image" }] })
      const build = (level) => stackOf("kept", daemon("d", volumes, "print=I am kept", "catch", "sleep").environment({ LEVEL: level }))
      const deployment = await deploy(build("one"))
      const look = async (...steps) => (await deployment.exec("d", ["/bin/daemon", ...steps, "exit=0"])).stdout.trim()
      expect(await look("read=/var/lib/app/first")).toBe("read /var/lib/app/first: from the image")
      await look("write=/var/lib/app/second:mine")
      await deploy(build("two"))
      expect(await look("list=/var/lib/app")).toBe("list /var/lib/app: first second")
      await deployment.destroy({ data: true })
      expect(fs.existsSync(path.join(bed.stateDir, "data", "kept"))).toBe(false)
      expect(engine.run("volume", "ls", "--quiet")).toBe("")
    })

    test("a vault is open to the program alone where that is root, and to all where only the engine knows who it is", async () => {
      const safe = new alien.Vault("safe").build()
      const set = (value) => bed.cli(["vault", "set", "safe", "key", "-n", "hoards", "--from-env", "VALUE"], { env: { VALUE: value } })
      const file = path.join(bed.stateDir, "data/hoards/safe/key")
      const modes = () => [path.dirname(file), file].map((path) => (fs.statSync(path).mode & 0o777).toString(8))
      const put = async (used) => deploy(stackOf("hoards", safe, daemon("d", used, "print=I am hoards", "catch", "sleep").link(safe)))
      expect((await set("one")).code).toBe(0)
      const deployment = await put(image)
      const look = async () => (await deployment.exec("d", ["/bin/daemon", "read=/run/alien/safe/key", "exit=0"])).stdout.trim()
      expect([await look(), modes()]).toEqual(["read /run/alien/safe/key: one", ["700", "600"]])
      await put(await bed.image({ config: { User: "app" } }))
      expect([await look(), modes()]).toEqual(["read /run/alien/safe/key: one", ["777", "644"]])
      await set("two")
      expect([await look(), modes()]).toEqual(["read /run/alien/safe/key: two", ["777", "644"]])
      await deployment.destroy({ data: true })
    })

    test("it has the images of versions that run or may come back, and no others", () => imagesComeAndGo(bed, engine), 120_000)

    test("two state directories on one engine leave each other alone, and others' containers too", async () => {
      const other = path.join(bed.folder, `other-${name}`)
      const mine = await deploy(stack("twin"))
      const theirs = await deploy(stack("twin"), { local: { stateDir: other } })
      expect(of("twin")).toHaveLength(2)
      engine.run("tag", engine.run("inspect", "--format={{.Image}}", of("twin")[0][0]), "localhost/foreign:1")
      const foreign = engine.run("run", "--detach", "--network=host", "--label=alien.dev/deployment=twin", "--label=alien.dev/daemon=d", "--name=foreign", "localhost/foreign:1", "catch", "sleep")
      await mine.destroy()
      expect(of("twin").map(([, name]) => name)).toEqual(expect.arrayContaining(["foreign"]))
      expect(of("twin")).toHaveLength(2)
      expect(await status(theirs)).toMatchObject({ state: "running" })
      await theirs.destroy()
      expect(of("twin")).toEqual([[foreign, "foreign"]])
      engine.run("rm", "--force", "foreign")
      engine.run("rmi", "localhost/foreign:1")
    })

    test("a name that another container has is an error that says so, and the other one stays", async () => {
      const deployment = await deploy(stack("named"))
      const [[, called]] = of("named")
      await deployment.destroy()
      await deploy(stack("holds-the-image"))
      const [[id]] = of("holds-the-image")
      const foreign = engine.run("create", `--name=${called}`, engine.run("inspect", "--format={{.Image}}", id))
      const error = await failure(deploy(stack("named")))
      expect(error).toMatchObject({ code: "CONTAINER_NAME_TAKEN", context: { container: called, daemon: "d" }, hint: expect.stringContaining("rename or remove it") })
      expect(engine.run("inspect", "--format={{.Id}}", called)).toBe(foreign)
      engine.run("rm", called)
      await (await alien.connect(bed.options({ name: "holds-the-image" }))).destroy()
      await alien.connect(bed.options({ name: "named" })).then((there) => there.destroy(), () => {})
    })

    test("secrets are in no label, and the file that keeps them is its owner's alone", async () => {
      const deployment = await deploy(stack("hushed"), { secrets: { d: { TOKEN: "xyzzy-plugh" } } })
      const labels = engine.run("inspect", "--format={{json .Config.Labels}}", of("hushed")[0][0])
      expect(labels).not.toContain("xyzzy")
      const spec = path.join(bed.stateDir, "deployments/hushed/containers/d/spec.json")
      expect(fs.statSync(spec).mode & 0o777).toBe(0o600)
      expect(processesWith("xyzzy")).toEqual([])
      await deployment.destroy()
    })

    test("a first deploy that is called off at any moment is taken up by the next one, or leaves nothing behind a destroy", async () => {
      const reason = new Error("changed my mind")
      const destroyed = async () => {
        await (await alien.connect(bed.options({ name: "off" }))).destroy()
        expect(of("off")).toEqual([])
      }
      for (const milliseconds of [0, 3, 6, 12, 25, 50, 100, 200]) {
        for (const goesOn of [false, true]) {
          const controller = new AbortController()
          const onEvent = ({ type }) => type === "resource" && setTimeout(() => controller.abort(reason), milliseconds)
          await deploy(stack("off"), { signal: controller.signal, onEvent }).catch((error) => expect(error).toBe(reason))
          if (goesOn) {
            const deployment = await deploy(stack("off"))
            expect([await status(deployment), of("off")]).toEqual([expect.objectContaining({ state: "running" }), [expect.anything()]])
          }
          await destroyed()
        }
      }
    })

    test("a deploy that is killed at any moment of an update leaves what the next one puts right", async () => {
      const build = (level) => stackOf("cut", daemon("d", image, "print=I am cut", "catch", "sleep").environment({ LEVEL: `${level}` }))
      const deployment = await deploy(build(0))
      for (const [round, delay] of [0, 60, 150, 300, 600, 1200].entries()) {
        const script = `require("@alienplatform/core").deploy(${JSON.stringify(build(round + 1))}, ${JSON.stringify(options())}).then(() => process.exit(0), (error) => (console.error(error), process.exit(1)))`
        const child = spawn(process.execPath, ["-e", script], { cwd: root, stdio: ["ignore", "ignore", "pipe"] })
        const ended = new Promise((resolve) => child.once("exit", resolve))
        await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, delay))])
        child.kill("SIGKILL")
        await ended
        await deploy(build(round + 1))
        expect(of("cut")).toHaveLength(1)
        expect(copies("I am cut")).toHaveLength(1)
        expect((await deployment.exec("d", ["/bin/daemon", "env", "exit=0"])).stdout).toContain(`env LEVEL=${round + 1}\n`)
      }
      await deployment.destroy()
    })

    test("an update of a daemon that was never up is left as it is; the last that was up is what is gone back to", async () => {
      const ends = async (...steps) => failure(deploy(stack("never", ...steps)))
      expect(await ends("exit=3")).toMatchObject({ code: "DAEMON_NOT_UP", context: { lastExit: { code: 3 } } })
      expect(await ends("exit=4")).toMatchObject({ code: "DAEMON_NOT_UP", context: { lastExit: { code: 4 } }, hint: expect.stringContaining("left crash-looping") })
      const deployment = await alien.connect(bed.options({ name: "never" }))
      await eventually(() => status(deployment), ({ state, lastExit }) => state === "crash-looping" && lastExit?.code === 4)
      expect(of("never")).toHaveLength(1)
      // Nothing is wrong with the image, but with its program: nothing has changed then.
      expect(await failure(deploy(stackOf("never", daemon("d", image).command(["/not/there"]))))).toMatchObject({ code: "ENTRYPOINT_MISSING" })
      await eventually(() => status(deployment), ({ state, lastExit }) => state === "crash-looping" && lastExit?.code === 4)
      await deploy(stack("never", "print=up"))
      expect(await failure(deploy(stackOf("never", daemon("d", image).command(["/not/there"]))))).toMatchObject({ code: "ENTRYPOINT_MISSING" })
      await until(deployment, "d", /^up$/, 2)
      expect(await ends("exit=5")).toMatchObject({ code: "UPDATE_ROLLED_BACK", context: { lastExit: { code: 5 } } })
      await until(deployment, "d", /^up$/, 3)
      await deployment.destroy()
    })

    test("a container that somebody stopped or removed is said so, and put right by a deploy", async () => {
      const deployment = await deploy(stack("meddled"))
      const [[id]] = of("meddled")
      engine.run("stop", id)
      expect(await status(deployment)).toMatchObject({ state: "stopped", conditions: [{ type: "Ready", status: "False", reason: "ContainerStopped" }] })
      expect((await alien.plan(stack("meddled"), options())).changes).toMatchObject([{ action: "restart", reason: expect.stringContaining("its container was stopped") }])
      await deploy(stack("meddled"))
      expect(of("meddled")).toHaveLength(1)
      engine.run("rm", "--force", id)
      expect(await status(deployment)).toMatchObject({ state: "failed", conditions: [{ reason: "ContainerMissing" }] })
      expect(await failure(deployment.exec("d", ["/bin/daemon", "exit=0"]))).toMatchObject({ code: "DAEMON_NOT_RUNNING" })
      await deploy(stack("meddled"))
      expect(await status(deployment)).toMatchObject({ state: "running" })
      await deployment.destroy()
    })

    test("the image is fetched again where somebody has cleared it up", async () => {
      const deployment = await deploy(stack("cleared"))
      const [[id]] = of("cleared")
      engine.run("rm", "--force", id)
      engine.run("rmi", ...engine.run("images", "--format={{.Repository}}:{{.Tag}}").split("\n").filter((line) => line.startsWith("localhost/alien:")))
      await deploy(stack("cleared"))
      expect(await status(deployment)).toMatchObject({ state: "running" })
      await deployment.destroy()
    })

    test("an update's lines follow those of the version before, each once", async () => {
      const build = (level) => stackOf("said", daemon("d", image, "print=I am said", `print=level ${level}`, "catch", "sleep"))
      const deployment = await deploy(build("one"))
      const following = until(deployment, "d", /^level two$/)
      await deploy(build("two"))
      const lines = (await following).filter((line) => line.startsWith("level"))
      expect(lines).toEqual(["level one", "level two"])
      expect((await allLines(deployment, "d")).map(({ line }) => line)).toContain("level two")
      await deployment.destroy()
    })

    test("where this machine refuses to make sandboxes, it is what daemons run under by itself, and preflight says why", async () => {
      const file = path.join(bed.folder, "refused.js")
      fs.writeFileSync(file, `const alien = require(${JSON.stringify(root)})\nmodule.exports = new alien.Stack("refused").add(new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(image)} }).command(["/bin/daemon", "catch", "sleep"]).permissions("x").build(), "live").build()\n`)
      // No user namespace can be made in this one.
      const via = ["unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
      const stateDir = path.join(bed.folder, "refused")
      const env = { ALIEN_STATE_DIR: stateDir, DOCKER_HOST: engine.host }
      const { code, stderr } = await bed.cli(["deploy", "--file", file], { via, env })
      const nobody = await bed.cli(["deploy", "--file", file, "--name", "other"], { via, env: { ...env, DOCKER_HOST: `unix://${bed.folder}/no.sock` } })
      const deployment = await alien.connect(bed.options({ name: "refused", local: { stateDir } }))
      const seen = [await status(deployment), of("refused")]
      await deployment.destroy()
      expect(seen).toMatchObject([{ state: "running" }, [[expect.any(String), expect.any(String)]]])
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(/this machine refuses to make a sandbox: .*; daemons run under (Docker|Podman) .* instead/) })
      expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining("or start Docker or Podman") })
    })

    if (name === "docker") describe("commands", () => {
      const elsewhere = testManager({ start: false })
      const ours = () => fs.existsSync(path.join(bed.stateDir, "deployments/@manager/daemons/manager"))
      let taker
      beforeAll(async () => {
        const { nodeImage, receiverFiles } = await tool("node-image.mjs")
        const program = path.join(bed.folder, "handlers.js")
        fs.writeFileSync(program, `const { command, runReceiver } = require("@alienplatform/core/commands"); command("echo", (params) => ({ params, from: process.env.ALIEN_COMMANDS_URL })); runReceiver()`)
        const node = `oci:${await nodeImage(path.join(bed.folder, "node"), { tag: "1", program, files: receiverFiles() })}:1`
        taker = new alien.Daemon("d").code({ type: "image", image: node }).commandsEnabled(true).permissions("p").build()
      }, 60_000)

      test("come from a manager that is a process beside the engine", async () => {
        const deployment = await deploy(stackOf("called", taker))
        const { url } = JSON.parse(fs.readFileSync(path.join(bed.stateDir, "manager/client.json"), "utf8"))
        expect(await deployment.invoke("d", "echo", { text: "ü" })).toEqual({ params: { text: "ü" }, from: url })
        expect(ours()).toBe(true)
        await deployment.destroy()
        expect(ours()).toBe(false)
        await eventually(() => bed.helpers().length === 0)
      })

      needs(noManager ?? noOpenssl).test("come from a manager elsewhere, by TLS, with nothing of ours running", async () => {
        const at = (name) => path.join(elsewhere.folder, name)
        const { certificate, key } = authority(elsewhere.folder).issue(1)
        fs.writeFileSync(at("server.pem"), certificate)
        fs.writeFileSync(at("server.key"), key, { mode: 0o600 })
        elsewhere.ca = fs.readFileSync(at("ca.pem"), "utf8")
        await elsewhere.start(["--tls-certificate", at("server.pem"), "--tls-key", at("server.key")])
        const manager = { url: elsewhere.url, token: elsewhere.admin, caFile: at("ca.pem") }
        const tokens = async () => (await elsewhere.ask("GET", "/v1/tokens")).json.tokens.filter(({ role }) => role !== "admin").map(({ role }) => role).sort()
        const deployment = await deploy(stackOf("far", taker), { manager })
        expect(await deployment.invoke("d", "echo", 7)).toEqual({ params: 7, from: elsewhere.url })
        expect([await tokens(), ours(), bed.helpers()]).toEqual([["invoke", "receive"], false, []])
        expect((await alien.plan(stackOf("far", taker), options({ manager }))).changes.map(({ action }) => action)).toEqual(["none"])
        await deployment.destroy()
        expect(await tokens()).toEqual([])
      })
    })

    test("an engine that is killed and started again has the daemons back; until then, errors say where it was asked", async () => {
      const deployment = await deploy(stack("survives"))
      await engine.stop("SIGKILL")
      const error = await failure(deployment.status())
      expect(error).toMatchObject({ code: "ENGINE_UNREACHABLE", retryable: true, httpStatusCode: 503, context: { engine: engine.host }, hint: expect.stringContaining("start it") })
      expect(error.message).toContain(engine.host)
      expect(await failure(deploy(stack("survives")))).toMatchObject({ code: "PREFLIGHT_FAILED", message: expect.stringContaining(engine.host) })
      await engine.start()
      await eventually(() => status(deployment), ({ state }) => state === "running")
      expect(await eventually(() => copies("I am survives"), (now) => now.length === 1)).toHaveLength(1)
      await deploy(stack("survives"))
      expect(of("survives")).toHaveLength(1)
      const [{ pid }] = copies("I am survives")
      await deployment.destroy()
      expect(isAlive(pid)).toBe(false)
    })
  })
})

describe.each(["docker", "podman"])("%s at a port", (name) => {
  needs(missingEngine(name)).describe("of loopback", () => {
    const bed = testBed()
    const engine = testEngine(name, bed, { tcp: true })

    test("daemons come up, tell how they are and what they print, take programs beside them, are changed and go", async () => {
      expect(engine.host).toMatch(/^tcp:/)
      await livesThere(bed, engine)
      await engine.stop("SIGTERM")
      const stack = stackOf("ported", daemon("d", await bed.image(), "sleep"))
      const error = await failure(alien.deploy(stack, bed.options({ local: { runtime: "engine", dockerHost: engine.host } })))
      expect(error).toMatchObject({ code: "PREFLIGHT_FAILED", message: expect.stringContaining(`no container engine answers at ${engine.host}`) })
    }, 120_000)
  })
})

needs(missingEngine("docker") ?? noOpenssl).describe("docker at a port, by TLS", () => {
  const bed = testBed()
  const engine = testEngine("docker", bed, { tls: true })
  const asked = (dockerHost) => bed.options({ local: { runtime: "engine", dockerHost } })

  test("lives like any other", () => livesThere(bed, engine), 120_000)

  test("is asked as the docker command does it, and found again by whoever knows the deployment's name", async () => {
    const file = path.join(bed.folder, "alien.js")
    fs.writeFileSync(file, `module.exports = ${JSON.stringify(stackOf("kept", daemon("d", await bed.image(), "print=I am kept", "catch", "sleep")))}`)
    const env = { ALIEN_RUNTIME: "engine", DOCKER_HOST: engine.host, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: engine.certificates }
    expect(await bed.cli(["deploy", "--file", file], { env })).toMatchObject({ code: 0 })
    const deployment = await alien.connect(bed.options({ name: "kept" }))
    expect((await deployment.status()).resources).toMatchObject([{ state: "running" }])
    const elsewhere = { ...env, DOCKER_CERT_PATH: "", DOCKER_CONFIG: engine.certificates }
    const planned = await bed.cli(["plan", "--file", file, "--json"], { env: elsewhere })
    expect(JSON.parse(planned.stdout).changes).toMatchObject([{ action: "none" }])
    await deployment.destroy()
    // Other ways to it are as they were.
    const plain = await bed.cli(["plan", "--file", file], { env: { ...env, DOCKER_TLS_VERIFY: "" } })
    expect(plain).toMatchObject({ code: 1, stderr: expect.stringContaining(`no container engine answers at ${engine.host}: `) })
    const ssh = await bed.cli(["plan", "--file", file], { env: { ...env, DOCKER_HOST: "ssh://me@127.0.0.1" } })
    expect(ssh).toMatchObject({ code: 1, stderr: expect.stringMatching(/"ssh:\/\/me@127\.0\.0\.1" is none that an engine is asked at[^]*behind ssh/) })
  })

  test("what is wrong with a file, or with whose certificate it is, is said", async () => {
    const stack = stackOf("refused", daemon("d", "registry.example/never:1"))
    const folder = path.join(bed.folder, "certificates")
    const at = (name) => path.join(folder, name)
    const put = (name, from = name) => fs.copyFileSync(path.join(engine.certificates, from), at(name))
    fs.mkdirSync(folder)
    const host = engine.host.replace("tcp:", "tls:")
    const error = () => failure(alien.plan(stack, asked(`${host}${folder}`)))
    const wrong = (what) => ({ code: "PREFLIGHT_FAILED", message: expect.stringMatching(what), hint: expect.stringContaining("DOCKER_CERT_PATH") })
    expect(await error()).toMatchObject(wrong(`${at("ca.pem")} cannot be read: No such file`))
    fs.writeFileSync(at("ca.pem"), "none")
    expect(await error()).toMatchObject(wrong(`${at("ca.pem")} holds no certificate`))
    put("ca.pem")
    expect(await error()).toMatchObject(wrong("no container engine answers at tls:.*: received fatal alert: .*Certificate"))
    put("cert.pem")
    expect(await error()).toMatchObject(wrong(`${at("key.pem")} cannot be read: No such file`))
    put("key.pem", "server.key")
    expect(await error()).toMatchObject(wrong(`${at("cert.pem")} and ${at("key.pem")} cannot be used together`))
    put("key.pem")
    authority(folder)
    expect(await error()).toMatchObject(wrong("no container engine answers at tls:.*: invalid peer certificate: "))
    expect(await failure(alien.plan(stack, asked(host)))).toMatchObject({ hint: expect.stringContaining("DOCKER_CERT_PATH") })
    expect(await alien.deployments(bed.options())).toEqual([])
  })
})

needs(missingEngine("docker", { containerdStore: true })).describe("docker with containerd's store of images", () => {
  const bed = testBed()
  const engine = testEngine("docker", bed, { containerdStore: true })

  test("it has the images of versions that run or may come back, and no others", async () => {
    expect(engine.run("info", "--format={{.DriverStatus}}")).toContain("io.containerd.snapshotter")
    await imagesComeAndGo(bed, engine)
  }, 120_000)

  test("one that several daemons want at once, of two state directories, is there for all of them", async () => {
    const image = await bed.image({ files: [{ path: "own", data: "wanted" }] })
    const stack = stackOf("many", ...["a", "b", "c"].map((id) => daemon(id, image, `print=I am many/${id}`, "catch", "sleep")))
    const stateDirs = [bed.stateDir, path.join(bed.folder, "other")]
    const deployments = await Promise.all(stateDirs.map((stateDir) => alien.deploy(stack, bed.options({ local: { runtime: "engine", dockerHost: engine.host, stateDir } }))))
    for (const deployment of deployments) {
      expect((await deployment.status()).resources.map(({ state }) => state)).toEqual(["running", "running", "running"])
    }
    await deployments[0].destroy()
    expect((await deployments[1].status()).resources.map(({ state }) => state)).toEqual(["running", "running", "running"])
    await deployments[1].destroy()
    expect(engine.run("images", "--all", "--quiet")).toBe("")
  })
})

describe("no engine", () => {
  const bed = testBed()

  test("where an engine is asked for and none answers, nothing is begun, and where it was looked for is said", async () => {
    const dockerHost = `unix://${bed.folder}/no.sock`
    const stack = stackOf("nowhere", daemon("d", "registry.example/never:1"))
    const error = await failure(alien.deploy(stack, bed.options({ local: { runtime: "engine", dockerHost } })))
    expect(error).toMatchObject({ code: "PREFLIGHT_FAILED", hint: expect.stringContaining("DOCKER_HOST") })
    expect(error.message).toContain(`no container engine answers at ${dockerHost}`)
    expect(await alien.deployments(bed.options())).toEqual([])
  })

  test("the command takes a runtime, and so does the environment", async () => {
    const env = { ALIEN_RUNTIME: "engine", DOCKER_HOST: `unix://${bed.folder}/no.sock` }
    const file = path.join(bed.folder, "alien.js")
    fs.writeFileSync(file, `const alien = require(${JSON.stringify(root)})\nmodule.exports = new alien.Stack("s").add(new alien.Daemon("d").code({ type: "image", image: "registry.example/never:1" }).permissions("x").build(), "live").build()\n`)
    const asked = await bed.cli(["plan", "--file", file], { env })
    expect(asked).toMatchObject({ code: 1, stderr: expect.stringContaining(`no container engine answers at unix://${bed.folder}/no.sock`) })
    const wrong = await bed.cli(["plan", "--file", file, "--runtime", "magic"], { env })
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining("local.runtime") })
  })
})
