"use strict"

// Where a cluster gets its images: a registry that lets only some in, and one in the place of another.

const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { daemon, failure, needs, root, stackOf, testBed, tool, until } = require("./lib/bed.js")
const { missing, testCluster } = require("./lib/cluster.js")
const registries = require("./lib/registry.js")

jest.setTimeout(120_000)

needs(missing() ?? registries.missing()).describe("a cluster pulls", () => {
  const bed = testBed()
  const its = testCluster(bed)
  let registry

  beforeAll(async () => {
    registry = await registries.startRegistry(bed, { address: its.cluster.hostAddress, username: "ann", password: "first-word" })
    // Different images, so that what the node has of one does not stand for another.
    for (const tag of ["1", "2", "3"]) registry.push(await bed.image({ config: { Labels: { tag } } }), `team/app:${tag}`)
  })

  const stack = (id, reference) => stackOf(id, daemon("d", reference, "catch", "print=pulled"))
  const own = (tag) => `${registry.host}/team/app:${tag}`
  const given = () => ({ registries: { [registry.host]: { username: "ann", password: registry.password } } })
  const pullSecret = async (name) => {
    const { type, data } = await its.get("secret", `${name}-d-pull`)
    return { type, ...JSON.parse(Buffer.from(data[".dockerconfigjson"], "base64")) }
  }
  const auths = () => ({ [registry.host]: { username: "ann", password: registry.password, auth: Buffer.from(`ann:${registry.password}`).toString("base64") } })
  const pullSecrets = async (name) => (await its.get("deployment", `${name}-d`)).spec.template.spec.imagePullSecrets

  describe("from a registry with users", () => {
    test("nothing without credentials, and says what to do", async () => {
      const error = await failure(its.deploy(stack("nobody", own("1"))))
      expect(error).toMatchObject({ code: "DAEMON_NOT_UP", context: { reason: expect.stringMatching(/^(ErrImagePull|ImagePullBackOff)$/) }, hint: expect.stringContaining("--docker-config") })
      expect(error.message).toMatch(/^daemon "d" does not come up: (ErrImagePull|ImagePullBackOff): .*(authorization failed|no basic auth credentials|401 Unauthorized)/s)
    })

    test("with those of the options: the Secret is made, used, kept up to date and pruned, and shown nowhere", async () => {
      const told = []
      const onEvent = (event) => told.push(event)
      const deployment = await its.deploy(stack("given", own("1")), { kubernetes: given(), onEvent })
      await until(deployment, "d", /^pulled$/)
      expect(await pullSecret("given")).toEqual({ type: "kubernetes.io/dockerconfigjson", auths: auths() })
      expect(await pullSecrets("given")).toEqual([{ name: "given-d-pull" }])
      const { pod } = await its.one(deployment, "d")
      expect((await alien.plan(stack("given", own("1")), its.options({ kubernetes: given() }))).changes).toMatchObject([{ action: "none" }])

      registry.setPassword("second-word")
      const plan = await alien.plan(stack("given", own("1")), its.options({ kubernetes: given() }))
      expect(plan.changes[0].action).toBe("update")
      await its.deploy(stack("given", own("1")), { kubernetes: given(), onEvent })
      expect(await pullSecret("given")).toEqual({ type: "kubernetes.io/dockerconfigjson", auths: auths() })
      // What runs has been pulled already.
      expect(await its.one(deployment, "d")).toMatchObject({ state: "running", pod })
      await its.deploy(stack("given", own("2")), { kubernetes: given(), onEvent })
      expect(await its.one(deployment, "d")).toMatchObject({ state: "running", image: own("2") })

      await its.deploy(stack("given", own("2")), { onEvent })
      expect(await pullSecrets("given")).toBeUndefined()
      expect((await its.objects("given")).filter((name) => name.startsWith("Secret/"))).toEqual([])
      expect(JSON.stringify([told, plan, await deployment.status()])).not.toMatch(/(first|second)-word/)
      expect(JSON.stringify([told, plan])).not.toContain(Buffer.from(`ann:${registry.password}`).toString("base64").slice(0, 16))
    })

    test("with those of a Docker configuration, by the command", async () => {
      const dockerConfig = registry.dockerConfig()
      const file = path.join(bed.folder, "alien.js")
      fs.writeFileSync(file, `
        const alien = require("@alienplatform/core")
        const d = new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(own("3"))} }).command(["/bin/daemon", "catch"]).permissions("p").build()
        module.exports = new alien.Stack("file").add(d, "live").build()`)
      const deployed = await its.cli(["deploy", "--file", file, "--docker-config", dockerConfig])
      expect(deployed).toMatchObject({ code: 0, stderr: expect.stringContaining('✓ "file" is up.') })
      expect(deployed.stderr).not.toContain(registry.password)
      expect(await pullSecret("file")).toMatchObject({ auths: auths() })
    })
  })

  describe("from one registry in the place of another", () => {
    test("with the credentials for the one that it is", async () => {
      const kubernetes = { registries: { "ghcr.io": { host: registry.host } }, dockerConfig: registry.dockerConfig() }
      const deployment = await its.deploy(stack("moved", "ghcr.io/team/app:3"), { kubernetes })
      expect(await its.one(deployment, "d")).toMatchObject({ state: "running", image: own("3") })
      expect(await pullSecret("moved")).toMatchObject({ auths: auths() })
    })

    test("the quick start, unchanged, by the command", async () => {
      const { nodeImage, receiverFiles } = await tool("node-image.mjs")
      const { serve } = await tool("registry.mjs")
      const example = path.join(root, "examples/quickstart")
      const layout = await nodeImage(path.join(bed.folder, "connector"), { tag: "2026-05-17", program: path.join(example, "connector.js"), files: receiverFiles() })
      const corp = await serve({ "acme/connector": layout }, its.cluster.hostAddress)
      bed.later(corp.close)
      // It is as large as Node is.
      const run = (...args) => its.cli(args, { cwd: example, deadline: 60_000 })
      const registry = ["--registry", `ghcr.io=${corp.url.replace("http://", "")}`]
      expect(await run("preflight")).toMatchObject({ code: 0 })
      expect(await run("deploy", ...registry)).toMatchObject({ code: 0, stdout: "", stderr: expect.stringContaining('✓ "edge" is up.') })
      const deployment = await its.connect("edge")
      const lines = await until(deployment, "connector", /^synced batch 1$/)
      expect(lines[0]).toMatch(/^connector v\d+.* started on edge-connector-.*, log level info$/)
      expect(await run("deploy", ...registry)).toMatchObject({ code: 0, stderr: expect.stringMatching(/^No changes: "edge" is as the stack says\.$/m) })
      expect(await run("status")).toMatchObject({ code: 0, stdout: expect.stringMatching(/connector.*running/s) })
      expect(await run("destroy")).toMatchObject({ code: 0 })
      expect(await its.objects("edge")).toEqual([])
    })
  })
})
