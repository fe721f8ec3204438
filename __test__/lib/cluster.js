"use strict"

// A real Kubernetes for one test file: a cluster, a registry that it pulls from, a namespace, and the proof that nothing
// is left in it.

const { spawnSync } = require("node:child_process")
const path = require("node:path")
const { pathToFileURL } = require("node:url")
const alien = require("@alienplatform/core")
const { DEADLINE, eventually, root, tool } = require("./bed.js")

const START = 240_000
const NAMESPACE = "alien-test"
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

/**
 * A cluster from the beginning of the file to its end. `bed` is the file's test bed, for images and the command.
 */
function testCluster(bed) {
  const its = { namespace: NAMESPACE }

  /** kubectl in the namespace: its output; it must not fail. */
  its.kubectl = async (...args) => {
    const input = typeof args.at(-1) === "object" ? args.pop().input : undefined
    const { code, stdout, stderr } = await its.run(args, { input })
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`)
    return stdout
  }
  its.get = async (...args) => JSON.parse(await its.kubectl("get", ...args, "-o", "json"))
  its.run = async (args, options) => (await tool("cluster.mjs")).kubectl(its.cluster, args, { namespace: NAMESPACE, ...options })

  its.options = (more = {}) => ({
    platform: "kubernetes",
    ...more,
    kubernetes: { kubeconfig: its.cluster.kubeconfig, namespace: NAMESPACE, ...more.kubernetes },
  })
  its.deploy = (stack, more) => alien.deploy(stack, its.options(more))
  its.one = async (deployment, id) => (await deployment.status()).resources.find((resource) => resource.id === id)
  // Right behind the command: what stands behind a `--` is not for us.
  its.cli = ([command, ...words], options) =>
    bed.cli([command, "-p", "kubernetes", "--kubeconfig", its.cluster.kubeconfig, "--namespace", NAMESPACE, ...words], options)
  /** What there is of a deployment, as `kind/name`. */
  its.objects = async (deployment) => {
    const { items } = await its.get(KINDS)
    const ours = items.filter(({ metadata }) => metadata.labels?.["app.kubernetes.io/instance"] === deployment)
    return ours.map(({ kind, metadata }) => `${kind}/${metadata.name}`).sort()
  }

  beforeAll(async () => {
    const { startCluster } = await tool("cluster.mjs")
    its.cluster = await startCluster()
    await its.kubectl("create", "namespace", NAMESPACE)
    await bed.image()
    const { serve } = await tool("registry.mjs")
    const registry = await serve({ "test/daemon": path.join(bed.folder, "image-1") }, its.cluster.hostAddress)
    bed.later(registry.close)
    its.registry = registry.url.replace("http://", "")
    its.image = `${its.registry}/test/daemon:1`
    // Ready is not usable: pods are refused until their namespace has its account.
    await eventually(() => its.run(["get", "serviceaccount", "default"]), ({ code }) => code === 0)
  }, START)

  afterAll(async () => {
    try {
      for (const name of await alien.deployments(its.options())) {
        await (await alien.connect(its.options({ name }))).destroy({ timeoutMs: 2 * DEADLINE })
      }
      const { items } = await its.get(KINDS, "-l", "app.kubernetes.io/managed-by=alien")
      expect(items.map(({ kind, metadata }) => `${kind}/${metadata.name}`)).toEqual([])
    } finally {
      await its.cluster?.close()
    }
  }, START)

  return its
}

module.exports = { missing, testCluster }
