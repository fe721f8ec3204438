"use strict"

// Commands in a cluster: the manager's image, made of the package and pushed; the manager, installed, replaced and removed;
// daemons that take commands from it; callers outside, whom the API server carries to it.

const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { eventually, failure, has, needs, root, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")
const manager = require("./lib/manager.js")
const registries = require("./lib/registry.js")

jest.setTimeout(120_000)

needs(missing() ?? registries.missing() ?? manager.missing).describe("commands in a cluster", () => {
  const bed = testBed()
  const its = testCluster(bed)
  const elsewhere = manager.testManager({ start: false })
  const CLASS = "alien-test"
  let image
  let receiverImage
  let credentials

  /** The `alien` command in a namespace; gives what it printed, as JSON. It must not fail. */
  async function told(args, { space = its, ...options } = {}) {
    const [command, ...words] = args
    const where = ["--kubeconfig", its.cluster.kubeconfig, "--namespace", space.namespace]
    const { code, stdout, stderr } = await bed.cli([command, ...words, ...where, "--json"], { deadline: 90_000, ...options })
    if (code !== 0) throw new Error(`alien ${args.join(" ")}: ${stderr}`)
    return JSON.parse(stdout)
  }
  /** Runs the same, which must fail; gives the error. */
  async function refused(args, space = its) {
    const { code, stdout } = await bed.cli([...args, "--kubeconfig", its.cluster.kubeconfig, "--namespace", space.namespace, "--json"], { deadline: 90_000 })
    expect(code).toBe(1)
    return JSON.parse(stdout).error
  }
  const install = (space = its, ...more) => told(["manager", "install", "--image", image, "--storage-class", CLASS, "--docker-config", credentials, ...more], { space })
  /** Room for one database, on the node's disk: no cluster of the tests makes any by itself. */
  async function volume(name) {
    const folder = path.join(bed.folder, name)
    fs.mkdirSync(folder)
    const [node] = (await its.get("nodes")).items
    await its.put({
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: `${its.namespace}-${name}` },
      spec: {
        capacity: { storage: "1Gi" },
        accessModes: ["ReadWriteOnce"],
        persistentVolumeReclaimPolicy: "Retain",
        storageClassName: CLASS,
        local: { path: folder },
        nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [node.metadata.labels["kubernetes.io/hostname"]] }] }] } },
      },
    })
    bed.later(() => its.run(["delete", "persistentvolume", `${its.namespace}-${name}`, "--ignore-not-found", "--wait=false"]))
  }
  const secrets = async (space = its) => (await space.get("secrets")).items
  const tokens = async (deployment) => (await told(["token", "list", "-p", "kubernetes"])).tokens.filter(({ deploymentId }) => deploymentId === deployment).map(({ role, resourceId }) => `${role} ${resourceId ?? ""}`.trim()).sort()
  const managerPod = async () => (await its.get("pods", "-l", "app.kubernetes.io/component=manager")).items.find(({ metadata }) => metadata.deletionTimestamp === undefined)
  const receiver = (id) => new alien.Daemon(id).code({ type: "image", image: receiverImage }).commandsEnabled(true).permissions("p")
  const pair = () => stackOf("calls", receiver("one"), receiver("two"))

  beforeAll(async () => {
    // Pushed to over loopback, where plain HTTP may be spoken, and pulled from over the cluster's link.
    const registry = await registries.startRegistry(bed, { address: "0.0.0.0", username: "ann", password: "pass" })
    const port = registry.host.split(":").at(-1)
    credentials = registry.dockerConfig([`127.0.0.1:${port}`, `${its.cluster.hostAddress}:${port}`])
    const pushed = JSON.parse((await bed.cli(["manager", "image", "push", `127.0.0.1:${port}/alien/manager:1`, "--docker-config", credentials, "--json"])).stdout)
    image = pushed.image.replace("127.0.0.1", its.cluster.hostAddress)

    const { nodeImage, receiverFiles } = await tool("node-image.mjs")
    const program = path.join(bed.folder, "handlers.js")
    fs.writeFileSync(program, `
      const { command, runReceiver } = require("@alienplatform/core/commands")
      command("echo", (params, { attempt }) => ({ params, attempt }))
      command("environment", () => process.env)
      command("slow", async () => (console.log("begun"), await new Promise((resolve) => setTimeout(resolve, 1500)), { done: true }))
      command("fail", () => { throw Object.assign(new Error("no more this month"), { code: "QUOTA" }) })
      runReceiver({ concurrency: 4 })
      console.log("ready")`)
    const layout = await nodeImage(path.join(bed.folder, "node"), { tag: "1", program, files: receiverFiles() })
    const quickstart = await nodeImage(path.join(bed.folder, "quickstart"), { tag: "2026-05-17", program: path.join(root, "examples/quickstart/connector.js"), files: receiverFiles() })
    const { serve } = await tool("registry.mjs")
    const served = await serve({ "test/receiver": layout, "acme/connector": quickstart }, its.cluster.hostAddress)
    bed.later(served.close)
    receiverImage = `${served.url.replace("http://", "")}/test/receiver:1`
    await Promise.all([volume("one"), volume("two")])
  }, 120_000)

  test("without a manager nothing is begun, and it is said who needs one and how to get it", async () => {
    const error = await failure(its.deploy(pair()))
    expect(error).toMatchObject({ code: "MANAGER_NOT_INSTALLED", httpStatusCode: 404, context: { namespace: its.namespace, daemons: ["one", "two"] }, hint: expect.stringContaining("alien manager install") })
    expect(error.message).toBe(`no manager of commands is installed in namespace "${its.namespace}": one, two take commands`)
    expect(await its.objects("calls")).toEqual([])
    expect(await refused(["token", "list", "-p", "kubernetes"])).toMatchObject({ code: "MANAGER_NOT_INSTALLED" })
    expect(await refused(["manager", "uninstall"])).toMatchObject({ code: "MANAGER_NOT_INSTALLED" })
    // Manifests are for whoever applies them.
    const text = await alien.render(pair(), { platform: "kubernetes", kubernetes: { namespace: its.namespace } })
    expect(text).toContain(`value: "http://alien-manager.${its.namespace}.svc:7070"`)
    expect(text).toContain("# needs: Secret calls-one-commands, key token: what `alien token create --role receive --resource one --name calls` prints")
    await its.kubectl("apply", "--dry-run=server", "-f", "-", { input: text })
  })

  test("a namespace that takes only restricted pods takes the manager, and gets rid of all of it", async () => {
    const strict = await its.another("strict")
    await strict.kubectl("label", "namespace", strict.namespace, "pod-security.kubernetes.io/enforce=restricted")
    expect(await install(strict)).toEqual({ namespace: strict.namespace, image, url: `http://alien-manager.${strict.namespace}.svc:7070` })
    // It is no deployment of anybody's.
    expect(await alien.deployments(strict.options())).toEqual([])
    await told(["manager", "uninstall"], { space: strict })
    const left = async () => (await strict.get("all,secrets,serviceaccounts,persistentvolumeclaims,networkpolicies,controllerrevisions,leases", "-l", "app.kubernetes.io/managed-by=alien")).items.map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    expect(await left()).toEqual(["Secret/alien-manager", "PersistentVolumeClaim/alien-manager"])
    await told(["manager", "uninstall", "--data"], { space: strict })
    await eventually(left, (left) => left.length === 0)
  })

  test("an install makes the manager, guarded, with the least rights; the second one changes nothing", async () => {
    await install()
    const { spec, metadata } = await its.get("deployment", "alien-manager")
    expect(spec).toMatchObject({ replicas: 1, strategy: { type: "Recreate" } })
    const pod = spec.template.spec
    expect(pod).toMatchObject({ automountServiceAccountToken: false, serviceAccountName: "alien-manager", imagePullSecrets: [{ name: "alien-manager-pull" }], securityContext: { runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: { type: "RuntimeDefault" } } })
    expect(pod.containers[0].securityContext).toEqual({ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] }, readOnlyRootFilesystem: true })
    expect((await its.get("service", "alien-manager")).spec).toMatchObject({ type: "ClusterIP", ports: [{ port: 7070 }] })
    const policy = (await its.get("networkpolicy", "alien-manager")).spec
    expect(policy).toMatchObject({ policyTypes: ["Ingress"], ingress: [{ from: [{ podSelector: { matchLabels: { "alien.dev/commands": "true" } } }], ports: [{ port: 7070, protocol: "TCP" }] }] })
    expect(policy.podSelector.matchLabels).toEqual(spec.selector.matchLabels)
    const secret = await its.get("secret", "alien-manager")
    expect(secret.metadata.annotations["alien.dev/manager"]).toBe((await its.get("pvc", "alien-manager")).metadata.uid)
    const { metadata: { uid } } = await managerPod()
    await install()
    expect((await its.get("secret", "alien-manager")).data).toEqual(secret.data)
    expect((await its.get("deployment", "alien-manager")).metadata.generation).toBe(metadata.generation)
    expect((await managerPod()).metadata.uid).toBe(uid)
  })

  test("an install that does not come up is taken back", async () => {
    const before = await its.get("deployment", "alien-manager")
    const error = await refused(["manager", "install", "--image", image.replace(/:1@.*$/, ":absent"), "--docker-config", credentials])
    expect(error).toMatchObject({ code: "UPDATE_ROLLED_BACK", message: expect.stringMatching(/^the new version of the manager did not come up: .*The version before runs again\.$/s) })
    expect((await its.get("deployment", "alien-manager")).spec.template).toEqual(before.spec.template)
  })

  test("an install touches nothing of others, and looks at the certificate before it does anything", async () => {
    expect(await refused(["manager", "install", "--image", image, "--tls-secret", "none"])).toMatchObject({ code: "TLS_SECRET_INVALID", message: expect.stringContaining('the Secret "none" in namespace') })
    await its.kubectl("create", "secret", "generic", "plain", "--from-literal=a=b")
    expect(await refused(["manager", "install", "--image", image, "--tls-secret", "plain"])).toMatchObject({ code: "TLS_SECRET_INVALID", message: expect.stringContaining("is not of the type kubernetes.io/tls") })
    expect(await refused(["manager", "install", "--image", "oci:/x"])).toMatchObject({ code: "INVALID_IMAGE" })
    const other = await its.another("taken")
    await other.kubectl("create", "service", "clusterip", "alien-manager", "--tcp=80:80")
    const error = await refused(["manager", "install", "--image", image], other)
    expect(error).toMatchObject({ code: "NAME_TAKEN", message: expect.stringContaining('Service "alien-manager"') })
    expect((await other.get("pvc,secrets,deployments")).items).toEqual([])
    await its.kubectl("delete", "secret", "plain")
  })

  test("a daemon is called through it, from a program and from the command line", async () => {
    const deployment = await its.deploy(pair())
    expect(await deployment.invoke("one", "echo", { text: "ü \u2028 🦀" })).toEqual({ params: { text: "ü \u2028 🦀" }, attempt: 1 })
    const large = { text: "ü".repeat(200_000) }
    expect(await deployment.invoke("one", "echo", large)).toEqual({ params: large, attempt: 1 })
    expect(await failure(deployment.invoke("two", "fail"))).toMatchObject({ code: "DEPLOYMENT_COMMAND_ERROR", context: { errorCode: "QUOTA", errorMessage: "no more this month" } })
    expect(await told(["commands", "invoke", "two", "echo", "-p", "kubernetes", "-n", "calls", "--params", "[1]"])).toEqual({ params: [1], attempt: 1 })
    expect((await told(["commands", "list", "-p", "kubernetes", "-n", "calls"])).commands.map(({ state }) => state)).toEqual(["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"])
    expect(await tokens("calls")).toEqual(["invoke", "receive one", "receive two"])
    expect(await failure(its.connect("calls").then((found) => found.invoke("three", "echo")))).toMatchObject({ message: expect.stringContaining("one, two") })
  })

  test("what a daemon is given is for it alone, in a Secret that is no part of its version", async () => {
    const deployment = await its.connect("calls")
    const environment = await deployment.invoke("one", "environment")
    expect(environment).toMatchObject({
      ALIEN_COMMANDS_URL: `http://alien-manager.${its.namespace}.svc:7070`,
      ALIEN_COMMANDS_TOKEN_FILE: "/run/alien-commands/token",
      ALIEN_COMMANDS_TARGET_RESOURCE_ID: "one",
      ALIEN_COMMANDS_TARGET_RESOURCE_TYPE: "daemon",
      ALIEN_COMMANDS_DRAIN_TIMEOUT_MS: "27000",
      ALIEN_DEPLOYMENT_ID: "calls",
    })
    const { spec } = await its.get("deployment", "calls-one")
    expect(spec.template.metadata.labels["alien.dev/commands"]).toBe("true")
    expect(spec.selector.matchLabels["alien.dev/commands"]).toBeUndefined()
    const [source] = spec.template.spec.volumes[0].projected.sources
    expect(source.secret.name).toMatch(/^calls-one-commands-[0-9a-f]{8}$/)
    const secret = await its.get("secret", source.secret.name)
    expect(Buffer.from(secret.data.token, "base64").toString()).toBe(environment.ALIEN_COMMANDS_TOKEN)
    expect((await secrets()).filter(({ metadata }) => metadata.name.startsWith("calls-")).map(({ metadata }) => metadata.name.replace(/-[0-9a-f]{8}$/, ""))).toEqual(["calls-one-commands", "calls-two-commands"])
    const all = JSON.stringify([await deployment.status(), await its.get("deployments,controllerrevisions,leases")])
    expect(all).not.toContain(environment.ALIEN_COMMANDS_TOKEN)
  })

  test("a deploy with nothing to change asks the manager nothing; one that lacks a token says that it cannot", async () => {
    await its.kubectl("scale", "deployment/alien-manager", "--replicas=0")
    await eventually(managerPod, (pod) => pod === undefined)
    expect((await alien.plan(pair(), its.options())).changes.map(({ action }) => action)).toEqual(["none", "none"])
    await its.deploy(pair())
    const error = await failure(its.deploy(stackOf("calls", receiver("one"), receiver("two"), receiver("three"))))
    expect(error).toMatchObject({ code: "MANAGER_UNREACHABLE", retryable: true, message: expect.stringMatching(/^the manager of commands in namespace .* cannot be reached: it has no pod$/) })
    expect((await its.objects("calls")).filter((name) => name.includes("three"))).toEqual([])
    expect(await failure(its.deploy(stackOf("new", receiver("one"))))).toMatchObject({ code: "MANAGER_UNREACHABLE" })
    expect(await its.objects("new")).toEqual([])
    expect(await failure((await its.connect("calls")).invoke("one", "echo"))).toMatchObject({ code: "MANAGER_UNREACHABLE" })
    // Installing is what brings it back, with every token as it was.
    await install()
    expect(await (await its.connect("calls")).invoke("one", "echo", 1)).toEqual({ params: 1, attempt: 1 })
  })

  test("a command outlives a manager that is killed", async () => {
    const deployment = await its.connect("calls")
    const answer = deployment.invoke("two", "slow", null, { timeoutMs: 90_000 })
    await until(deployment, "two", /^begun$/)
    await its.kubectl("delete", "pod", (await managerPod()).metadata.name, "--force", "--grace-period=0")
    expect(await answer).toEqual({ done: true })
  })

  test("a token that is lost is made anew; one that takes no commands any more loses its own, and gets one with the version before", async () => {
    const deployment = await its.connect("calls")
    const name = async (id) => (await its.get("deployment", `calls-${id}`)).spec.template.spec.volumes[0].projected.sources[0].secret.name
    const [lost, stays] = [await name("one"), await name("two")]
    await its.kubectl("delete", "secret", lost)
    const { changes } = await alien.plan(pair(), its.options())
    expect(changes.map(({ id, action, fields }) => [id, action, fields.map(({ path }) => path)])).toEqual([["one", "update", ["commandsToken"]], ["two", "none", []]])
    await its.deploy(pair())
    expect(await name("one")).toBe(lost)

    const without = stackOf("calls", new alien.Daemon("one").code({ type: "image", image: receiverImage }).command(["/usr/bin/node", "-e", "setInterval(() => {}, 1000); process.on('SIGTERM', () => process.exit())"]).permissions("p"), receiver("two"))
    await its.deploy(without)
    const there = async () => (await secrets()).map(({ metadata }) => metadata.name)
    expect(await there()).toEqual(expect.not.arrayContaining([lost]))
    expect(await there()).toEqual(expect.arrayContaining([stays]))
    expect(await tokens("calls")).toEqual(["invoke", "receive two"])
    expect((await alien.plan(without, its.options())).changes.map(({ action }) => action)).toEqual(["none", "none"])

    await deployment.rollback("one")
    expect(await deployment.invoke("one", "echo", "again")).toEqual({ params: "again", attempt: 1 })
  })

  test("the least Role is enough, and names what a deploy of daemons with commands needs besides", async () => {
    const stackFile = path.join(bed.folder, "alien.js")
    fs.writeFileSync(stackFile, `
      const alien = require("@alienplatform/core")
      const one = new alien.Daemon("one").code({ type: "image", image: ${JSON.stringify(receiverImage)} }).commandsEnabled(true).permissions("p").build()
      module.exports = new alien.Stack("least").add(one, "live").build()`)
    await its.kubectl("create", "serviceaccount", "ci")
    await its.kubectl("create", "rolebinding", "ci", "--role=alien-deployer", `--serviceaccount=${its.namespace}:ci`)
    const token = (await its.kubectl("create", "token", "ci")).trim()
    const config = JSON.parse(await its.kubectl("config", "view", "--raw", "-o", "json"))
    config.users = [{ name: config.users[0].name, user: { token } }]
    const kubeconfig = path.join(bed.folder, "ci")
    fs.writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 })
    const options = { kubernetes: { kubeconfig } }
    const least = stackOf("least", receiver("one"))

    const plain = path.join(bed.folder, "plain.js")
    fs.writeFileSync(plain, fs.readFileSync(stackFile, "utf8").replace(".commandsEnabled(true)", ""))
    const role = async (file) => (await its.cli(["render", "--rbac", "--file", file])).stdout
    await its.kubectl("apply", "-f", "-", { input: await role(plain) })
    expect(await failure(its.deploy(least, options))).toMatchObject({ code: "PREFLIGHT_FAILED", message: expect.stringContaining("may not create, get pods/portforward in namespace") })
    await its.kubectl("apply", "-f", "-", { input: await role(stackFile) })
    const deployment = await its.deploy(least, options)
    expect(await deployment.invoke("one", "echo", 1)).toEqual({ params: 1, attempt: 1 })
    await deployment.destroy()
    expect(await tokens("least")).toEqual([])
    expect(await its.objects("least")).toEqual([])
  })

  test("the quick start, unchanged, by the command", async () => {
    const run = (...args) => its.cli(args, { cwd: path.join(root, "examples/quickstart"), deadline: 60_000 })
    const registry = ["--registry", `ghcr.io=${receiverImage.split("/")[0]}`]
    expect(await run("preflight")).toMatchObject({ code: 0 })
    expect(await run("deploy", ...registry)).toMatchObject({ code: 0, stdout: "", stderr: expect.stringContaining('✓ "edge" is up.') })
    const deployment = await its.connect("edge")
    const lines = await until(deployment, "connector", /^synced batch 1$/)
    expect(lines[0]).toMatch(/^connector v\d+.* started on edge-connector-.*, log level info$/)
    const { code, stdout } = await run("commands", "invoke", "connector", "sync", "--params", '{"since":"2026-05-01"}')
    expect({ code, answer: JSON.parse(stdout) }).toEqual({ code: 0, answer: { since: "2026-05-01", batches: expect.any(Number) } })
    expect(await run("deploy", ...registry)).toMatchObject({ code: 0, stderr: expect.stringMatching(/^No changes: "edge" is as the stack says\.$/m) })
    expect(await run("status")).toMatchObject({ code: 0, stdout: expect.stringMatching(/connector.*running/s) })
    expect(await run("destroy")).toMatchObject({ code: 0 })
    expect(await its.objects("edge")).toEqual([])
  })

  test("daemons take commands from a manager elsewhere, and change over to it and back", async () => {
    const stack = () => stackOf("far", receiver("one"))
    await elsewhere.start(["--allow-plain-http"], `${its.cluster.hostAddress}:0`)
    const given = { manager: { url: elsewhere.url, token: elsewhere.admin, deploymentId: "edge-7" } }
    const far = async () => (await elsewhere.ask("GET", "/v1/tokens")).json.tokens.filter(({ role }) => role !== "admin").map(({ role, deploymentId }) => `${deploymentId} ${role}`).sort()
    expect(await failure(its.deploy(stack(), { manager: { ...given.manager, token: "n0t-it" } }))).toMatchObject({ code: "MANAGER_REFUSED" })
    expect(await its.objects("far")).toEqual([])
    const deployment = await its.deploy(stack(), given)
    expect(await deployment.invoke("one", "environment")).toMatchObject({ ALIEN_COMMANDS_URL: elsewhere.url, ALIEN_DEPLOYMENT_ID: "edge-7" })
    expect(await far()).toEqual(["edge-7 invoke", "edge-7 receive"])
    expect(await tokens("far")).toEqual([])
    expect((await alien.plan(stack(), its.options(given))).changes.map(({ action }) => action)).toEqual(["none"])
    expect(await told(["commands", "invoke", "one", "echo", "-p", "kubernetes", "-n", "far", "--params", "1"])).toEqual({ params: 1, attempt: 1 })
    expect(JSON.stringify(await its.get("secrets,deployments,leases"))).not.toContain(Buffer.from(elsewhere.admin).toString("base64"))
    const own = await its.deploy(stack())
    expect(await own.invoke("one", "environment")).toMatchObject({ ALIEN_COMMANDS_URL: `http://alien-manager.${its.namespace}.svc:7070`, ALIEN_DEPLOYMENT_ID: "far" })
    expect(await tokens("far")).toEqual(["invoke", "receive one"])
    await its.deploy(stack(), given)
    expect(await tokens("far")).toEqual(["receive one"])
    // The version before took its commands from a manager that this call does not know as its own.
    expect(await failure(deployment.rollback("one"))).toMatchObject({ code: "MANAGER_CHANGED" })
    await deployment.destroy()
    expect(await far()).toEqual([])
    expect(await tokens("far")).toEqual([])
    expect(await its.objects("far")).toEqual([])
  })

  needs(!has("openssl") && "openssl is not installed").test("under TLS daemons are told whom to trust, and callers come the way they came before", async () => {
    const at = (name) => path.join(bed.folder, name)
    const openssl = (...args) => execFileSync("openssl", args, { stdio: "pipe" })
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", ...key, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=the tests", "-days", "2")
    openssl("req", ...key, "-keyout", at("tls.key"), "-out", at("tls.csr"), "-subj", "/CN=manager")
    fs.writeFileSync(at("tls.ext"), `subjectAltName=DNS:alien-manager.${its.namespace}.svc`)
    openssl("x509", "-req", "-in", at("tls.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-set_serial", "1", "-days", "2", "-extfile", at("tls.ext"), "-out", at("tls.pem"))
    const data = (name) => fs.readFileSync(at(name)).toString("base64")
    await its.put({ apiVersion: "v1", kind: "Secret", metadata: { name: "certificate" }, type: "kubernetes.io/tls", data: { "tls.crt": data("tls.pem"), "tls.key": data("tls.key"), "ca.crt": data("ca.pem") } })

    const url = `https://alien-manager.${its.namespace}.svc:7070`
    expect(await install(its, "--tls-secret", "certificate")).toMatchObject({ url })
    expect((await its.get("networkpolicies")).items).toEqual([])
    expect(await refused(["manager", "install", "--image", image])).toMatchObject({ code: "MANAGER_USES_TLS" })
    const [change] = (await alien.plan(pair(), its.options())).changes
    expect(change.fields).toEqual(expect.arrayContaining([{ path: "environment.ALIEN_COMMANDS_URL", from: url.replace("https", "http"), to: url }]))
    const deployment = await its.deploy(pair())
    expect(await deployment.invoke("one", "environment")).toMatchObject({ ALIEN_COMMANDS_URL: url, ALIEN_COMMANDS_CA_FILE: "/run/alien-commands/ca.crt" })
    expect(await told(["commands", "invoke", "two", "echo", "-p", "kubernetes", "-n", "calls", "--params", "2"])).toEqual({ params: 2, attempt: 1 })
    // The addresses of bodies are those of whoever asks. A stream goes on after the call.
    const large = "x".repeat(1_000_000)
    const stream = await deployment.invoke("two", "echo", large, { as: "stream" })
    const pieces = []
    for await (const piece of stream) pieces.push(piece)
    expect(JSON.parse(Buffer.concat(pieces))).toEqual({ params: large, attempt: 1 })
    const { stdout } = await deployment.exec("one", ["/usr/bin/node", "-p", "fs.readdirSync('/run/alien-commands').filter((name) => !name.startsWith('.')).join()"])
    expect(stdout.trim()).toBe("ca.crt,token")
  })

  test("a destroy takes its tokens back and leaves nothing; the manager goes once nobody needs it", async () => {
    expect(await refused(["manager", "uninstall"])).toMatchObject({ code: "MANAGER_IN_USE", message: "daemons take their commands from the manager: calls (one, two)", context: { deployments: ["calls"] } })
    await (await its.connect("calls")).destroy()
    expect(await its.objects("calls")).toEqual([])
    expect(await tokens("calls")).toEqual([])
    await told(["manager", "uninstall", "--data"])
    // What others have made for it is theirs.
    await its.kubectl("delete", "secret", "certificate", "--ignore-not-found")
    await eventually(async () => (await its.get("all,secrets,serviceaccounts,persistentvolumeclaims,networkpolicies", "-l", "app.kubernetes.io/managed-by=alien")).items, (left) => left.length === 0)
  })
})
