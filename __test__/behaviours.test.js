"use strict"

// What a daemon does wherever it runs: written once, and true of every place.

const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, needs, stackOf, together, until } = require("./lib/bed.js")
const { PLACES, mark } = require("./lib/places.js")

jest.setTimeout(60_000)

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/

describe.each(Object.entries(PLACES))("%s", (name, { missing, open, platform = name }) => {
  needs(missing).describe("a deployment", () => {
    const place = open()
    /** A daemon of a deployment. A program that is process 1 has to handle SIGTERM, or it lives through its grace period. */
    const one = (name, id, ...steps) => daemon(id, place.image(), `print=${mark(name, id)}`, "catch", ...steps)
    const up = (name, id, ...steps) => one(name, id, ...steps, ...place.up)
    const status = async (deployment, id) => (await deployment.status()).resources.find((resource) => resource.id === id)
    const plan = (stack, more) => alien.plan(stack, place.options(more))
    const connect = (name) => alien.connect(place.options({ name }))
    /** The one copy that runs. */
    async function copy(name, id) {
      const copies = await place.copies(name, id)
      expect(copies).toHaveLength(1)
      return copies[0]
    }
    /** What is told, in a word or two for each, and what is told of one resource. */
    function listener() {
      const events = []
      const words = ({ type, id, state }) => (type === "resource" ? `${id} ${state}` : type)
      return {
        onEvent: (event) => events.push(event),
        all: () => events.map(words),
        types: () => [...new Set(events.map(({ type }) => type))],
        of: (wanted) => events.filter(({ type, id, message }) => type === "resource" && id === wanted && message === undefined).map(({ state }) => state),
        events,
      }
    }

    describe("from its beginning to its end", () => {
      const NAME = "life"
      const build = (edit = (builder) => builder) =>
        stackOf(NAME, edit(up(NAME, "worker", "print=working").environment({ LEVEL: "info", KEEP: "1" })), up(NAME, "a-neighbour"))
      let deployment
      const first = listener()

      beforeAll(async () => {
        deployment = await place.deploy(build(), { onEvent: first.onEvent })
      })

      test("is checked, planned and started, in that order, and then runs once", async () => {
        expect(first.types().slice(0, 2)).toEqual(["preflight", "plan"])
        expect(first.types().slice(2).sort()).toEqual([...place.fetches, "resource"])
        expect(first.events[0].report).toMatchObject({ platform, ok: true })
        expect(first.events[1].plan.changes).toMatchObject(["worker", "a-neighbour"].map((id) => ({ id, type: "daemon", action: "create", reason: "it does not exist yet" })))
        for (const id of ["worker", "a-neighbour"]) {
          expect(first.of(id)).toEqual(["starting", "running"])
          await copy(NAME, id)
        }
      })

      test("has a status of the same shape everywhere, in the order of the stack", async () => {
        expect(await deployment.status()).toEqual({
          name: NAME,
          platform,
          stackId: NAME,
          resources: ["worker", "a-neighbour"].map((id) => ({
            id,
            type: "daemon",
            lifecycle: "live",
            state: "running",
            image: place.image(),
            digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
            ...place.where,
            startedAt: expect.stringMatching(RFC3339),
            restarts: 0,
            conditions: [{ type: "Ready", status: "True", reason: "Up", message: "the program is up", since: expect.stringMatching(RFC3339) }],
          })),
        })
      })

      test("is left alone by a second deploy", async () => {
        const before = [await copy(NAME, "worker"), await copy(NAME, "a-neighbour")]
        expect(await plan(build())).toEqual({
          changes: ["worker", "a-neighbour"].map((id) => ({ id, type: "daemon", action: "none", fields: [], reason: "nothing has changed" })),
        })
        const again = listener()
        await place.deploy(build(), { onEvent: again.onEvent })
        expect(again.all()).toEqual(["preflight", "plan"])
        expect([await copy(NAME, "worker"), await copy(NAME, "a-neighbour")]).toEqual(before)
      })

      test("is planned before it is changed, field by field, and planning changes nothing", async () => {
        const before = await copy(NAME, "worker")
        const told = listener()
        const changed = build((builder) => builder.environment({ LEVEL: "debug", NEW: "x" }).stopGracePeriodSeconds(5))
        expect(await plan(changed, { onEvent: told.onEvent })).toEqual({
          changes: [
            {
              id: "worker",
              type: "daemon",
              action: "update",
              reason: "environment.KEEP, environment.LEVEL, environment.NEW and 1 more have changed",
              fields: [
                { path: "environment.KEEP", from: "1", to: null },
                { path: "environment.LEVEL", from: "info", to: "debug" },
                { path: "environment.NEW", from: null, to: "x" },
                { path: "stopGracePeriodSeconds", from: null, to: 5 },
              ],
            },
            expect.objectContaining({ id: "a-neighbour", action: "none" }),
          ],
        })
        expect(told.all()).toEqual(["preflight"])
        expect(await copy(NAME, "worker")).toBe(before)
      })

      test("an update restarts what has changed, and nothing else", async () => {
        const before = [await copy(NAME, "worker"), await copy(NAME, "a-neighbour")]
        const told = listener()
        const words = [`print=${mark(NAME, "worker")}`, "catch", "env", "print=working better", ...place.up]
        const stack = build((builder) => builder.environment({ LEVEL: "debug" }).command(["/bin/daemon", ...words]))
        await place.deploy(stack, { onEvent: told.onEvent })
        expect(told.of("worker")).toEqual(["updating", "running"])
        expect(told.of("a-neighbour")).toEqual([])
        expect(await until(deployment, "worker", /^working better$/)).toContain("env LEVEL=debug")
        expect(await copy(NAME, "worker")).not.toBe(before[0])
        expect(await copy(NAME, "a-neighbour")).toBe(before[1])
        expect((await plan(stack)).changes.map(({ action }) => action)).toEqual(["none", "none"])
      })

      test("restart ends the one copy and starts another, which is no restart by itself", async () => {
        const before = [await copy(NAME, "worker"), await copy(NAME, "a-neighbour")]
        const told = listener()
        await deployment.restart("worker", { onEvent: told.onEvent })
        expect(told.all()).toEqual(["worker restarting", "worker running"])
        expect(await copy(NAME, "worker")).not.toBe(before[0])
        expect(await copy(NAME, "a-neighbour")).toBe(before[1])
        expect(await status(deployment, "worker")).toMatchObject({ state: "running", restarts: 0 })
        expect((await status(deployment, "worker")).lastExit).toBeUndefined()
      })

      test("is found by its name alone, and listed", async () => {
        const found = await connect(NAME)
        expect(found).toBeInstanceOf(alien.Deployment)
        expect(await found.status()).toEqual(await deployment.status())
        expect(await alien.deployments(place.options())).toContain(NAME)
      })

      test("of two daemons, what is not there is named together with what is", async () => {
        const calls = {
          restart: () => deployment.restart("nobody"),
          logs: () => allLines(deployment, "nobody"),
        }
        for (const [name, call] of Object.entries(calls)) {
          const { code, httpStatusCode, message, hint } = await failure(call())
          expect({ name, code, httpStatusCode, message, hint }).toEqual({
            name,
            code: "RESOURCE_NOT_FOUND",
            httpStatusCode: 404,
            message: `there is no daemon "nobody" in deployment "${NAME}"`,
            hint: "there is: worker, a-neighbour",
          })
        }
      })

      test("under another name is another deployment", async () => {
        const before = await copy(NAME, "worker")
        const stack = stackOf(NAME, up("twin", "worker"))
        const twin = await place.deploy(stack, { name: "twin" })
        expect(await twin.status()).toMatchObject({ name: "twin", stackId: NAME, resources: [{ id: "worker", state: "running" }] })
        expect(await alien.deployments(place.options())).toEqual(expect.arrayContaining([NAME, "twin"]))
        await copy("twin", "worker")
        await twin.destroy()
        expect(await place.copies("twin", "worker")).toEqual([])
        expect(await copy(NAME, "worker")).toBe(before)
      })

      test("what has left the stack is stopped and removed, and the rest goes on", async () => {
        const before = await copy(NAME, "a-neighbour")
        const stack = stackOf(NAME, up(NAME, "a-neighbour"))
        expect((await plan(stack)).changes).toEqual([
          expect.objectContaining({ id: "a-neighbour", action: "none" }),
          { id: "worker", type: "daemon", action: "delete", fields: [], reason: "it is not in the stack any more" },
        ])
        const told = listener()
        await place.deploy(stack, { onEvent: told.onEvent })
        expect(told.all()).toEqual(["preflight", "plan", "worker stopping", "worker removed"])
        expect((await deployment.status()).resources.map(({ id }) => id)).toEqual(["a-neighbour"])
        expect(await place.copies(NAME, "worker")).toEqual([])
        expect(await copy(NAME, "a-neighbour")).toBe(before)
      })

      test("destroyed, nothing runs and nothing is listed; once more is no error", async () => {
        const told = listener()
        await deployment.destroy({ onEvent: told.onEvent })
        expect(told.all()).toEqual(["a-neighbour stopping", "a-neighbour removed"])
        expect(await place.copies(NAME, "a-neighbour")).toEqual([])
        expect(await alien.deployments(place.options())).not.toContain(NAME)
        expect(await failure(deployment.status())).toMatchObject({ code: "DEPLOYMENT_NOT_FOUND", httpStatusCode: 404 })
        const nothing = listener()
        await deployment.destroy({ onEvent: nothing.onEvent })
        expect(nothing.all()).toEqual([])
      })
    })

    describe("its logs", () => {
      const NAME = "speaks"
      const own = new Set([mark(NAME, "d"), "got SIGTERM", "done", "no NOTIFY_SOCKET"])
      const texts = async (options) => (await allLines(deployment, "d", options)).map(({ line }) => line).filter((line) => !own.has(line))
      let deployment

      beforeAll(async () => {
        deployment = await place.deploy(stackOf(NAME, up(NAME, "d", "print=1", "print=2", `wait=${place.tick}`, "print=ü 🦀", "print=", "print=5")))
        await until(deployment, "d", /^5$/)
      })

      test("tail and since choose; both together", async () => {
        const all = await allLines(deployment, "d")
        expect(all.every(({ time, stream }) => RFC3339.test(time) && stream === "stdout")).toBe(true)
        expect(await texts()).toEqual(["1", "2", "ü 🦀", "", "5"])
        expect(await texts({ tail: 2 })).toEqual(["", "5"])
        expect(await texts({ tail: 0 })).toEqual([])
        const third = all.find(({ line }) => line.startsWith("ü"))
        // To the millisecond, which is what a Date has: it was waited for longer than that before it.
        const since = new Date(Date.parse(third.time))
        expect(await texts({ since })).toEqual(["ü 🦀", "", "5"])
        expect(await texts({ since, tail: 1 })).toEqual(["5"])
        expect(await texts({ since: Date.now() + 60_000 })).toEqual([])
      })

      test("following goes on over a restart, every line once", async () => {
        const following = until(deployment, "d", /^5$/, 2)
        await deployment.restart("d")
        expect((await following).filter((line) => !own.has(line))).toEqual(["1", "2", "ü 🦀", "", "5", "1", "2", "ü 🦀", "", "5"])
      })

      test("a signal ends following, with its reason; breaking off needs none", async () => {
        const reason = new Error("enough")
        const controller = new AbortController()
        const following = (async () => {
          for await (const { line } of deployment.logs("d", { follow: true, signal: controller.signal })) if (line === "5") controller.abort(reason)
        })()
        expect(await failure(following)).toBe(reason)
        expect(await failure(allLines(deployment, "d", { signal: AbortSignal.abort(reason) }))).toBe(reason)
        for await (const { line } of deployment.logs("d", { follow: true })) if (line === "5") break
      })

      test("following ends by itself with the daemon", async () => {
        let begun
        const reading = new Promise((resolve) => (begun = resolve))
        const following = (async () => {
          for await (const { line } of deployment.logs("d", { follow: true })) if (line === "5") begun()
        })()
        await reading
        await deployment.destroy()
        await following
      })
    })

    describe("in operation", () => {
      const NAME = "works"
      const build = (level) => stackOf(NAME, up(NAME, "d", `print=level ${level}`).environment({ LEVEL: level }))
      let deployment

      beforeAll(async () => {
        deployment = await place.deploy(build("one"))
      })

      test("a program runs beside it, in its world, and tells how it ended", async () => {
        const { code, stdout, stderr } = await deployment.exec("d", ["/bin/daemon", "env", "print=inside", "err=beside", "exit=7"])
        expect({ code, stderr }).toEqual({ code: 7, stderr: "beside\n" })
        expect(stdout).toMatch(/^env LEVEL=one$/m)
        expect(stdout).toMatch(/^inside$/m)
        expect(await deployment.exec("d", ["/bin/daemon", "crash=SIGKILL"])).toMatchObject({ signal: "SIGKILL" })
        // As its own program does: what is there is there for both.
        await deployment.exec("d", ["/bin/daemon", "write=/left:behind", "exit=0"])
        expect((await deployment.exec("d", ["/bin/daemon", "read=/left", "exit=0"])).stdout).toBe("read /left: behind\n")
        await copy(NAME, "d")
      })

      test("that program's input and output are passed on as they come, however much it is", async () => {
        const bytes = Buffer.alloc(3 * 1024 * 1024, "0123456789abcdef\n")
        const { code, stdout } = await deployment.exec("d", ["/bin/daemon", "cat", "exit=0"], { stdin: bytes })
        expect(code).toBe(0)
        expect(stdout.length).toBe(bytes.length)
        expect(stdout === bytes.toString()).toBe(true)
      })

      test("a terminal has the size that it is told, and one stream for all", async () => {
        const { stdout, stderr } = await deployment.exec("d", ["/bin/daemon", "tty", "err=beside", "exit=0"], { tty: true, size: { columns: 101, rows: 33 } })
        expect([stdout.replaceAll("\r", ""), stderr]).toEqual(["tty 101x33\nbeside\n", ""])
        expect((await deployment.exec("d", ["/bin/daemon", "tty", "exit=0"])).stdout).toBe("tty none\n")
      })

      test("a program that is not there is named", async () => {
        const error = await failure(deployment.exec("d", ["/no/such"]))
        expect(error).toBeInstanceOf(alien.AlienError)
        expect(error.message).toContain("/no/such")
      })

      test("a watch tells what becomes of it, and rollback brings back the version before", async () => {
        const seen = []
        const watching = (async () => {
          for await (const { resources } of deployment.watch()) seen.push(...resources.map(({ state, digest }) => ({ state, digest })))
        })()
        await eventually(() => seen.length > 0)
        await place.deploy(build("two"))
        await until(deployment, "d", /^level two$/)
        const told = listener()
        await deployment.rollback("d", { onEvent: told.onEvent })
        expect(told.of("d").at(-1)).toBe("running")
        expect((await deployment.exec("d", ["/bin/daemon", "env", "exit=0"])).stdout).toMatch(/^env LEVEL=one$/m)
        expect((await plan(build("one"))).changes).toMatchObject([{ action: "none" }])
        expect((await plan(build("two"))).changes).toMatchObject([{ action: "update" }])
        await deployment.destroy()
        await watching
        const states = seen.map(({ state }) => state)
        expect(states[0]).toBe("running")
        expect(new Set(states).size).toBeGreaterThan(1)
      })
    })

    describe("with secrets", () => {
      const NAME = "hides"
      const SECRET = "correct horse battery staple"
      const build = (level) => stackOf(NAME, up(NAME, "d").environment({ LEVEL: level }))
      const environment = async (deployment) => (await deployment.exec("d", ["/bin/daemon", "env", "exit=0"])).stdout
      let deployment

      test("has them in its environment, and shows them nowhere", async () => {
        const told = listener()
        const secrets = { d: { TOKEN: SECRET } }
        deployment = await place.deploy(build("one"), { secrets, onEvent: told.onEvent })
        expect(await environment(deployment)).toContain(`env TOKEN=${SECRET}\n`)
        const planned = await plan(build("one"), { secrets: { d: { TOKEN: `${SECRET}!` } } })
        expect(planned.changes).toMatchObject([{ action: "update", fields: [{ path: "secrets.TOKEN" }] }])
        const shown = JSON.stringify([told.events, planned, await deployment.status(), await allLines(deployment, "d")])
        expect(shown).not.toContain(SECRET)
      })

      test("keeps one that a later deploy leaves out, until it is given anew", async () => {
        expect((await plan(build("one"))).changes).toMatchObject([{ action: "none" }])
        await place.deploy(build("two"))
        expect(await environment(deployment)).toMatch(new RegExp(`env LEVEL=two\n[^]*env TOKEN=${SECRET}\n`))
        await place.deploy(build("two"), { secrets: { d: { TOKEN: "another" } } })
        expect(await environment(deployment)).toContain("env TOKEN=another\n")
        await deployment.destroy()
      })
    })

    describe("with limits", () => {
      const MIB = 1024 * 1024
      const hungry = (name, ...steps) => daemon("d", place.image(), `print=${mark(name, "d")}`, ...steps, `eat=${96 * MIB}`, "print=eaten", "sleep").memory("32Mi")
      /** Whether they hold here; where they do not, preflight has said so. */
      async function hold(stack) {
        let report
        await alien.plan(stack, place.options({ onEvent: (event) => event.type === "preflight" && ({ report } = event) }))
        return (report.checks.find(({ id }) => id === "limits-are-enforced")?.status ?? "passed") === "passed"
      }

      test("one that takes more memory than its own is killed alone, and status says why", async () => {
        const beside = up("takes", "beside", `eat=${96 * MIB}`, "print=eaten")
        const stack = stackOf("takes", beside, hungry("takes", "catch", "count", "until=/hungry"))
        if (!(await hold(stack))) return
        const deployment = await place.deploy(stack)
        await until(deployment, "beside", /^eaten$/)
        // The one that tells it may be killed with it.
        await deployment.exec("d", ["/bin/daemon", "write=/hungry:now", "exit=0"]).catch(() => undefined)
        // It is killed in each run.
        const isTold = ({ oom }) => oom || place.oom !== "most"
        const { lastExit } = await eventually(() => status(deployment, "d"), ({ state, restarts, lastExit }) => restarts > 0 && lastExit !== undefined && state !== "stopped" && isTold(lastExit))
        expect(lastExit).toMatchObject({ signal: "SIGKILL", oom: place.oom === "few" ? expect.any(Boolean) : true })
        expect(await status(deployment, "beside")).toMatchObject({ state: "running", restarts: 0 })
        await deployment.destroy()
      })
    })

    if (place.folders) describe("with what it is linked to", () => {
      const NAME = "stores"
      const BUCKET = "/run/alien/bucket"
      const bucket = new alien.Storage("bucket").build()
      const profiles = { writer: { bucket: ["storage/data-read", "storage/data-write"] }, reader: { "*": ["storage/data-read"] }, nobody: {} }
      const build = (level, ...more) => {
        const one = (id, profile) => up(NAME, id).environment({ LEVEL: level }).permissions(profile).link(bucket)
        const stack = new alien.Stack(NAME).add(bucket, "frozen").permissions({ profiles })
        for (const daemon of [one("w", "writer"), one("r", "reader"), one("n", "nobody"), ...more]) stack.add(daemon.build(), "live")
        return stack.build()
      }
      const tries = async (id, ...steps) => (await deployment.exec(id, ["/bin/daemon", ...steps, "exit=0"])).stdout.trim().split("\n")
      let deployment

      beforeAll(async () => {
        deployment = await place.deploy(build("one"))
      })

      test("two share what both may use, as far as each may", async () => {
        expect(await tries("w", `write=${BUCKET}/shared:hello`)).toEqual([`wrote ${BUCKET}/shared`])
        expect(await tries("r", `read=${BUCKET}/shared`, `write=${BUCKET}/mine:x`)).toEqual([`read ${BUCKET}/shared: hello`, `write ${BUCKET}/mine: ReadOnlyFilesystem`])
        expect(await tries("n", `list=${BUCKET}`)).toEqual([`list ${BUCKET}: NotFound`])
        const variable = `env ALIEN_BUCKET_BINDING=${JSON.stringify({ service: "local-storage", storagePath: `file://${BUCKET}/` })}`
        expect(await tries("w", "env")).toContain(variable)
        expect((await tries("n", "env")).join("\n")).not.toContain("BINDING")
      })

      test("what is stored outlives updates and the deployment, until its data are asked to go", async () => {
        await place.deploy(build("two"))
        expect(await tries("w", `read=${BUCKET}/shared`)).toEqual([`read ${BUCKET}/shared: hello`])
        await deployment.destroy()
        deployment = await place.deploy(build("two"))
        expect(await tries("w", `read=${BUCKET}/shared`)).toEqual([`read ${BUCKET}/shared: hello`])
        await deployment.destroy({ data: true })
        deployment = await place.deploy(build("two"))
        expect(await tries("w", `list=${BUCKET}`)).toEqual([`list ${BUCKET}:`])
        await deployment.destroy({ data: true })
      })
    })

    describe("that cannot be made", () => {
      together({
        "because the stack is not valid: every problem, and nothing is touched": async () => {
          const stack = { ...stackOf("invalid", up("invalid", "d")), surprise: true, id: "not valid" }
          for (const call of [alien.plan, alien.deploy]) {
            const told = listener()
            const error = await failure(call(stack, place.options({ onEvent: told.onEvent })))
            expect(error).toBeInstanceOf(alien.ValidationError)
            expect(error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`)).toEqual([expect.stringContaining('"surprise"'), expect.stringMatching(/^id: /)])
            expect(told.all()).toEqual([])
          }
          expect(await alien.deployments(place.options())).not.toContain("not valid")
        },

        "because the program ends: how, its last lines, and it is left as it is until it is mended": async () => {
          const told = listener()
          const steps = ["print=setting up", "print=no database", "exit=3"]
          const error = await place.refused(stackOf("ends", daemon("d", place.image(), ...steps)), { onEvent: told.onEvent })
          expect(error).toBeInstanceOf(alien.AlienError)
          expect(error).toMatchObject({
            code: "DAEMON_NOT_UP",
            context: { daemon: "d", image: place.image(), lastExit: { code: 3, oom: false, at: expect.stringMatching(RFC3339) }, lastLines: ["setting up", "no database"] },
            hint: expect.stringContaining("`alien logs d"),
          })
          expect(error.message).toMatch(/^daemon "d" does not come up: .*its program ended with exit code 3.*\nIts last lines:\n {2}setting up\n {2}no database$/)
          expect(told.of("d").at(0)).toBe("starting")
          expect(told.of("d").at(-1)).not.toBe("running")
          const there = await connect("ends")
          const looping = await eventually(() => status(there, "d"), ({ state }) => state === "crash-looping")
          expect(looping).toMatchObject({ lastExit: { code: 3, oom: false }, conditions: [{ type: "Ready", status: "False" }] })
          const mended = stackOf("ends", up("ends", "d"))
          expect((await plan(mended)).changes).toMatchObject([{ action: "update" }])
          await place.deploy(mended)
          await copy("ends", "d")
          await there.destroy()
        },

        "because it prints nothing and ends, which is said too": async () => {
          const error = await place.refused(stackOf("mute", daemon("d", place.image(), "exit=4")))
          expect(error.message).toMatch(/its program ended with exit code 4.*\nIt printed nothing\.$/)
          expect(error.context.lastLines).toEqual([])
          await (await connect("mute")).destroy()
        },

        "in a new version: the one before runs again, and the error has the last lines of the new one": async () => {
          const good = stackOf("back", up("back", "d", "print=good"))
          const deployment = await place.deploy(good)
          const error = await place.refused(stackOf("back", daemon("d", place.image(), "print=bad", "crash=SIGSEGV")), {}, () => place.deploy(good))
          expect(error).toMatchObject({ code: "UPDATE_ROLLED_BACK", context: { daemon: "d", image: place.image(), lastExit: { signal: "SIGSEGV" }, lastLines: ["bad"] } })
          expect(error.message).toMatch(/^the new version of daemon "d" did not come up: .*its program ended with SIGSEGV\. The version before runs again\.\nIts last lines:\n {2}bad$/)
          const after = await eventually(() => status(deployment, "d"), ({ state }) => state === "running")
          expect(after.conditions).toContainEqual(expect.objectContaining({ type: "RolledBack", status: "True", reason: "UpdateFailed" }))
          await copy("back", "d")
          expect((await plan(good)).changes).toMatchObject([{ action: "none" }])
          await deployment.destroy()
        },

        "because its image is not there: which, and that it was not found": async () => {
          const { image, code } = place.absent()
          const error = await failure(place.deploy(stackOf("absent", daemon("d", image))))
          expect(error).toMatchObject({ code, context: { daemon: "d" }, hint: expect.any(String) })
          expect(error.message).toContain(image.slice(image.indexOf(":") + 1, image.lastIndexOf(":")))
          expect(error.message).toMatch(/absent.*(not found|does not exist)|(not found|does not exist).*absent/s)
          await alien.connect(place.options({ name: "absent" })).then((there) => there.destroy(), () => {})
        },

        "in time: says what it waited for, and deploying again goes on from there": async () => {
          // It takes a second to count as up.
          const stack = stackOf("late", one("late", "d"))
          const told = listener()
          const error = await failure(place.deploy(stack, { timeoutMs: 700, onEvent: told.onEvent }))
          expect(error).toMatchObject({ code: "TIMEOUT", retryable: true, httpStatusCode: 504, hint: expect.stringContaining("timeoutMs") })
          expect(error.message).toMatch(/^not done within 0\.7 s(; it was .+)?$/)
          await place.deploy(stack)
          await copy("late", "d")
          await (await connect("late")).destroy()
        },

        "because it was called off: with the signal's reason, and deploying again goes on from there": async () => {
          const reason = new Error("changed my mind")
          const controller = new AbortController()
          const stack = stackOf("off", one("off", "d"))
          const onEvent = ({ type }) => type === "resource" && controller.abort(reason)
          expect(await failure(place.deploy(stack, { signal: controller.signal, onEvent }))).toBe(reason)
          expect(await failure(place.deploy(stack, { signal: AbortSignal.abort(reason) }))).toBe(reason)
          await place.deploy(stack)
          await copy("off", "d")
          await (await connect("off")).destroy()
        },

        "because there is none of that name: what there is instead": async () => {
          const deployment = await place.deploy(stackOf("somewhere", up("somewhere", "d")))
          const error = await failure(connect("nowhere"))
          expect(error).toBeInstanceOf(alien.AlienError)
          expect(error).toMatchObject({ code: "DEPLOYMENT_NOT_FOUND", httpStatusCode: 404, context: { deployment: "nowhere" } })
          expect(error.message).toMatch(/^there is no deployment "nowhere" in .*; there is: .*\bsomewhere\b/)
          await deployment.destroy()
        },
      })
    })
  })
})
