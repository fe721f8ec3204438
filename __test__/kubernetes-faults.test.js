"use strict"

// What goes wrong between here and a cluster, and in it: each fault is a real one, or one answer of the real server that is
// delayed, lost or refused on its way. Whatever it is, the wanted state is there afterwards, once, and a person was told.

const crypto = require("node:crypto")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, eventually, failure, needs, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")

jest.setTimeout(120_000)

const cannot = process.env.ALIEN_TEST_KUBECONFIG ? "faults are made in a cluster of one's own" : missing()

/** What there is besides once a daemon was updated: the version before, for a rollback. */
const UPDATED = ["ControllerRevision", "ReplicaSet"]

needs(cannot).describe("a fault", () => {
  const bed = testBed()
  const its = testCluster(bed)
  let proxy
  let admin
  const connector = (...steps) => daemon("connector", its.image, "catch", ...steps)
  const isChange = ({ method }) => method !== "GET"

  /** Options of a call that goes through the proxy, as the account of this token. */
  const via = (token, more = {}) => {
    const file = path.join(bed.folder, `${crypto.randomUUID()}.kubeconfig`)
    fs.writeFileSync(file, JSON.stringify(proxy.kubeconfig(token, its.namespace)), { mode: 0o600 })
    return its.options({ ...more, kubernetes: { kubeconfig: file, ...more.kubernetes } })
  }
  const through = (more) => via(admin, more)
  /** An account that may do everything, and a token of it. */
  const account = async (name) => {
    await its.kubectl("create", "serviceaccount", name)
    await its.kubectl("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", `--serviceaccount=${its.namespace}:${name}`)
    return (await its.kubectl("create", "token", name)).trim()
  }
  /** Listens: `said` are the sentences of events, `waits` those of waiting alone. */
  const listener = (hear = () => {}) => {
    const heard = { said: [], waits: [] }
    const onEvent = (event) => {
      if (event.message) heard.said.push(event.message)
      if (event.type === "waiting") heard.waits.push(event.message)
      hear(event)
    }
    heard.options = { onEvent }
    return heard
  }
  /** The wanted state, once, with nobody who holds the Lease. */
  const settled = async (name, ...more) => {
    const expected = ["Deployment", "Lease", "Pod", "ReplicaSet", "ServiceAccount", ...more].sort()
    // Controllers that did not hear that they had made a pod make another one, and take it back.
    await eventually(async () => (await its.objects(name)).map((object) => object.split("/")[0]), (kinds) => kinds.join() === expected.join())
    expect((await its.get("lease", `alien-${name}`)).spec.holderIdentity).toBeUndefined()
    const deployment = await alien.connect(its.options({ name }))
    expect(await its.one(deployment, "connector")).toMatchObject({ state: "running", restarts: 0 })
    return deployment
  }
  const gone = async (deployment) => {
    await deployment.destroy()
    expect(await its.objects(deployment.name)).toEqual([])
  }

  beforeAll(async () => {
    proxy = await (await tool("faulty-apiserver.mjs")).serveFaulty(its.cluster)
    bed.later(proxy.close)
    admin = await account("admin")
  })

  beforeEach(() => {
    proxy.fault = () => undefined
    proxy.asked.length = 0
  })

  describe("of the server:", () => {
    test.each(["starting", "updating"])("killed with -9 while a daemon is %s, and started again", async (state) => {
      // The pod that is replaced takes 3 s to end.
      const steps = ["print=one", "catch=3000"]
      if (state === "updating") await its.deploy(stackOf(state, connector(...steps)))
      let killed = false
      const heard = listener((event) => {
        if (killed || event.state !== state) return
        killed = true
        its.cluster.component("apiserver", "KILL")
      })
      const deploying = its.deploy(stackOf(state, connector("print=two")), heard.options)
      await eventually(() => heard.waits, ({ length }) => length > 0)
      expect(heard.waits[0]).toMatch(/^.*: https:\/\/.* cannot be reached: .*; trying again$/)
      its.cluster.component("apiserver", "start")
      await deploying
      await gone(await settled(state, ...(state === "updating" ? UPDATED : [])))
    })

    test.each([["does not answer", "STOP", "CONT"], ["is killed and started again", "KILL", "start"]])("its etcd %s, for 10 seconds in the middle of an update", async (_, action, end) => {
      const name = end.toLowerCase()
      await its.deploy(stackOf(name, connector("print=one")))
      let away
      const heard = listener(({ state }) => {
        if (state !== "updating" || away) return
        its.cluster.component("etcd", action)
        // The time is the fault.
        away = new Promise((resolve) => setTimeout(resolve, 10_000)).then(() => its.cluster.component("etcd", end))
      })
      await its.deploy(stackOf(name, connector("print=two")), heard.options)
      await away
      expect(heard.waits[0]).toMatch(/: https:\/\/.* has not answered for 5s; waiting for it$/)
      await gone(await settled(name, ...UPDATED))
    })

    test("it is too busy: it is left alone for as long as it says, and every change is asked for again", async () => {
      const seen = new Map()
      proxy.fault = (asked) => {
        const key = `${asked.method} ${asked.path} ${asked.query}`
        seen.set(key, (seen.get(key) ?? 0) + 1)
        if (isChange(asked) && seen.get(key) <= 2) return seen.get(key) === 1 ? { status: 429, retryAfter: 1 } : { status: 503 }
      }
      const heard = listener()
      await alien.deploy(stackOf("busy", connector()), through(heard.options))
      expect(heard.waits[0]).toMatch(/: a fault that a test asked for: 503; trying again$/)
      const [first, second, third] = proxy.asked.filter(({ method, path, query }) => method === "PATCH" && path.endsWith("/deployments/busy-connector") && !query.has("dryRun"))
      expect([first, second, third].map(({ status }) => status)).toEqual([429, 503, 201])
      expect(second.at - first.at).toBeGreaterThanOrEqual(1000)
      await gone(await settled("busy"))
    })

    test("it fails for ever: the call ends in its time and says with what; the next one goes on", async () => {
      proxy.fault = ({ method, path, query }) => (method === "PATCH" && path.includes("/deployments/") && !query.has("dryRun") ? { status: 500 } : undefined)
      const error = await failure(alien.deploy(stackOf("fails", connector()), through({ timeoutMs: 4000 })))
      expect(error).toMatchObject({ code: "TIMEOUT", retryable: true })
      expect(error.message).toBe(`not done within 4 s; it was waiting (applying Deployment "fails-connector" in namespace "${its.namespace}": a fault that a test asked for: 500; trying again)`)
      expect((await its.get("lease", "alien-fails")).spec.holderIdentity).toBeUndefined()
      proxy.fault = () => undefined
      await alien.deploy(stackOf("fails", connector()), through())
      await gone(await settled("fails"))
    })

    test("it is of a version that this is not made for: said, and gone on", async () => {
      proxy.fault = ({ path }) => (path === "/version" ? { edit: (info) => ({ ...info, minor: "20", gitVersion: "v1.20.4" }) } : undefined)
      let report
      await alien.deploy(stackOf("ancient", connector()), through({ onEvent: (event) => event.type === "preflight" && ({ report } = event) }))
      expect(report.checks.find(({ id }) => id === "kubernetes-access")).toMatchObject({
        status: "warning", issues: [{ message: expect.stringMatching(/^the cluster is of version v1\.20\.4; this is made for 1\.\d+ to 1\.\d+, and goes on all the same$/) }],
      })
      await gone(await settled("ancient"))
    })

    test("it takes a second over every answer: nobody waits for more answers than has to be", async () => {
      const { chain } = await tool("faulty-apiserver.mjs")
      const stack = stackOf("slow", connector())
      proxy.fault = () => ({ delay: 1000 })
      const chains = {}
      const measured = async (what, call) => {
        proxy.asked.length = 0
        const result = await call()
        chains[what] = { chain: chain(proxy.asked), requests: proxy.asked.length }
        return result
      }
      const deployment = await measured("deploy", () => alien.deploy(stack, through()))
      await measured("nothing to change", () => alien.deploy(stack, through()))
      await measured("status", () => deployment.status())
      await measured("destroy", () => deployment.destroy())
      expect(chains).toMatchObject({ "nothing to change": { chain: 2 }, status: { chain: 2 } })
      // A renewal of the Lease may come between.
      expect(chains.deploy.chain).toBeLessThanOrEqual(13)
      expect(chains.destroy.chain).toBeLessThanOrEqual(8)
      // Version and rights, and what there is: one list for each of nine kinds at most.
      expect(chains["nothing to change"].requests).toBeLessThanOrEqual(3 + 9)
      expect(await its.objects("slow")).toEqual([])
    })
  })

  describe("of the connection:", () => {
    test("the answer to every change is lost once, after the server has made it", async () => {
      const lost = new Set()
      proxy.fault = (asked) => {
        const key = `${asked.method} ${asked.path}`
        if (!isChange(asked) || asked.query.has("dryRun") || lost.has(key)) return undefined
        lost.add(key)
        return { cut: "after" }
      }
      const heard = listener()
      const secrets = (value) => ({ secrets: { connector: { TOKEN: value } }, ...heard.options })
      await alien.deploy(stackOf("lost", connector("print=one")), through(secrets("a")))
      lost.clear()
      const deployment = await alien.deploy(stackOf("lost", connector("print=two")), through(secrets("b")))
      expect(heard.waits).toEqual([])
      await settled("lost", ...UPDATED, "Secret", "Secret")
      lost.clear()
      await deployment.destroy()
      expect([...lost].filter((key) => key.startsWith("DELETE"))).not.toEqual([])
      expect(await its.objects("lost")).toEqual([])
    })

    test("every watch is cut after each event, during a rollout and a removal", async () => {
      proxy.fault = ({ watch }) => (watch ? { events: 1 } : undefined)
      const deployment = await alien.deploy(stackOf("cuts", connector("print=one")), through())
      await alien.deploy(stackOf("cuts", connector("print=two")), through())
      expect(proxy.asked.filter(({ watch }) => watch).length).toBeGreaterThan(8)
      await settled("cuts", ...UPDATED)
      await deployment.destroy()
      expect(await its.objects("cuts")).toEqual([])
    })

    test("a log that is followed is cut again and again: nothing is lost, nothing comes twice", async () => {
      const deployment = await alien.deploy(stackOf("talk", connector("print=up", "tick=20")), through())
      let cuts = 0
      proxy.fault = ({ path }) => {
        if (!path.endsWith("/log")) return undefined
        cuts += 1
      }
      const ticks = []
      for await (const { line } of deployment.logs("connector", { follow: true, signal: AbortSignal.timeout(30_000) })) {
        if (line.startsWith("tick ")) ticks.push(Number(line.slice(5)))
        if (ticks.length % 40 === 39) proxy.cutStreams()
        if (cuts > 4 && ticks.length > 250) break
      }
      expect(ticks).toEqual(Array.from({ length: ticks.length }, (_, index) => index + 1))
      await gone(deployment)
    })

    test("a watch is too old to be gone on with (410): everything is listed anew, and half a list is not taken for the whole", async () => {
      // Its pod takes 3 s to end, and is there for as long as the lists are held.
      const deployment = await alien.deploy(stackOf("old", daemon("connector", its.image, "catch=3000")), through())
      proxy.asked.length = 0
      const watched = () => proxy.asked.filter(({ watch }) => watch)
      const ended = new Map()
      proxy.fault = async (asked) => {
        if (asked.watch) return watched().filter(({ path }) => path === asked.path).length === 1 ? { old: true } : undefined
        if (asked.method === "GET" && watched().some(({ path }) => path === asked.path)) return { delay: 1000 }
        if (asked.method === "DELETE") ended.set(asked.path, (await its.objects("old")).filter((name) => name.startsWith("Pod/")).length)
      }
      await deployment.destroy()
      expect(await its.objects("old")).toEqual([])
      for (const kind of ["pods", "deployments"]) {
        const asked = proxy.asked.filter(({ method, path }) => method === "GET" && path.endsWith(`/${kind}`))
        const first = asked.findIndex(({ watch }) => watch)
        expect(asked.slice(first).map(({ watch }) => watch)).toEqual([true, false, true])
      }
      // What its pod uses went after it.
      const [account] = [...ended].filter(([path]) => path.includes("/serviceaccounts/"))
      expect(account[1]).toBe(0)
    })

    test("a log goes on through a relist", async () => {
      const deployment = await alien.deploy(stackOf("relist", connector("print=up", "tick=20")), through())
      let old = 0
      proxy.fault = async ({ watch, method, path }) => {
        if (watch && old < 4) return (old += 1, { old: true })
        // While the log is opened again, nothing is listed yet.
        if (method === "GET" && /\/(pods|deployments)$/.test(path) && old > 0) return { delay: 500 }
      }
      const ticks = []
      let cut = 0
      for await (const { line } of deployment.logs("connector", { follow: true, signal: AbortSignal.timeout(30_000) })) {
        if (line.startsWith("tick ")) ticks.push(Number(line.slice(5)))
        if (ticks.length === 20 * (cut + 1)) cut += Math.sign(proxy.cutStreams())
        if (old === 4 && ticks.length > 200) break
      }
      expect(ticks).toEqual(Array.from({ length: ticks.length }, (_, index) => index + 1))
      await gone(deployment)
    })
  })

  describe("of the account:", () => {
    /** As the API server would sign it, but of yesterday. */
    const expired = (token) => {
      const [header, claims] = token.split(".").slice(0, 2).map((part) => JSON.parse(Buffer.from(part, "base64url")))
      const day = 24 * 3600
      const old = { ...claims, exp: claims.exp - day, iat: claims.iat - day, nbf: claims.nbf - day }
      const signed = [header, old].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".")
      const key = fs.readFileSync(path.join(its.cluster.dir, "pki/sa.key"))
      const how = header.alg.startsWith("ES") ? { key, dsaEncoding: "ieee-p1363" } : key
      return `${signed}.${crypto.sign("sha256", Buffer.from(signed), how).toString("base64url")}`
    }
    const hint = "the token or certificate has expired, or is of another cluster: log in again"

    test("its token has expired", async () => {
      const token = expired(admin)
      const deploy = await failure(alien.deploy(stackOf("expired", connector()), via(token)))
      expect(deploy).toMatchObject({ code: "PREFLIGHT_FAILED", hint })
      const list = await failure(alien.deployments(via(token)))
      expect(list).toMatchObject({ code: "CLUSTER_UNAUTHORIZED", httpStatusCode: 401, retryable: false, hint })
      for (const error of [deploy, list]) {
        expect(error.message).toBe(`${proxy.url} does not accept the credentials: Unauthorized`)
        expect(JSON.stringify(error)).not.toContain(token.slice(-40))
      }
      expect(await its.objects("expired")).toEqual([])
    })

    test.each(["as its objects are made", "while it comes up"])("it is removed in the middle of a deploy, %s; another one goes on", async (when) => {
      const name = when.startsWith("as") ? "made" : "waits"
      const token = await account(name)
      const config = via(token).kubernetes.kubeconfig
      const remove = async () => {
        await its.kubectl("delete", "serviceaccount", name)
        // A server remembers for 10 seconds whom it has let in.
        await eventually(() => its.run(["get", "pods", "--kubeconfig", config]), ({ code }) => code !== 0)
      }
      const heard = listener()
      // Nothing comes up without it.
      if (name === "waits") its.cluster.component("kubelet", "STOP")
      let removed
      proxy.fault = async ({ method, path, query }) => {
        if (name === "made" && method === "PATCH" && path.includes("/deployments/") && !query.has("dryRun")) await (removed ??= remove())
        if (name === "waits" && path.endsWith("/pods") && query.has("watch")) removed ??= remove().then(() => proxy.cutStreams())
      }
      const error = await failure(alien.deploy(stackOf(name, connector()), via(token, heard.options)))
      await removed
      expect(error).toMatchObject({ code: "CLUSTER_UNAUTHORIZED", hint })
      expect(JSON.stringify([error, heard.said])).not.toContain(token.slice(-40))
      if (name === "waits") its.cluster.component("kubelet", "CONT")
      proxy.fault = () => undefined
      // The Lease of the one before is nobody's once it has run out.
      await alien.deploy(stackOf(name, connector("print=again")), through())
      await gone(await settled(name, ...(name === "waits" ? UPDATED : [])))
      await its.kubectl("delete", "clusterrolebinding", name)
    })
  })

  describe("of the node:", () => {
    test("its kubelet is silent: deploy, update, status and destroy say so, and go on once it is back", async () => {
      const [steady, leaving] = [await its.deploy(stackOf("steady", connector("print=one"))), await its.deploy(stackOf("leaving", connector()))]
      its.cluster.component("kubelet", "STOP")
      const [fresh, update, removal] = [listener(), listener(), listener()]
      const calls = [
        its.deploy(stackOf("fresh", connector()), fresh.options),
        its.deploy(stackOf("steady", connector("print=two")), update.options),
        leaving.destroy(removal.options),
      ]
      const silent = /NodeNotReady: the node "node" does not answer: Kubelet stopped posting node status/
      for (const { said } of [fresh, update, removal]) await eventually(() => said, () => said.some((message) => silent.test(message)), 40_000)
      const [condition] = (await its.one(steady, "connector")).conditions
      expect(condition).toMatchObject({ type: "Ready", status: "False", reason: "NodeNotReady", message: expect.stringMatching(/^NodeNotReady: the node "node" does not answer/) })
      // One that begins only now is not given a node at all.
      const late = listener()
      calls.push(its.deploy(stackOf("late-one", connector()), late.options))
      await eventually(() => late.said, ([message]) => /^NodeNotReady: 0\/1 nodes are available: /.test(message))
      its.cluster.component("kubelet", "CONT")
      await Promise.all(calls)
      expect(await its.objects("leaving")).toEqual([])
      for (const [name, ...more] of [["fresh"], ["steady", ...UPDATED]]) await gone(await settled(name, ...more))
      await gone(await alien.connect(its.options({ name: "late-one" })))
    })
  })
})
