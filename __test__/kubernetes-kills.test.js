"use strict"

// A deploying process that is interrupted, or killed with -9, at any moment of a deploy, an update and a destroy: the same
// command again, or the opposite one, always leads to what is wanted, once, and a destroy leaves nothing.
//
// A sample of the moments, chosen by a seed that stands in the test's name; all of them with ALIEN_TEST_FAULTS=all.

const fs = require("node:fs")
const path = require("node:path")
const { needs, startCli, testBed } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")
const { numbers, seed } = require("./lib/seed.js")

const MOMENTS = 30
/** Of the moments, in a sample: one in so many. */
const SAMPLE = process.env.ALIEN_TEST_FAULTS === "all" ? 1 : 5
/** Deployments side by side: a Lease whose holder was killed is waited for, which costs time and nothing else. */
const LANES = 6
/** A Lease that nobody gives back runs out after 15 s; the rest is for slow machines. */
const DEADLINE = 60_000

jest.setTimeout(30 * 60_000)

needs(missing()).describe("a deploying process", () => {
  const bed = testBed()
  const its = testCluster(bed)
  const lengths = {}

  /** The command of an operation, as somebody types it. */
  const words = (operation, name) => {
    if (operation === "destroy") return its.words(["destroy", "-n", name])
    const version = operation === "deploy" ? "one" : "two"
    return its.words(["deploy", "-n", name, "-f", path.join(bed.folder, `${version}.js`), "--secret", "connector.TOKEN", "--docker-config", path.join(bed.folder, "docker.json")])
  }
  const start = (operation, name) => startCli(words(operation, name), { env: { TOKEN: `${operation} of ${name}` }, deadline: DEADLINE })
  const done = async (operation, name) => {
    const begun = performance.now()
    const { code, stderr } = await start(operation, name).ended
    if (code !== 0) throw new Error(`${operation} of ${name} after a kill ended with ${code}:\n${stderr}`)
    return performance.now() - begun
  }
  const holder = async (name) => {
    const { code, stdout, stderr } = await its.run(["get", "lease", `alien-${name}`, "-o", "jsonpath={.spec.holderIdentity}"])
    return code !== 0 && stderr.includes("not found") ? "" : stdout
  }

  /** Begins an operation, and ends its process at a moment of it. Gives the process's number. */
  async function cutShort(operation, name, signal, moment) {
    const { child, ended } = start(operation, name)
    const timer = setTimeout(() => child.kill(signal), moment * lengths[operation])
    const { code, stderr } = await ended
    clearTimeout(timer)
    // Done a little earlier, or before it could listen to signals.
    const expected = signal === "SIGINT" ? [130, 0, "SIGINT"] : [0, "SIGKILL"]
    if (!expected.includes(code)) throw new Error(`${operation} of ${name} ended with ${code}:\n${stderr}`)
    if (signal === "SIGINT") expect([name, operation, moment, await holder(name)]).toEqual([name, operation, moment, ""])
    return child.pid
  }

  /** What there is has to be this version, whole, once. `killed` is the process that was killed before. */
  async function settled(operation, name, history, killed) {
    const { items } = await its.get("deployments,replicasets,pods,serviceaccounts,roles,rolebindings,secrets,controllerrevisions,leases", "-l", `app.kubernetes.io/instance=${name}`)
    const of = (kind) => items.filter((item) => item.kind === kind)
    const [pod] = of("Pod")
    const { env } = pod.spec.containers[0]
    const secret = env.find((entry) => entry.name === "TOKEN").valueFrom.secretKeyRef.name
    const update = operation === "update"
    const counts = Object.fromEntries(["Deployment", "Pod", "ServiceAccount", "Role", "RoleBinding", "Secret", "ControllerRevision", "Lease"].map((kind) => [kind, of(kind).length]))
    expect({
      name, ...counts,
      level: env.find((entry) => entry.name === "LEVEL").value,
      token: Buffer.from(of("Secret").find(({ metadata }) => metadata.name === secret).data.TOKEN, "base64").toString(),
      ready: pod.status.containerStatuses[0].ready,
      running: of("ReplicaSet").filter(({ spec }) => spec.replicas > 0).length,
      holder: await freed(name, killed),
    }).toEqual({
      // A Secret for each version that is there or kept, and one to pull with.
      name, Deployment: 1, Pod: 1, ServiceAccount: 1, Role: update ? 1 : 0, RoleBinding: update ? 1 : 0, Secret: 2 + history, ControllerRevision: history, Lease: 1,
      level: update ? "two" : "one", token: `${operation} of ${name}`, ready: true, running: 1, holder: "",
    })
  }

  /** Who holds the Lease; nobody where it is the killed one, and there was nothing left to change that it would have to be taken for. */
  async function freed(name, killed) {
    const held = await holder(name)
    if (!held.includes(` process ${killed} `)) return held
    // The next step is not to be cut short while it waits for the Lease to run out.
    await its.kubectl("patch", "lease", `alien-${name}`, "--type=merge", "-p", JSON.stringify({ spec: { holderIdentity: null } }))
    return ""
  }

  const nothing = async (name) => expect(await its.objects(name)).toEqual([])

  /** A deployment from its first deploy to its end, each step cut short at this moment of it. */
  async function life(name, signal, moment, redeploys) {
    await its.kubectl("create", "secret", "generic", `${name}-keys-a`, "--from-literal=value=1")
    let killed = await cutShort("deploy", name, signal, moment)
    await done("deploy", name)
    await settled("deploy", name, 0, killed)
    killed = await cutShort("update", name, signal, moment)
    await done("update", name)
    await settled("update", name, 1, killed)
    killed = await cutShort("destroy", name, signal, moment)
    if (redeploys) {
      await done("update", name)
      const { length } = (await its.objects(name)).filter((object) => object.startsWith("ControllerRevision/"))
      expect(length).toBeLessThanOrEqual(1)
      await settled("update", name, length, killed)
    }
    await done("destroy", name)
    await nothing(name)
    await its.kubectl("delete", "secret", `${name}-keys-a`)
  }

  beforeAll(async () => {
    for (const [version, link] of [["one", ""], ["two", ".link(keys)"]]) {
      fs.writeFileSync(path.join(bed.folder, `${version}.js`), `
        const alien = require("@alienplatform/core")
        const keys = new alien.Vault("keys").build()
        const connector = new alien.Daemon("connector").code({ type: "image", image: ${JSON.stringify(its.image)} })
          .command(["/bin/daemon", "catch"]).environment({ LEVEL: "${version}" }).permissions("execution")${link}.build()
        module.exports = new alien.Stack("kills").add(keys, "live").add(connector, "live").build()`)
    }
    const auths = { [its.registry]: { auth: Buffer.from("user:password").toString("base64") } }
    fs.writeFileSync(path.join(bed.folder, "docker.json"), JSON.stringify({ auths }))
    // How long each takes while others go on beside it.
    const measured = await Promise.all(Array.from({ length: LANES }, async (_, index) => {
      const one = {}
      for (const operation of ["deploy", "update", "destroy"]) one[operation] = await done(operation, `length${index}`)
      return one
    }))
    for (const operation of ["deploy", "update", "destroy"]) lengths[operation] = measured.reduce((sum, one) => sum + one[operation], 0) / LANES
  }, 5 * DEADLINE)

  test.each([["interrupted", "SIGINT"], ["killed with -9", "SIGKILL"]])(`%s at moments of a deploy, an update and a destroy (seed ${seed})`, async (_, signal) => {
    const random = numbers(seed)
    const first = Math.floor(random() * SAMPLE)
    const lives = Array.from({ length: MOMENTS }, (_, index) => ({ index, moment: (index + random()) / MOMENTS })).filter(({ index }) => index % SAMPLE === first)
    const failed = []
    await Promise.all(Array.from({ length: LANES }, async () => {
      for (let one = lives.shift(); one; one = lives.shift()) {
        const name = `${signal.toLowerCase()}${one.index}`
        await life(name, signal, one.moment, Math.floor(one.index / SAMPLE) % 2 === 1).catch((error) => failed.push(`at ${one.moment.toFixed(3)}: ${error.message}`))
      }
    }))
    expect(failed).toEqual([])
  })
})
