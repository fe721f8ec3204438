"use strict"

// Kubernetes, on a real cluster: what a deploy makes, changes, brings back and removes.

const { spawn } = require("node:child_process")
const path = require("node:path")
const { stripVTControlCharacters } = require("node:util")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, has, needs, root, stackOf, testBed, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")

jest.setTimeout(120_000)

needs(missing()).describe("a cluster", () => {
  const bed = testBed()
  const its = testCluster(bed)
  // A program that is process 1 has to handle SIGTERM, or it lives through its grace period.
  const connector = (...steps) => daemon("connector", its.image, "catch", ...steps)
  const live = async (name = "edge-connector") => its.get("deployment", name)

  describe("a deploy", () => {
    test("makes the daemon with what the model says and nothing else, and the second one changes nothing", async () => {
      const odd = { HOME_OF: "$(HOME) $$(X) $$", TEXT: "ü \"'\\\n🦀", EMPTY: "" }
      const stack = stackOf("edge", connector("env", "print=here").environment(odd).cpu({ min: "0.05", desired: 1 }).memory({ min: "16Mi", desired: "64Mi" }))
      const events = []
      const deployment = await its.deploy(stack, { onEvent: (event) => events.push(event) })
      expect(events.filter(({ type }) => type === "resource").map(({ state }) => state)).toEqual(["starting", "running"])
      expect(await its.one(deployment, "connector")).toMatchObject({ state: "running", image: its.image, restarts: 0, pod: expect.any(String), node: "node", digest: expect.stringMatching(/^sha256:/) })
      const lines = (await until(deployment, "connector", /^here$/)).join("\n")
      for (const [name, value] of Object.entries(odd)) expect(`${lines}\n`).toContain(`env ${name}=${value}\n`)
      const { spec, metadata } = await live()
      expect(spec).toMatchObject({ replicas: 1, strategy: { type: "Recreate" }, minReadySeconds: 2 })
      expect(spec.template.spec).toMatchObject({ automountServiceAccountToken: false, serviceAccountName: "edge-connector", terminationGracePeriodSeconds: 30 })
      expect(spec.template.spec.containers[0].resources).toEqual({ requests: { cpu: "50m", memory: "16Mi" }, limits: { memory: "64Mi" } })
      expect(metadata.labels).toMatchObject({ "app.kubernetes.io/managed-by": "alien", "app.kubernetes.io/part-of": "edge" })
      const pod = (await its.one(deployment, "connector")).pod
      expect(await its.objects("edge")).toEqual([
        "Deployment/edge-connector", "Lease/alien-edge", `Pod/${pod}`, expect.stringMatching(/^ReplicaSet\/edge-connector-/), "ServiceAccount/edge-connector",
      ])
      const plan = await alien.plan(stack, its.options())
      expect(plan.changes).toMatchObject([{ action: "none", fields: [] }])
      await its.deploy(stack)
      expect((await its.one(deployment, "connector")).pod).toBe(pod)
      expect((await live()).metadata.generation).toBe(metadata.generation)
    })

    test("of a change replaces the pod, and plan names the fields before", async () => {
      const stack = stackOf("edge", connector("print=second").environment({ LEVEL: "info" }))
      const [change] = (await alien.plan(stack, its.options())).changes
      expect(change.action).toBe("update")
      expect(change.fields).toEqual(expect.arrayContaining([
        { path: "environment.LEVEL", from: null, to: "info" }, { path: "environment.EMPTY", from: "", to: null }, { path: "memory.desired", from: "64Mi", to: null },
      ]))
      const deployment = await its.deploy(stack)
      await until(deployment, "connector", /^second$/)
      expect((await live()).spec.template.spec.containers[0].env.map(({ name }) => name)).toEqual(["ALIEN_DEPLOYMENT_ID", "ALIEN_DEPLOYMENT_TYPE", "LEVEL"])
    })

    test("brings back what somebody edited or removed; plan shows it first", async () => {
      const stack = stackOf("edge", connector("print=second").environment({ LEVEL: "info" }))
      await its.kubectl("scale", "deployment/edge-connector", "--replicas=0")
      await its.kubectl("set", "env", "deployment/edge-connector", "LEVEL=debug", "THEIRS=1")
      await its.kubectl("delete", "serviceaccount", "edge-connector")
      const [change] = (await alien.plan(stack, its.options())).changes
      expect(change.fields).toEqual([
        { path: "deployment.spec.replicas", from: 0, to: 1 },
        { path: "environment.LEVEL", from: "debug", to: "info" },
        { path: "serviceAccount", from: null, to: "edge-connector" },
      ])
      await its.deploy(stack)
      const { spec } = await live()
      expect(spec.replicas).toBe(1)
      // What others have added is theirs.
      expect(spec.template.spec.containers[0].env).toEqual(expect.arrayContaining([{ name: "LEVEL", value: "info" }, { name: "THEIRS", value: "1" }]))
      expect((await alien.plan(stack, its.options())).changes[0].action).toBe("none")
      await its.kubectl("set", "env", "deployment/edge-connector", "THEIRS-")
    })

    test("does not take over what another manager applies, unless told to", async () => {
      const theirs = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "edge-connector" }, spec: { minReadySeconds: 7 } }
      await its.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-", { input: JSON.stringify(theirs) })
      const stack = stackOf("edge", connector("print=second").environment({ LEVEL: "info" }))
      const error = await failure(its.deploy(stack))
      expect(error).toMatchObject({ code: "APPLY_CONFLICT", context: { managers: ["gitops"], fields: [".spec.minReadySeconds"] } })
      expect(error.message).toBe('Deployment "edge-connector" is also applied by gitops, which wants otherwise: .spec.minReadySeconds')
      await its.deploy(stack, { kubernetes: { forceConflicts: true } })
      expect((await live()).spec.minReadySeconds).toBe(2)
    })

    test("never touches an object that is somebody else's", async () => {
      await its.kubectl("create", "serviceaccount", "taken-connector")
      const error = await failure(its.deploy(stackOf("taken", connector())))
      expect(error.code).toBe("NAME_TAKEN")
      expect(error.message).toContain(`ServiceAccount "taken-connector" in namespace "${its.namespace}" is somebody else's`)
      expect((await its.get("serviceaccount", "taken-connector")).metadata.labels).toBeUndefined()
      expect(await its.objects("taken")).toEqual([])
      await its.kubectl("delete", "serviceaccount", "taken-connector")
    })

    test("removes what left the stack, and leaves its neighbours alone", async () => {
      const two = (id, ...more) => stackOf(id, connector(), ...more)
      const [ab, a] = await Promise.all([
        its.deploy(two("pair", daemon("other", its.image, "catch"))),
        its.deploy(two("pair", daemon("other", its.image, "catch")), { name: "pair-2" }),
      ])
      const neighbours = await its.objects("pair-2")
      await its.deploy(two("pair"))
      expect((await ab.status()).resources.map(({ id }) => id)).toEqual(["connector"])
      expect((await its.objects("pair")).filter((name) => name.includes("other"))).toEqual([])
      await ab.destroy()
      expect(await its.objects("pair")).toEqual([])
      expect(await its.objects("pair-2")).toEqual(neighbours)
      await a.destroy()
      expect(await failure(a.status())).toMatchObject({ code: "DEPLOYMENT_NOT_FOUND" })
    })
  })

  describe("secrets", () => {
    const stack = () => stackOf("hidden", connector("env", "print=here"))
    const secret = "s3cr\"et $(HOME) ü"

    test("are in Secrets only; a changed one rolls the daemon, an unchanged one does not, one left out is kept", async () => {
      const told = []
      const deployment = await its.deploy(stack(), { secrets: { connector: { TOKEN: secret } }, onEvent: (event) => told.push(event) })
      expect((await until(deployment, "connector", /^here$/)).join("\n")).toContain(`env TOKEN=${secret}\n`)
      const first = await its.one(deployment, "connector")
      for (const more of [{}, { secrets: { connector: { TOKEN: secret } } }]) await its.deploy(stack(), more)
      expect((await its.one(deployment, "connector")).pod).toBe(first.pod)
      const plan = await alien.plan(stack(), its.options({ secrets: { connector: { TOKEN: "other" } } }))
      expect(plan.changes[0].fields).toEqual([{ path: "secrets.TOKEN", from: "(secret)", to: "(secret)" }])
      await its.deploy(stack(), { secrets: { connector: { TOKEN: "other" } } })
      expect((await until(deployment, "connector", /^here$/)).join("\n")).toContain("env TOKEN=other\n")
      expect(JSON.stringify([told, plan, await its.get("deployments,leases,controllerrevisions")])).not.toContain("s3cr")
      await deployment.destroy()
    })

    test("of a binding leave its JSON whole", async () => {
      await its.kubectl("create", "secret", "generic", "redis", `--from-literal=url=redis://:${secret}@r`)
      const cache = new alien.Kv("cache").build()
      const bindings = { cache: { type: "kv", service: "redis", connectionUrl: { secretRef: { name: "redis", key: "url" } } } }
      const bound = stackOf("bound", cache, connector("env", "print=here").link(cache))
      expect((await failure(its.deploy(bound))).message).toBe('the kv "cache" has no binding: Kubernetes has none of its own')
      const deployment = await its.deploy(bound, { bindings })
      const lines = await until(deployment, "connector", /^here$/)
      const line = lines.find((text) => text.startsWith("env ALIEN_CACHE_BINDING="))
      expect(JSON.parse(line.slice(line.indexOf("{")))).toEqual({ service: "redis", connectionUrl: `redis://:${secret}@r` })
      await deployment.destroy()
      await its.kubectl("delete", "secret", "redis")
    })

    test("of a vault are open to the daemon that is linked, by name, and to no other", async () => {
      for (const name of ["safe-keys-a", "safe-other"]) await its.kubectl("create", "secret", "generic", name, "--from-literal=value=1")
      const keys = new alien.Vault("keys").build()
      const deployment = await its.deploy(stackOf("safe", keys, connector("env").link(keys), daemon("stranger", its.image, "catch")))
      const can = async (who, verb, what) => (await its.run(["auth", "can-i", verb, what, `--as=system:serviceaccount:${its.namespace}:${who}`])).stdout.trim()
      expect(await can("safe-connector", "get", "secret/safe-keys-a")).toBe("yes")
      for (const [who, verb, what] of [
        ["safe-connector", "get", "secret/safe-other"], ["safe-connector", "list", "secrets"], ["safe-connector", "delete", "secret/safe-keys-a"], ["safe-stranger", "get", "secret/safe-keys-a"],
      ]) expect([who, verb, what, await can(who, verb, what)]).toEqual([who, verb, what, "no"])
      expect((await live("safe-connector")).spec.template.spec.automountServiceAccountToken).toBe(true)
      expect((await live("safe-stranger")).spec.template.spec.automountServiceAccountToken).toBe(false)
      await deployment.destroy()
      await its.kubectl("delete", "secret", "safe-keys-a", "safe-other")
    })
  })

  describe("the commands", () => {
    beforeAll(() => its.deploy(stackOf("ops", connector("count", "print=up", "tick=50"))), 60_000)
    const named = (command, ...args) => its.cli([command, "-n", "ops", ...args])

    test("logs go on through a restart, nothing lost and nothing twice", async () => {
      const deployment = await alien.connect(its.options({ name: "ops" }))
      const reading = until(deployment, "connector", /^tick 3$/, 2)
      await until(deployment, "connector", /^tick 3$/)
      await deployment.restart("connector")
      const ticks = (await reading).filter((line) => line.startsWith("tick ")).map((line) => Number(line.slice(5)))
      const again = ticks.lastIndexOf(1)
      expect(ticks.slice(0, again)).toEqual(Array.from({ length: again }, (_, index) => index + 1))
      expect(ticks.slice(again)).toEqual([1, 2, 3])
      expect((await allLines(deployment, "connector", { tail: 2 }))).toHaveLength(2)
    })

    test("exec gives output and exit code", async () => {
      const { code, stdout } = await named("exec", "connector", "--", "/bin/daemon", "print=inside", "exit=7")
      expect({ code, stdout }).toEqual({ code: 7, stdout: "inside\n" })
      const absent = await named("exec", "connector", "--", "/no/such")
      expect(absent).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: running "\/no\/such" in pod "ops-connector-.*": exec: "\/no\/such": stat \/no\/such: no such file or directory\n/) })
    })

    test("status, plan and an empty destroy speak as on every platform", async () => {
      const { code, stdout } = await named("status", "--json")
      expect(code).toBe(0)
      expect(JSON.parse(stdout)).toMatchObject({ name: "ops", platform: "kubernetes", stackId: "ops", resources: [{ id: "connector", type: "daemon", state: "running" }] })
      expect((await named("status")).stdout).toContain("ops-connector-")
      expect((await its.cli(["destroy", "-n", "none"])).stderr).toContain('There is no deployment "none"')
    })

    needs(!has("script") && "script(1) is not installed").test("a watch on a terminal shows as much as there is room for, and ends with Ctrl-C", async () => {
      const words = [process.execPath, path.join(root, "js/cli.js"), "status", "--watch", "-n", "ops", "-p", "kubernetes", "--kubeconfig", its.cluster.kubeconfig, "--namespace", its.namespace]
      const child = spawn("script", ["-qefc", `stty cols 30 rows 3; exec ${words.join(" ")}`, "/dev/null"], { env: { PATH: process.env.PATH, HOME: bed.folder, TERM: "xterm" }, stdio: ["pipe", "pipe", "inherit"] })
      let text = ""
      child.stdout.setEncoding("utf8").on("data", (piece) => (text += piece))
      const ended = new Promise((resolve) => child.on("close", resolve))
      await eventually(() => text.includes("more lines"))
      child.stdin.write("\x03")
      expect(await ended).toBe(0)
      expect(stripVTControlCharacters(text)).toContain("Deployment ops on kubernetes\r\n… 2 more lines than this term…\r\n")
    })

    test("a watch tells what becomes of it", async () => {
      const deployment = await alien.connect(its.options({ name: "ops" }))
      const seen = []
      for await (const { resources } of deployment.watch()) {
        seen.push(resources[0]?.state)
        if (seen.length === 1) deployment.destroy().catch(() => {})
      }
      expect(seen[0]).toBe("running")
      await eventually(() => its.objects("ops"), (left) => left.length === 0)
    })

    test("render prints manifests that kubectl takes, always the same", async () => {
      const stack = stackOf("drawn", connector("print=x").environment({ A: "no", B: "1", C: "a: b # c" }))
      const text = await alien.render(stack, { platform: "kubernetes" })
      expect(await alien.render(stack, { platform: "kubernetes" })).toBe(text)
      await its.kubectl("apply", "--dry-run=server", "-f", "-", { input: text })
      await its.kubectl("apply", "--server-side", "--field-manager=alien", "-f", "-", { input: text })
      expect((await alien.plan(stack, its.options())).changes[0].fields).toEqual([])
      await (await its.deploy(stack)).destroy()
    })
  })
})
