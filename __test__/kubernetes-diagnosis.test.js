"use strict"

// What a person reads when a daemon does not come up in a cluster: the cluster's own reason, as soon as it has one.
// Each waits at the cluster's pace, so they are tried side by side, those that close a namespace in one of their own.

const https = require("node:https")
const path = require("node:path")
const fs = require("node:fs")
const { execFileSync } = require("node:child_process")
const alien = require("@alienplatform/core")
const { allLines, daemon, eventually, failure, needs, stackOf, testBed, together, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")

jest.setTimeout(120_000)

needs(missing()).describe("what does not come up in a cluster", () => {
  const bed = testBed()
  const its = testCluster(bed)
  const steady = (...steps) => daemon("d", its.image, "catch", ...steps)

  /** Deploys what cannot come up: the error, and what was told before it. */
  async function attempt(space, id, builder, more) {
    const told = []
    const error = await space.refused(stackOf(id, builder), { onEvent: (event) => event.type === "resource" && told.push(event.message), ...more })
    return { error, told: told.filter(Boolean) }
  }

  describe("a first version", () => {
    const HUNGRY = "a program that takes more memory than it may"
    const KILLED = "a program that somebody kills"
    /** Its status, once the cluster tells that: containerd misses some such ends, and it has one in each run. */
    async function toldAsOom(index) {
      const deployment = await its.connect(`first-${index}`)
      return eventually(() => its.one(deployment, "d"), ({ state, lastExit }) => state === "crash-looping" && lastExit?.oom, 90_000)
    }
    /** By what keeps it: the namespace, what is deployed, and what is said of it. */
    const CASES = {
      "an image that is not there": [() => daemon("d", `${its.registry}/test/none:1`), /^(ErrImagePull|ImagePullBackOff): .*test\/none:1.*not found/s],
      "a program that cannot be started": [
        () => daemon("d", its.image).command(["/not/there"]),
        /^(StartError: the program cannot be started|RunContainerError): exec: "\/not\/there": stat \/not\/there: no such file or directory( \(pod "[a-z0-9-]+"\))?$/,
      ],
      "a program that ends": [
        () => daemon("d", its.image, "print=one", "print=last words", "exit=3"),
        /^CrashLoopBackOff: its program ended with exit code 3 \(pod "[a-z0-9-]+"\)\nIts last lines:\n {2}one\n {2}last words$/,
        { lastExit: { code: 3, oom: false }, lastLines: ["one", "last words"] },
      ],
      "a program that a signal ends": [
        () => daemon("d", its.image, "print=oh", "crash=SIGSEGV"),
        /^CrashLoopBackOff: its program ended with SIGSEGV \(pod "[a-z0-9-]+"\)\nIts last lines:\n {2}oh$/,
        { lastExit: { signal: "SIGSEGV", oom: false } },
      ],
      // What a process 1 that is killed looks like; by itself it could not do that.
      [KILLED]: [() => daemon("d", its.image, "exit=137"), /^CrashLoopBackOff: its program ended with SIGKILL \(pod "[a-z0-9-]+"\)\nIt printed nothing\.$/, { lastExit: { signal: "SIGKILL", oom: false } }],
      [HUNGRY]: [
        () => daemon("d", its.image, "print=hungry", `eat=${64 << 20}`).memory({ min: "8Mi", desired: "16Mi" }),
        /^CrashLoopBackOff: its program ended with OOMKilled: it took more memory than its limit/,
        { lastExit: { signal: "SIGKILL", oom: true } },
      ],
      "no node with room": [() => steady().cpu({ min: 500, desired: 500 }), /^Unschedulable: .*Insufficient cpu/],
      "a quota": [() => steady(), /^FailedCreate: .*exceeded quota: none/, {}, (space) => space.kubectl("create", "quota", "none", "--hard=pods=0")],
      "a LimitRange": [
        () => steady().memory("64Mi"),
        /^FailedCreate: .*maximum memory usage per Container is 16Mi, but limit is 64Mi/,
        {},
        (space) => space.put({ apiVersion: "v1", kind: "LimitRange", metadata: { name: "small" }, spec: { limits: [{ type: "Container", max: { memory: "16Mi" } }] } }),
      ],
      "Pod Security": [
        () => steady(),
        /^FailedCreate: .*violates PodSecurity "restricted:latest"/,
        {},
        (space) => space.kubectl("label", "namespace", space.namespace, "pod-security.kubernetes.io/enforce=restricted"),
      ],
    }
    const tried = {}

    beforeAll(async () => {
      const one = async ([name, [build, , , close]], index) => {
        const space = close ? await its.another(`closed-${index}`) : its
        await close?.(space)
        tried[name] = await attempt(space, `first-${index}`, build())
        if (name === HUNGRY && !tried[name].error.context.lastExit.oom) {
          await toldAsOom(index)
          tried[name] = await attempt(space, `first-${index}`, build())
        }
      }
      await Promise.all(Object.entries(CASES).map(one))
    }, 120_000)

    test.each(Object.keys(CASES))("is kept by %s: code, reason and words, told before it is given up", (name) => {
      const [, message, context = {}] = CASES[name]
      const { error, told } = tried[name]
      expect(error).toBeInstanceOf(alien.AlienError)
      const reason = error.message.match(/does not come up: (\w+): /)?.[1]
      expect(error).toMatchObject({ code: "DAEMON_NOT_UP", hint: expect.any(String), context: { daemon: "d", reason, ...context } })
      expect(error.message.replace('daemon "d" does not come up: ', "")).toMatch(message)
      expect(told).toContainEqual(expect.stringMatching(new RegExp(`^${reason}: `)))
    })

    test("of a kill that the cluster does not explain, what may be behind it is said", () => {
      expect(tried[KILLED].error.hint).toMatch(/^if nobody sent it that, memory was wanting: not every such end is told as one; it is left crash-looping; see `alien logs d --previous`/)
      expect(tried[HUNGRY].error.hint).toMatch(/^it is left crash-looping; /)
    })

    test("is left as it is, to be looked at", async () => {
      const index = Object.keys(CASES).indexOf("a program that ends")
      const deployment = await its.connect(`first-${index}`)
      expect(await its.one(deployment, "d")).toMatchObject({ state: "crash-looping", lastExit: { code: 3 }, conditions: [{ type: "Ready", status: "False", reason: "CrashLoopBackOff" }] })
      expect((await allLines(deployment, "d", { previous: true })).map(({ line }) => line)).toEqual(["one", "last words"])
      expect(await toldAsOom(Object.keys(CASES).indexOf(HUNGRY))).toMatchObject({ state: "crash-looping", lastExit: { signal: "SIGKILL", oom: true } })
    })
  })

  describe("what it needs is taken away behind its back", () => {
    const restarted = async (deployment) => failure(deployment.restart("d"))
    const deployed = (id) => its.deploy(stackOf(id, steady("print=up")), { secrets: { d: { TOKEN: "s3cret" } } })
    const secretOf = async (id) => (await its.objects(id)).find((name) => name.startsWith("Secret/")).slice("Secret/".length)
    const again = (id) => its.deploy(stackOf(id, steady("print=up")), { secrets: { d: { TOKEN: "s3cret" } } })

    together({
      "its Secret": async () => {
        const deployment = await deployed("nosecret")
        const secret = await secretOf("nosecret")
        await its.kubectl("delete", "secret", secret)
        const error = await restarted(deployment)
        expect(error).toMatchObject({ code: "DAEMON_NOT_UP", context: { reason: "CreateContainerConfigError" }, hint: expect.stringContaining("deploying again makes it anew") })
        expect(error.message).toMatch(new RegExp(`^daemon "d" does not come up: CreateContainerConfigError: secret "${secret}" not found`))
        expect(await its.one(deployment, "d")).toMatchObject({ state: "failed", conditions: [{ status: "False", reason: "CreateContainerConfigError" }] })
        // Without its value it cannot be made anew; that is said by name, and nothing is changed.
        const lost = await failure(its.deploy(stackOf("nosecret", steady("print=up"))))
        expect(lost.message).toContain(`the values of TOKEN of daemon "d" are lost: the Secret "${secret}" does not hold them any more`)
        await again("nosecret")
        expect(await its.one(deployment, "d")).toMatchObject({ state: "running" })
      },

      "a key of its Secret": async () => {
        const deployment = await deployed("nokey")
        const secret = await secretOf("nokey")
        await its.kubectl("delete", "secret", secret)
        await its.kubectl("create", "secret", "generic", secret, "--from-literal=OTHER=1")
        const error = await restarted(deployment)
        expect(error.message).toMatch(new RegExp(`^daemon "d" does not come up: CreateContainerConfigError: couldn't find key TOKEN in Secret ${its.namespace}/${secret}`))
        await its.kubectl("delete", "secret", secret)
        await again("nokey")
        expect(await its.one(deployment, "d")).toMatchObject({ state: "running" })
      },

      "its ServiceAccount": async () => {
        const deployment = await deployed("noaccount")
        await its.kubectl("delete", "serviceaccount", "noaccount-d")
        await its.kubectl("delete", "pod", "-l", "app.kubernetes.io/instance=noaccount")
        const status = await eventually(() => its.one(deployment, "d"), ({ state }) => state === "failed")
        expect(status.conditions).toEqual([expect.objectContaining({ type: "Ready", status: "False", reason: "FailedCreate", message: expect.stringContaining('serviceaccount "noaccount-d" not found') })])
        const error = await restarted(deployment)
        expect(error.message).toMatch(/^daemon "d" does not come up: FailedCreate: .*serviceaccount "noaccount-d" not found$/)
        expect(error.hint).toBe("its ServiceAccount is gone; deploying again makes it anew")
        await again("noaccount")
        expect(await its.one(deployment, "d")).toMatchObject({ state: "running" })
      },
    })
  })

  describe("a policy of the cluster", () => {
    const POLICY = `alien-test-${process.pid}`
    /** How many it was asked about, by kind. */
    const asked = []
    let ca
    let url

    beforeAll(async () => {
      const [key, certificate] = ["webhook.key", "webhook.crt"].map((name) => path.join(bed.folder, name))
      execFileSync("openssl", [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=webhook",
        "-addext", `subjectAltName=IP:${its.cluster.hostAddress}`, "-keyout", key, "-out", certificate,
      ], { stdio: "pipe" })
      const server = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(certificate) }, async (request, response) => {
        const chunks = []
        for await (const chunk of request) chunks.push(chunk)
        const { request: { uid, kind } } = JSON.parse(Buffer.concat(chunks))
        asked.push(kind.kind)
        const answer = { uid, allowed: false, status: { code: 403, message: "no changes on Fridays" } }
        response.setHeader("content-type", "application/json").end(JSON.stringify({ apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response: answer }))
      })
      await new Promise((resolve) => server.listen(0, its.cluster.hostAddress, resolve))
      bed.later(() => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())))
      url = `https://${its.cluster.hostAddress}:${server.address().port}/`
      ca = fs.readFileSync(certificate).toString("base64")
    })

    const inside = ({ namespace }) => ({ matchLabels: { "kubernetes.io/metadata.name": namespace } })
    async function withWebhook(space, resource, group, work) {
      const name = `${POLICY}-${resource}.example.com`
      await space.put({
        apiVersion: "admissionregistration.k8s.io/v1",
        kind: "ValidatingWebhookConfiguration",
        metadata: { name },
        webhooks: [{
          name,
          admissionReviewVersions: ["v1"],
          clientConfig: { url, caBundle: ca },
          namespaceSelector: inside(space),
          rules: [{ apiGroups: [group], apiVersions: ["v1"], operations: ["CREATE"], resources: [resource] }],
          sideEffects: "None",
        }],
      })
      try {
        return await work(name)
      } finally {
        await space.kubectl("delete", "validatingwebhookconfiguration", name)
      }
    }

    /** A policy holds a moment after it was made: asked until it does, with what is never stored. */
    const holds = (space, what) => eventually(() => space.run(["create", ...what, "--dry-run=server"]), ({ code }) => code !== 0)
    const DEPLOYMENT = ["deployment", "probe", "--image=x"]
    const PROBE = { apiVersion: "v1", kind: "Pod", metadata: { name: "probe" }, spec: { containers: [{ name: "p", image: "x" }] } }

    together({
      "a webhook that says no to its Deployment: nothing is made": async () => {
        const space = await its.another("webhook")
        await withWebhook(space, "deployments", "apps", async (name) => {
          await holds(space, DEPLOYMENT)
          for (const call of [() => space.deploy(stackOf("friday", steady())), () => alien.plan(stackOf("friday", steady()), space.options())]) {
            const error = await failure(call())
            expect(error).toMatchObject({ code: "ADMISSION_REFUSED", hint: expect.stringContaining("policy"), context: { daemon: "d" } })
            expect(error.message).toBe(`applying Deployment "friday-d" in namespace "${space.namespace}": admission webhook "${name}" denied the request: no changes on Fridays`)
          }
          expect(asked).toContain("Deployment")
        })
        expect(await space.objects("friday")).toEqual([])
        expect(await alien.deployments(space.options())).toEqual([])
      },

      "a webhook that says no to its pod": async () => {
        const space = await its.another("webhook-pods")
        await withWebhook(space, "pods", "", async (name) => {
          await eventually(() => space.run(["create", "--dry-run=server", "-f", "-"], { input: JSON.stringify(PROBE) }), ({ stderr }) => stderr.includes("Fridays"))
          const { error, told } = await attempt(space, "friday", steady())
          expect(error.message).toBe(`daemon "d" does not come up: FailedCreate: admission webhook "${name}" denied the request: no changes on Fridays`)
          expect(told).toEqual([`FailedCreate: admission webhook "${name}" denied the request: no changes on Fridays`])
        })
        // Without it the same is deployed.
        await space.deploy(stackOf("friday", steady()))
      },

      "a ValidatingAdmissionPolicy": async () => {
        const space = await its.another("cel")
        const matchConstraints = { resourceRules: [{ apiGroups: ["apps"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["deployments"] }] }
        await space.put({
          apiVersion: "admissionregistration.k8s.io/v1",
          kind: "ValidatingAdmissionPolicy",
          metadata: { name: POLICY },
          spec: { failurePolicy: "Fail", matchConstraints, validations: [{ expression: "object.spec.replicas > 1", message: "one copy is no copy" }] },
        })
        await space.put({
          apiVersion: "admissionregistration.k8s.io/v1",
          kind: "ValidatingAdmissionPolicyBinding",
          metadata: { name: POLICY },
          spec: { policyName: POLICY, validationActions: ["Deny"], matchResources: { namespaceSelector: inside(space) } },
        })
        try {
          await holds(space, DEPLOYMENT)
          const error = await failure(space.deploy(stackOf("single", steady())))
          expect(error).toMatchObject({ code: "ADMISSION_REFUSED", hint: expect.stringContaining("policy") })
          expect(error.message).toMatch(/^applying Deployment "single-d" in namespace .*ValidatingAdmissionPolicy .* denied request: one copy is no copy$/)
          expect(await space.objects("single")).toEqual([])
        } finally {
          await space.kubectl("delete", `validatingadmissionpolicybinding/${POLICY}`, `validatingadmissionpolicy/${POLICY}`)
        }
      },
    })
  })

  test("an update is taken back whole, and said so; keep leaves it; rollback brings back the one before", async () => {
    const good = stackOf("upd", steady("print=good"))
    const bad = stackOf("upd", daemon("d", its.image, "print=bad", "exit=4"))
    const begin = () => its.deploy(good, { secrets: { d: { TOKEN: "old" } } })
    const deployment = await begin()
    const error = await its.refused(bad, { secrets: { d: { TOKEN: "new" } } }, async () => {
      await deployment.destroy()
      await begin()
    })
    expect(error.code).toBe("UPDATE_ROLLED_BACK")
    expect(error.message).toMatch(/did not come up: CrashLoopBackOff: its program ended with exit code 4\. The version before runs again\.\nIts last lines:\n {2}bad$/)
    expect(await its.one(deployment, "d")).toMatchObject({ state: "running", conditions: expect.arrayContaining([expect.objectContaining({ type: "RolledBack", status: "True" })]) })
    expect((await alien.plan(good, its.options())).changes[0].action).toBe("none")
    expect((await its.objects("upd")).filter((name) => /^(Secret|ControllerRevision)/.test(name))).toHaveLength(1)
    expect(await failure(deployment.rollback("d"))).toMatchObject({ code: "NO_PREVIOUS_VERSION" })
    const kept = await its.refused(bad, { kubernetes: { onFailure: "keep" } })
    expect(kept.code).toBe("DAEMON_NOT_UP")
    expect(await its.one(deployment, "d")).toMatchObject({ state: "crash-looping" })
    await deployment.rollback("d")
    await until(deployment, "d", /^good$/)
  })

  test("an update after one that never came up is taken back to the last that was up", async () => {
    const good = stackOf("last", steady("print=good"))
    const begin = async () => {
      const deployment = await its.deploy(good)
      const kept = await failure(its.deploy(stackOf("last", daemon("d", `${its.registry}/test/none:1`)), { kubernetes: { onFailure: "keep" } }))
      expect(kept.code).toBe("DAEMON_NOT_UP")
      return deployment
    }
    const deployment = await begin()
    const error = await its.refused(stackOf("last", daemon("d", its.image, "print=bad", "exit=4")), {}, async () => {
      await deployment.destroy()
      await begin()
    })
    expect(error.code).toBe("UPDATE_ROLLED_BACK")
    expect(error.message).toMatch(/did not come up: CrashLoopBackOff: its program ended with exit code 4\. The version before runs again\.\nIts last lines:\n {2}bad$/)
    expect(await its.one(deployment, "d")).toMatchObject({ state: "running" })
    await until(deployment, "d", /^good$/)
    expect((await alien.plan(good, its.options())).changes[0].action).toBe("none")
    // It was the first: there is nothing before it.
    expect(await failure(deployment.rollback("d"))).toMatchObject({ code: "NO_PREVIOUS_VERSION" })
  })

  test("an update of a daemon that was never up is left as it is", async () => {
    const attempts = ["one", "two"].map((name) => stackOf("never", daemon("d", `${its.registry}/test/${name}:1`)))
    for (const stack of attempts) expect((await failure(its.deploy(stack))).code).toBe("DAEMON_NOT_UP")
    const deployment = await its.connect("never")
    expect(await its.one(deployment, "d")).toMatchObject({ image: `${its.registry}/test/two:1` })
  })
})
