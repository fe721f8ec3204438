"use strict"

// Kubernetes, on a real cluster: what a deploy makes, changes, brings back and removes, and what a person reads when it
// does not come up.

const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, needs, stackOf, testBed, until } = require("./lib/bed.js")
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
      expect(spec).toMatchObject({ replicas: 1, strategy: { type: "Recreate" }, minReadySeconds: 1 })
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
      expect((await live()).spec.minReadySeconds).toBe(1)
    })

    test("never touches an object that is somebody else's", async () => {
      await its.kubectl("create", "serviceaccount", "taken-connector")
      const error = await failure(its.deploy(stackOf("taken", connector())))
      expect(error.code).toBe("NAME_TAKEN")
      expect(error.message).toContain('ServiceAccount "taken-connector" in namespace "alien-test" is somebody else\'s')
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

  describe("what does not come up", () => {
    const alone = (id, builder, more) => its.deploy(stackOf(id, builder), more)
    const gone = async (name) => (await alien.connect(its.options({ name }))).destroy()

    test("is told in the pod's own words: an image that is not there", async () => {
      const error = await failure(alone("noimage", daemon("connector", `${its.registry}/test/none:1`)))
      expect(error.code).toBe("DAEMON_NOT_UP")
      expect(error.message).toMatch(/^daemon "connector" does not come up: (ErrImagePull|ImagePullBackOff): .*test\/none:1.*not found/s)
      await gone("noimage")
    })

    test("a program that ends: its exit code and last lines; a first version stays as it is", async () => {
      const error = await failure(alone("ends", daemon("connector", its.image, "print=one", "print=last words", "exit=3")))
      expect(error).toMatchObject({ code: "DAEMON_NOT_UP", context: { reason: "CrashLoopBackOff", lastExit: { code: 3, oom: false } } })
      expect(error.message).toMatch(/CrashLoopBackOff: its program ended with exit code 3 \(pod "ends-connector-.*"\)\n {2}its last lines:\n {4}one\n {4}last words$/)
      const deployment = await alien.connect(its.options({ name: "ends" }))
      expect(await its.one(deployment, "connector")).toMatchObject({ state: "crash-looping", lastExit: { code: 3 } })
      expect((await allLines(deployment, "connector", { previous: true })).map(({ line }) => line)).toEqual(["one", "last words"])
      await gone("ends")
    })

    test("a program that cannot be started", async () => {
      const error = await failure(alone("nothere", daemon("connector", its.image).command(["/not/there"])))
      expect(error.message).toMatch(/(StartError|RunContainerError): .*\/not\/there/)
      await gone("nothere")
    })

    test("no node with room", async () => {
      const told = []
      const error = await failure(alone("big", connector().cpu({ min: 500, desired: 500 }), { onEvent: (event) => event.message && told.push(event.message) }))
      expect(error.message).toMatch(/^daemon "connector" does not come up: Unschedulable: .*Insufficient cpu/)
      expect(told[0]).toMatch(/^Unschedulable: /)
      await gone("big")
    })

    test("a quota, and Pod Security", async () => {
      await its.kubectl("create", "quota", "none", "--hard=pods=0")
      const quota = await failure(alone("quota", connector()))
      expect(quota.message).toMatch(/^daemon "connector" does not come up: FailedCreate: .*exceeded quota: none/)
      await its.kubectl("delete", "quota", "none")
      await gone("quota")
      await its.kubectl("label", "namespace", its.namespace, "pod-security.kubernetes.io/enforce=restricted")
      const refused = await failure(alone("secure", connector()))
      await its.kubectl("label", "namespace", its.namespace, "pod-security.kubernetes.io/enforce-")
      expect(refused.message).toMatch(/FailedCreate: .*violates PodSecurity "restricted:latest"/)
      await gone("secure")
    })

    test("of an update is taken back whole, and said so; keep leaves it; rollback brings back the one before", async () => {
      const good = stackOf("upd", connector("print=good"))
      const bad = stackOf("upd", daemon("connector", its.image, "print=bad", "exit=4"))
      const deployment = await its.deploy(good, { secrets: { connector: { TOKEN: "old" } } })
      const error = await failure(its.deploy(bad, { secrets: { connector: { TOKEN: "new" } } }))
      expect(error.code).toBe("UPDATE_ROLLED_BACK")
      expect(error.message).toMatch(/did not come up: CrashLoopBackOff: its program ended with exit code 4\. The version before runs again\.\n {2}its last lines:\n {4}bad$/)
      const status = await its.one(deployment, "connector")
      expect(status).toMatchObject({ state: "running", conditions: expect.arrayContaining([expect.objectContaining({ type: "RolledBack", status: "True" })]) })
      expect((await alien.plan(good, its.options())).changes[0].action).toBe("none")
      expect((await its.objects("upd")).filter((name) => /^(Secret|ControllerRevision)/.test(name))).toHaveLength(1)
      expect(await failure(deployment.rollback("connector"))).toMatchObject({ code: "NO_PREVIOUS_VERSION" })
      const kept = await failure(its.deploy(bad, { kubernetes: { onFailure: "keep" } }))
      expect(kept.code).toBe("DAEMON_NOT_UP")
      expect(await its.one(deployment, "connector")).toMatchObject({ state: "crash-looping" })
      await deployment.rollback("connector")
      await until(deployment, "connector", /^good$/)
      await deployment.destroy()
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
    })

    test("status, plan and an empty destroy speak as on every platform", async () => {
      const { code, stdout } = await named("status", "--json")
      expect(code).toBe(0)
      expect(JSON.parse(stdout)).toMatchObject({ name: "ops", platform: "kubernetes", stackId: "ops", resources: [{ id: "connector", type: "daemon", state: "running" }] })
      expect((await named("status")).stdout).toContain("ops-connector-")
      expect((await its.cli(["destroy", "-n", "none"])).stderr).toContain('There is no deployment "none"')
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

  describe("access", () => {
    test("the least Role is enough, and without it each missing right is named before anything is changed", async () => {
      await its.kubectl("create", "serviceaccount", "ci")
      const token = (await its.kubectl("create", "token", "ci")).trim()
      const config = JSON.parse(await its.kubectl("config", "view", "--raw", "-o", "json"))
      config.users = [{ name: "ci", user: { token } }]
      config.contexts = [{ name: "ci", context: { cluster: config.clusters[0].name, user: "ci", namespace: its.namespace } }]
      config["current-context"] = "ci"
      const file = `${bed.folder}/ci.kubeconfig`
      require("node:fs").writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
      const options = { kubernetes: { kubeconfig: file, namespace: undefined } }
      const stack = stackOf("least", connector("print=up"))
      const error = await failure(its.deploy(stack, options))
      expect(error.code).toBe("PREFLIGHT_FAILED")
      expect(error.message).toContain(`may not get, list, watch, create, patch, delete deployments.apps in namespace "${its.namespace}"`)
      expect(error.message).not.toContain(token)
      await its.kubectl("apply", "-f", "-", { input: (await its.cli(["render", "--rbac"])).stdout })
      await its.kubectl("create", "rolebinding", "ci", "--role=alien-deployer", `--serviceaccount=${its.namespace}:ci`)
      const deployment = await its.deploy(stack, options)
      await its.deploy(stackOf("least", connector("print=new")), { ...options, secrets: { connector: { T: "x" } } })
      await until(deployment, "connector", /^new$/)
      await deployment.status()
      await deployment.destroy()
      expect(await its.objects("least")).toEqual([])
      await its.kubectl("delete", "rolebinding/ci", "role/alien-deployer", "serviceaccount/ci")
    })

    test.each([
      ["a context that is not there", (its) => ({ kubeconfig: its.cluster.kubeconfig, context: "nowhere" }), /has no context "nowhere"/],
      ["a file that is not there", () => ({ kubeconfig: "/nowhere/config" }), /no kubeconfig says which cluster to use: there is no \/nowhere\/config/],
      ["a namespace that is not there", (its) => ({ kubeconfig: its.cluster.kubeconfig, namespace: "nowhere" }), /namespaces "nowhere" not found/],
    ])("%s is said", async (_, kubernetes, message) => {
      const error = await failure(its.deploy(stackOf("lost", connector()), { kubernetes: kubernetes(its) }))
      expect(error.message).toMatch(message)
    })

    test("two deploys of one name: one waits and says so", async () => {
      const waited = []
      const stack = (text) => stackOf("twice", connector(`print=${text}`))
      const one = (text) => its.deploy(stack(text), { onEvent: (event) => event.type === "waiting" && waited.push(event.message) })
      const [deployment] = await Promise.all([one("a"), one("a")])
      expect(waited).toEqual([expect.stringMatching(/^another deploy of "twice" is under way \(.* process \d+ .*\); waiting for it$/)])
      expect((await its.objects("twice")).filter((name) => name.startsWith("Pod/"))).toHaveLength(1)
      await deployment.destroy()
    })
  })
})
