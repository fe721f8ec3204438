"use strict"

// A real Kubernetes for one test file: a cluster, a registry that it pulls from, a namespace, and the proof that nothing
// is left in it.

const { spawnSync } = require("node:child_process")
const { randomBytes } = require("node:crypto")
const path = require("node:path")
const { pathToFileURL } = require("node:url")
const alien = require("@alienplatform/core")
const { DEADLINE, eventually, root, tool } = require("./bed.js")

const START = 240_000
/** Everything that a deployment is made of. */
const KINDS = "deployments,replicasets,pods,serviceaccounts,roles,rolebindings,secrets,controllerrevisions,leases"

/** Why no cluster can run here; undefined where one can. Asked while tests are being declared, so it cannot wait. */
function missing() {
  const module = pathToFileURL(path.join(root, "tools/lib/cluster.mjs")).href
  const code = `import(${JSON.stringify(module)}).then(({ missing }) => process.stdout.write(missing() ?? ""))`
  const { stdout, stderr, status } = spawnSync(process.execPath, ["-e", code], { encoding: "utf8" })
  if (status !== 0) throw new Error(stderr)
  return stdout || undefined
}

/** What can be asked of a namespace of the cluster `its`, which may yet have to be started. */
function inNamespace(its, namespace) {
  const space = { namespace }
  space.run = async (args, options) => (await tool("cluster.mjs")).kubectl(its.cluster, args, { namespace, ...options })
  /** kubectl in the namespace: its output; it must not fail. `{input}` may come last. */
  space.kubectl = async (...args) => {
    const { input } = typeof args.at(-1) === "object" ? args.pop() : {}
    const { code, stdout, stderr } = await space.run(args, { input })
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`)
    return stdout
  }
  space.get = async (...args) => JSON.parse(await space.kubectl("get", ...args, "-o", "json"))
  /** Makes, or changes, an object of the tests' own. */
  space.put = (object) => space.kubectl("apply", "-f", "-", { input: JSON.stringify(object) })

  space.options = (more = {}) => ({
    platform: "kubernetes",
    ...more,
    kubernetes: { kubeconfig: its.cluster.kubeconfig, namespace, ...more.kubernetes },
  })
  space.deploy = (stack, more) => alien.deploy(stack, space.options(more))
  /**
   * Deploys what ends by itself at once, and gives the error. A kubelet looks at its containers once a second, and one that
   * it happens to see running counts as available for a moment, also for `kubectl rollout status`: then `again` makes
   * ready for another try.
   */
  space.refused = async (stack, more, again = () => space.loops(stack)) => {
    for (;;) {
      try {
        await space.deploy(stack, more)
      } catch (error) {
        return error
      }
      await again()
    }
  }
  /** Until a daemon of the stack is crash-looping. */
  space.loops = async (stack) => {
    const deployment = await space.connect(stack.id)
    await eventually(() => deployment.status(), ({ resources }) => resources.some(({ state }) => state === "crash-looping"))
  }
  space.connect = (name) => alien.connect(space.options({ name }))
  /** What there is of a deployment, as `kind/name`. */
  space.objects = async (deployment) => {
    const { items } = await space.get(KINDS)
    const ours = items.filter(({ metadata }) => metadata.labels?.["app.kubernetes.io/instance"] === deployment)
    return ours.map(({ kind, metadata }) => `${kind}/${metadata.name}`).sort()
  }
  /** Destroys every deployment; nothing that is managed may be left. */
  space.clear = async () => {
    const all = await alien.deployments(space.options())
    await Promise.all(all.map(async (name) => (await space.connect(name)).destroy({ timeoutMs: 2 * DEADLINE })))
    const { items } = await space.get(KINDS, "-l", "app.kubernetes.io/managed-by=alien")
    expect(items.map(({ kind, metadata }) => `${kind}/${metadata.name}`)).toEqual([])
  }
  return space
}

/**
 * A cluster from the beginning of the file to its end, and a namespace of the file's own in it. `bed` is the file's test
 * bed, for images and the command.
 */
function testCluster(bed) {
  // In a cluster that somebody else runs, other files and other people's tests are at work too.
  const given = process.env.ALIEN_TEST_KUBECONFIG !== undefined
  const its = {}
  Object.assign(its, inNamespace(its, given ? `alien-test-${randomBytes(4).toString("hex")}` : "alien-test"))
  const spaces = [its]

  its.one = async (deployment, id) => (await deployment.status()).resources.find((resource) => resource.id === id)
  // Right behind the command: what stands behind a `--` is not for us.
  its.words = ([command, ...words]) => [command, "-p", "kubernetes", "--kubeconfig", its.cluster.kubeconfig, "--namespace", its.namespace, ...words]
  its.cli = (args, options) => bed.cli(its.words(args), options)

  const make = async (space) => {
    await space.kubectl("create", "namespace", space.namespace)
    // It is not usable yet: pods are refused until their namespace has its account.
    await eventually(() => space.run(["get", "serviceaccount", "default"]), ({ code }) => code === 0)
    return space
  }
  /** One more namespace, for what would be in the others' way. */
  its.another = async (suffix) => {
    const space = inNamespace(its, `${its.namespace}-${suffix}`)
    spaces.push(space)
    return make(space)
  }

  beforeAll(async () => {
    const { startCluster } = await tool("cluster.mjs")
    its.cluster = await startCluster()
    await make(its)
    await bed.image()
    const { serve } = await tool("registry.mjs")
    const registry = await serve({ "test/daemon": path.join(bed.folder, "image-1") }, its.cluster.hostAddress)
    bed.later(registry.close)
    its.registry = registry.url.replace("http://", "")
    its.image = `${its.registry}/test/daemon:1`
  }, START)

  afterAll(async () => {
    try {
      await Promise.all(spaces.map((space) => space.clear()))
    } finally {
      // A cluster of our own is removed whole.
      if (given) await its.kubectl("delete", "namespace", "--ignore-not-found", ...spaces.map(({ namespace }) => namespace))
      await its.cluster?.close()
    }
  }, START)

  return its
}

module.exports = { missing, testCluster }
