"use strict"

// `alien doctor` where daemons run under a container engine.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, eventually, failure, needs, stackOf, testBed } = require("./lib/bed.js")
const { missingEngine, testEngine } = require("./lib/engines.js")

jest.setTimeout(60_000)

describe.each(["docker", "podman"])("%s", (name) => {
  needs(missingEngine(name)).describe("as an engine, to a doctor", () => {
    const bed = testBed()
    const engine = testEngine(name, bed)
    let image
    beforeAll(async () => {
      image = await bed.image()
    })
    const options = () => bed.options({ local: { runtime: "engine", dockerHost: engine.host } })
    const stack = (id, ...steps) => stackOf(id, daemon("d", image, `print=I am ${id}`, ...steps))
    const idsOf = (deployment) => engine.run("ps", "--all", "--quiet", "--no-trunc", `--filter=label=alien.dev/deployment=${deployment}`).split("\n").filter(Boolean)
    /** Exit code, what was mended, and of the checks of engines how each is and what it says. */
    async function doctor(args = [], more = {}) {
      const { code, stdout } = await bed.cli(["doctor", "--json", ...args], { ...more, env: { DOCKER_HOST: engine.host, ...more.env } })
      const { checks, mended } = JSON.parse(stdout)
      const of = (wanted) => checks.filter(({ id }) => id === wanted).map(({ status, issues }) => [status, ...issues.map(({ message }) => message)])[0]
      return { code, mended, engines: of("engines"), containers: of("containers"), sandbox: of("sandbox") }
    }

    test("where no deployment runs under one, nothing is said of them", async () => {
      expect(await doctor()).toMatchObject({ code: 0, mended: [], engines: undefined, containers: undefined })
    })

    test("it says whether daemons are up there, and whether the engine answers", async () => {
      const deployment = await alien.deploy(stack("well", "catch", "sleep"), options())
      await failure(alien.deploy(stack("ends", "exit=3"), options()))
      const crashes = /^ends\/d: the program ended with exit code 3 and is started again$/
      // Now and then it runs, for a moment.
      const ailing = await eventually(() => doctor(), ({ containers }) => containers[0] === "warning")
      expect(ailing).toMatchObject({ code: 0, mended: [], engines: ["passed"], containers: ["warning", expect.stringMatching(crashes)] })
      await (await alien.connect(bed.options({ name: "ends" }))).destroy()
      expect(await doctor()).toMatchObject({ code: 0, mended: [], engines: ["passed"], containers: ["passed"] })
      engine.run("stop", "--time=0", ...idsOf("well"))
      expect(await doctor()).toMatchObject({ code: 0, containers: ["warning", "well/d: its container was stopped; deploy again to start it"] })
      await engine.stop("SIGTERM")
      const silent = await doctor()
      await engine.start()
      expect(silent).toMatchObject({ code: 1, mended: [], engines: ["failed", expect.stringMatching(/^well: no container engine answers at /)] })
      expect(silent.engines[1]).toContain(engine.host)
      await deployment.destroy()
    })

    test("a container that no deployment has goes if it has never run, and is told of if it has", async () => {
      const deployment = await alien.deploy(stack("keeps", "catch", "sleep"), options())
      const [kept] = idsOf("keeps")
      const state = fs.readFileSync(path.join(bed.stateDir, "engine/id"), "utf8")
      const labels = (deployment, of = state) => [`--label=alien.dev/state=${of}`, `--label=alien.dev/deployment=${deployment}`, "--label=alien.dev/daemon=d"]
      const make = (...how) => engine.run("create", ...how, engine.run("inspect", "--format={{.Image}}", kept), "catch", "sleep")
      make(...labels("cut"))
      const others = make(...labels("theirs", "another"))
      const ran = make("--network=host", ...labels("ran"))
      engine.run("start", ran)
      engine.run("kill", ran)
      const cut = expect.stringMatching(/^cut\/d: a call that was killed had left a container in (Docker|Podman) /)
      expect(await doctor(["--dry-run"])).toMatchObject({ mended: [cut] })
      expect(idsOf("cut")).toHaveLength(1)
      expect(await doctor()).toMatchObject({ code: 0, mended: [cut], engines: ["passed"], containers: ["warning", expect.stringMatching(/^ran\/d: (Docker|Podman) .* has a container of it, and there is no deployment$/)] })
      expect([idsOf("cut"), idsOf("theirs"), idsOf("ran"), idsOf("keeps")]).toEqual([[], [others], [ran], [kept]])
      engine.run("rm", others, ran)
      expect(await doctor()).toMatchObject({ code: 0, mended: [], containers: ["passed"] })
      await deployment.destroy()
    })

    test("where this machine refuses to make sandboxes, nothing is broken as long as an engine answers", async () => {
      // No user namespace can be made in this one.
      const via = ["unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
      const env = { ALIEN_STATE_DIR: path.join(bed.folder, "refused") }
      expect(await doctor([], { via, env })).toMatchObject({ code: 0, sandbox: ["warning", expect.stringContaining("this machine refuses to make a sandbox")] })
      const nowhere = { ...env, DOCKER_HOST: `unix://${bed.folder}/no.sock` }
      expect(await doctor([], { via, env: nowhere })).toMatchObject({ code: 1, sandbox: ["failed", expect.any(String)] })
    })
  })
})
