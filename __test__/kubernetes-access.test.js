"use strict"

// The ways into a cluster: kubeconfigs and what they name, a pod's own account, proxies; and what is said where there is
// no way in.

const fs = require("node:fs")
const http = require("node:http")
const net = require("node:net")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, eventually, failure, needs, root, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")

jest.setTimeout(120_000)

needs(missing()).describe("a cluster is reached", () => {
  const bed = testBed()
  const its = testCluster(bed)
  const connector = (...steps) => daemon("connector", its.image, "catch", ...steps)
  let admin
  let token

  /** Writes a kubeconfig of the test cluster as `user`; `edit` may change it. */
  function kubeconfig(name, user, edit = () => {}) {
    const [{ cluster }] = admin.clusters
    const config = {
      apiVersion: "v1",
      kind: "Config",
      "current-context": "test",
      clusters: [{ name: "test", cluster: { ...cluster } }],
      users: [{ name: "me", user }],
      contexts: [{ name: "test", context: { cluster: "test", user: "me", namespace: its.namespace } }],
    }
    edit(config)
    const file = path.join(bed.folder, name)
    fs.writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
    return file
  }
  /** The options of a call with just this kubeconfig; the namespace is its own. */
  const by = (file, more) => ({ platform: "kubernetes", kubernetes: { kubeconfig: file, ...more } })
  /** Asks for something that is not there, which only somebody who was let in is told. */
  const asked = (options) => failure(alien.connect({ ...options, name: "nothing" }))
  const LET_IN = { code: "DEPLOYMENT_NOT_FOUND" }
  const byCommand = (args, env) => bed.cli([...args, "-p", "kubernetes"], { env })

  beforeAll(async () => {
    admin = JSON.parse(await its.kubectl("config", "view", "--raw", "-o", "json"))
    await its.kubectl("create", "serviceaccount", "ci")
    await its.kubectl("create", "rolebinding", "ci", "--role=alien-deployer", `--serviceaccount=${its.namespace}:ci`)
    token = (await its.kubectl("create", "token", "ci")).trim()
  })
  const allow = async () => its.kubectl("apply", "-f", "-", { input: (await its.cli(["render", "--rbac"])).stdout })

  test("with the least Role, which is enough; without it each missing right is named before anything is changed", async () => {
    const options = by(kubeconfig("ci", { token }))
    const stack = (text) => stackOf("least", connector(`print=${text}`))
    const error = await failure(alien.deploy(stack("up"), options))
    expect(error.code).toBe("PREFLIGHT_FAILED")
    expect(error.message).toContain(`may not get, list, watch, create, patch, delete deployments.apps in namespace "${its.namespace}"`)
    expect(error.message).not.toContain(token)
    await allow()
    const deployment = await alien.deploy(stack("up"), options)
    await alien.deploy(stack("new"), { ...options, secrets: { connector: { T: "x" } } })
    await until(deployment, "connector", /^new$/)
    await deployment.restart("connector")
    await deployment.status()
    await deployment.destroy()
    expect(await its.objects("least")).toEqual([])
  })

  describe("from inside", () => {
    test("a pod, with its own account and the least Role: by the command, without any option but the platform", async () => {
      await allow()
      const folder = path.join(bed.folder, "inside")
      fs.mkdirSync(folder)
      const stack = path.join(folder, "alien.js")
      fs.writeFileSync(stack, `
        const alien = require("@alienplatform/core")
        const inner = new alien.Daemon("inner").code({ type: "image", image: ${JSON.stringify(its.image)} }).command(["/bin/daemon", "catch", "print=made inside"]).permissions("p").build()
        module.exports = new alien.Stack("outer").add(inner, "live").build()`)
      const { nodeImage } = await tool("node-image.mjs")
      const { serve } = await tool("registry.mjs")
      const layout = await nodeImage(path.join(folder, "image"), {
        tag: "1",
        program: stack,
        files: packageFiles("app/node_modules/@alienplatform/core/"),
        config: { Entrypoint: ["/usr/bin/node", "/app/node_modules/@alienplatform/core/js/cli.js"], Cmd: ["deploy", "-p", "kubernetes", "--file", "/app/main.js"] },
      })
      const registry = await serve({ "test/deployer": layout }, its.cluster.hostAddress)
      bed.later(registry.close)
      const image = `${registry.url.replace("http://", "")}/test/deployer:1`
      await its.put({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "deployer" },
        spec: { serviceAccountName: "ci", restartPolicy: "Never", containers: [{ name: "alien", image }] },
      })
      const { status } = await eventually(() => its.get("pod", "deployer"), ({ status }) => ["Succeeded", "Failed"].includes(status.phase), 60_000)
      const said = await its.kubectl("logs", "deployer")
      expect({ phase: status.phase, said }).toEqual({ phase: "Succeeded", said: expect.stringContaining('✓ "outer" is up.') })
      const deployment = await its.connect("outer")
      expect(await its.one(deployment, "inner")).toMatchObject({ state: "running", image: its.image })
      await until(deployment, "inner", /^made inside$/)
      await its.kubectl("delete", "pod", "deployer")
    })
  })

  describe("by a credential plugin", () => {
    /** A plugin that is this shell script; it is given the token in its environment. */
    function plugin(name, script, edit) {
      const command = path.join(bed.folder, `${name}.sh`)
      fs.writeFileSync(command, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
      const exec = { apiVersion: "client.authentication.k8s.io/v1", command, env: [{ name: "ITS_TOKEN", value: token }], interactiveMode: "Never" }
      return kubeconfig(name, { exec }, edit)
    }
    const CREDENTIAL = `echo "{\\"apiVersion\\":\\"client.authentication.k8s.io/v1\\",\\"kind\\":\\"ExecCredential\\",\\"status\\":{\\"token\\":\\"$ITS_TOKEN\\"}}"`

    test("that prints an ExecCredential", async () => {
      await allow()
      expect(await asked(by(plugin("good", CREDENTIAL)))).toMatchObject(LET_IN)
    })

    test.each([
      ["that fails", "echo 'log in first' >&2; echo $ITS_TOKEN; exit 3", /the kubeconfig's credential plugin \S*fails\.sh failed with exit status: 3: log in first$/],
      ["that prints something else", "echo \"token: $ITS_TOKEN\"", /the kubeconfig's credential plugin \S*else\.sh printed no ExecCredential$/],
      ["that gives no token", 'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}\'', /the kubeconfig's credential plugin \S*token\.sh printed no ExecCredential$/],
    ])("%s: which, and what it had to say for itself, but not what it printed", async (name, script, message) => {
      const file = plugin(name.split(" ").at(-1), script)
      for (const error of [await asked(by(file)), await failure(alien.deploy(stackOf("x", connector()), by(file)))]) {
        expect(["CREDENTIALS_UNUSABLE", "PREFLIGHT_FAILED"]).toContain(error.code)
        expect(error.message).toMatch(message)
        expect(error.hint).toEqual(expect.any(String))
        expect(JSON.stringify(error) + error.stack).not.toContain(token.slice(0, 20))
      }
    })

    test("that fails when it is asked again, because what it gave is about to expire", async () => {
      const soon = new Date(Date.now() + 1000).toISOString()
      const once = CREDENTIAL.replace('\\"token\\"', `\\"expirationTimestamp\\":\\"${soon}\\",\\"token\\"`)
      const file = plugin("again", `cd ${bed.folder} && mkdir asked 2>/dev/null && ${once} && exit; echo expired >&2; echo "$ITS_TOKEN"; exit 4`)
      const error = await asked(by(file))
      expect(error).toMatchObject({ code: "CREDENTIALS_UNUSABLE", message: "the kubeconfig's credential plugin failed with exit status: 4: expired" })
      expect(fs.existsSync(path.join(bed.folder, "asked"))).toBe(true)
      expect(JSON.stringify(error) + error.stack).not.toContain(token.slice(0, 20))
    })

    test("that is not there", async () => {
      const file = kubeconfig("absent", { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "/no/such/plugin", interactiveMode: "Never" } })
      const error = await asked(by(file))
      expect(error.code).toBe("CREDENTIALS_UNUSABLE")
      expect(error.message).toMatch(/credential plugin \/no\/such\/plugin cannot be started: No such file or directory/)
    })
  })

  test("by a client certificate in files beside the kubeconfig", async () => {
    const [{ user }] = admin.users
    for (const [field, name] of [["client-certificate-data", "me.crt"], ["client-key-data", "me.key"]]) {
      fs.writeFileSync(path.join(bed.folder, name), Buffer.from(user[field], "base64"), { mode: 0o600 })
    }
    expect(await asked(by(kubeconfig("certificate", { "client-certificate": "me.crt", "client-key": "me.key" })))).toMatchObject(LET_IN)
    const lost = await asked(by(kubeconfig("no-certificate", { "client-certificate": "no.crt", "client-key": "me.key" })))
    expect(lost.message).toContain("no.crt")
  })

  test("with a token that it does not know: says so, and never the token", async () => {
    const error = await asked(by(kubeconfig("stale", { token: "not-a-t0ken-of-this-cluster" })))
    expect(error).toMatchObject({ code: "CLUSTER_UNAUTHORIZED", httpStatusCode: 401, hint: expect.stringContaining("log in again") })
    expect(JSON.stringify(error)).not.toContain("t0ken")
  })

  test("without looking at its certificate: with a warning; one that does not fit is refused", async () => {
    await allow()
    const reports = []
    const onEvent = (event) => event.type === "preflight" && reports.push(event.report)
    const insecure = kubeconfig("insecure", { token }, ({ clusters: [{ cluster }] }) => {
      delete cluster["certificate-authority-data"]
      cluster["insecure-skip-tls-verify"] = true
    })
    await alien.plan(stackOf("x", connector()), { ...by(insecure), onEvent })
    const access = reports[0].checks.find(({ id }) => id === "kubernetes-access")
    expect(access).toMatchObject({ status: "warning", issues: [{ message: expect.stringMatching(/^the certificate of https:.* is not checked \(insecure-skip-tls-verify\)/) }] })
    const planned = await byCommand(["plan", "--kubeconfig", insecure, "--file", stackFile()])
    expect(planned).toMatchObject({ code: 0, stderr: expect.stringContaining("is not checked (insecure-skip-tls-verify)") })

    const strict = kubeconfig("strict", { token }, ({ clusters: [{ cluster }] }) => delete cluster["certificate-authority-data"])
    const error = await asked(by(strict))
    expect(error.code).toBe("CLUSTER_UNREACHABLE")
    expect(error.message).toMatch(/certificate/)
  })

  const stackFile = () => {
    const file = path.join(bed.folder, "plain.js")
    fs.writeFileSync(file, `
      const alien = require("@alienplatform/core")
      const d = new alien.Daemon("d").code({ type: "image", image: "ghcr.io/a/b:1" }).permissions("p").build()
      module.exports = new alien.Stack("plain").add(d, "live").build()`)
    return file
  }

  test("by several files in KUBECONFIG, of which the first one to say something wins", async () => {
    await allow()
    const part = (name, keep) =>
      kubeconfig(name, { token }, (config) => {
        for (const key of ["current-context", "clusters", "users", "contexts"]) if (!keep.includes(key)) delete config[key]
      })
    const files = [path.join(bed.folder, "is-not-there"), part("contexts", ["contexts", "current-context"]), part("users", ["users"]), part("clusters", ["clusters"])]
    const wrong = kubeconfig("wrong", { token: "wrong" }, (config) => (config["current-context"] = "nowhere"))
    const env = { KUBECONFIG: [...files, wrong].join(":") }
    expect(await byCommand(["status", "-n", "nothing"], env)).toMatchObject({ code: 1, stderr: expect.stringContaining(`there is no deployment "nothing" in namespace "${its.namespace}"`) })
    expect(await byCommand(["status", "-n", "nothing"], { KUBECONFIG: [wrong, ...files].join(":") })).toMatchObject({ code: 1, stderr: expect.stringContaining('has no context "nowhere"') })
  })

  describe("through an HTTP proxy", () => {
    let proxy
    let url
    const connects = []

    beforeAll(async () => {
      proxy = http.createServer()
      proxy.on("connect", (request, socket, head) => {
        connects.push({ to: request.url, as: request.headers["proxy-authorization"] })
        const [, host, port] = request.url.match(/^(.*):(\d+)$/)
        const onwards = net.connect(Number(port), host, () => {
          socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
          onwards.write(head)
          socket.pipe(onwards).pipe(socket)
        })
        const close = () => (onwards.destroy(), socket.destroy())
        for (const one of [onwards, socket]) one.on("error", close).on("close", close)
      })
      await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve))
      url = `http://127.0.0.1:${proxy.address().port}`
      bed.later(() => new Promise((resolve) => (proxy.close(resolve), proxy.closeAllConnections())))
      await allow()
    })
    beforeEach(() => connects.splice(0))
    const server = () => new URL(admin.clusters[0].cluster.server)
    const status = (file, env) => byCommand(["status", "-n", "nothing", "--kubeconfig", file], env)
    const letIn = { code: 1, stderr: expect.stringContaining('there is no deployment "nothing"') }

    test("of HTTPS_PROXY, but not to whom NO_PROXY excepts", async () => {
      const file = kubeconfig("plain", { token })
      expect(await status(file, { HTTPS_PROXY: url })).toMatchObject(letIn)
      expect(connects.length).toBeGreaterThan(0)
      expect(new Set(connects.map(({ to }) => to))).toEqual(new Set([server().host]))
      connects.splice(0)
      for (const NO_PROXY of [server().hostname, "127.0.0.0/8,198.18.0.0/15", "*"]) {
        expect(await status(file, { HTTPS_PROXY: url, NO_PROXY })).toMatchObject(letIn)
      }
      expect(connects).toEqual([])
    })

    test("of the kubeconfig, which goes before, with its own password, which is never shown", async () => {
      const file = kubeconfig("proxied", { token }, ({ clusters: [{ cluster }] }) => (cluster["proxy-url"] = url.replace("//", "//me:pr0xy-word@")))
      expect(await status(file, { HTTPS_PROXY: "http://127.0.0.1:9", NO_PROXY: "*" })).toMatchObject(letIn)
      expect(connects[0]).toEqual({ to: server().host, as: `Basic ${Buffer.from("me:pr0xy-word").toString("base64")}` })
      const away = kubeconfig("away", { token }, ({ clusters: [{ cluster }] }) => (cluster["proxy-url"] = "http://me:pr0xy-word@127.0.0.1:9"))
      const error = await asked(by(away))
      expect(error.code).toBe("CLUSTER_UNREACHABLE")
      expect(JSON.stringify(error) + error.stack).not.toContain("pr0xy-word")
    })

    test("all the way: a deploy, its log and exec", async () => {
      const file = kubeconfig("whole", admin.users[0].user, ({ clusters: [{ cluster }] }) => (cluster["proxy-url"] = url))
      const deployment = await alien.deploy(stackOf("proxied", connector("print=through")), by(file))
      await until(deployment, "connector", /^through$/)
      const { code } = await deployment.exec("connector", ["/bin/daemon", "exit=3"])
      expect(code).toBe(3)
      await deployment.destroy()
      expect(connects.length).toBeGreaterThan(1)
    })
  })

  describe("and where there is no way", () => {
    test.each([
      ["a context that is not there", (its) => ({ kubeconfig: its.cluster.kubeconfig, context: "nowhere" }), /has no context "nowhere"/],
      ["a file that is not there", () => ({ kubeconfig: "/nowhere/config" }), /no kubeconfig says which cluster to use: there is no \/nowhere\/config/],
    ])("%s is said", async (_, kubernetes, message) => {
      const error = await failure(its.deploy(stackOf("lost", connector()), { kubernetes: kubernetes(its) }))
      expect(error.message).toMatch(message)
    })

    test("a namespace is made only where that was asked for, and stays", async () => {
      const namespace = `${its.namespace}-made`
      const stack = stackOf("first", connector())
      const error = await failure(its.deploy(stack, { kubernetes: { namespace } }))
      expect(error).toMatchObject({ code: "NAMESPACE_NOT_FOUND", httpStatusCode: 404, hint: expect.stringContaining("--create-namespace") })
      expect(error.message).toContain(`namespaces "${namespace}" not found`)
      expect((await its.run(["get", "namespace", namespace])).code).toBe(1)
      const deployment = await its.deploy(stack, { kubernetes: { namespace, createNamespace: true } })
      expect(await its.one(deployment, "connector")).toMatchObject({ state: "running" })
      await its.deploy(stack, { kubernetes: { namespace } })
      await deployment.destroy()
      expect((await its.get("namespace", namespace)).status.phase).toBe("Active")
      await its.kubectl("delete", "namespace", namespace)
    })
  })

  test("two deploys of one name: one waits and says so", async () => {
    const waited = []
    const one = (text) => its.deploy(stackOf("twice", connector(`print=${text}`)), { onEvent: (event) => event.type === "waiting" && waited.push(event.message) })
    const [deployment] = await Promise.all([one("a"), one("a")])
    expect(waited).toEqual([expect.stringMatching(/^another deploy of "twice" is under way \(.* process \d+ .*\); waiting for it$/)])
    expect((await its.objects("twice")).filter((name) => name.startsWith("Pod/"))).toHaveLength(1)
    await deployment.destroy()
  })
})

/** The package as it is installed, and what its command needs to read a stack file, as files of an image below `into`. */
function packageFiles(into) {
  const below = (dir) => fs.readdirSync(path.join(root, dir), { recursive: true }).map((name) => path.join(dir, String(name))).filter((name) => fs.statSync(path.join(root, name)).isFile())
  const names = ["package.json", "index.js", "alien.linux-x64-gnu.node", "alien-supervisor", ...below("js"), ...below("node_modules/jiti")]
  return names.map((name) => ({ path: `${into}${name}`, from: path.join(root, name), mode: 0o755 }))
}
